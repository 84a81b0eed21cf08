#include "sim/sim_net.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "sim/sim_stream.h"

namespace hf::sim {

void SimNet::set_blocked(const std::string& from, const std::string& to, bool blocked) {
  link(from, to).blocked = blocked;
  loop_.record(blocked ? "net_block" : "net_unblock");
}

void SimNet::partition(const std::string& a, const std::string& b) {
  set_blocked(a, b, true);
  set_blocked(b, a, true);
}

void SimNet::heal_all() {
  for (auto& [ends, link] : links_) link.blocked = false;
  loop_.record("net_heal");
}

void SimNet::reset_streams(const std::string& a, const std::string& b) {
  for (auto& [number, connection] : connections_) {
    const std::string &x = connection->host(0), &y = connection->host(1);
    if (!((x == a && y == b) || (x == b && y == a))) continue;
    connection->reset(0);
    connection->reset(1);
  }
}

void SimNet::set_up(const std::string& host, bool up) {
  if (up) {
    down_.erase(host);
  } else {
    down_.insert(host);
  }
}

bool SimNet::is_blocked(const std::string& from, const std::string& to) const {
  auto it = links_.find({from, to});
  return it != links_.end() && it->second.blocked;
}

SimTime SimNet::arrival(const std::string& from, const std::string& to, uint64_t bytes) {
  static const Link kLocal{false, 5us, 10us, 100};
  auto it = links_.find({from, to});
  static const Link kUsual;
  const Link& link = it != links_.end() ? it->second : from == to ? kLocal : kUsual;
  const auto jitter = static_cast<uint64_t>(link.jitter.count());
  return loop_.now() + link.delay.count() + static_cast<SimTime>(prng_.below(jitter + 1)) +
         static_cast<SimTime>(bytes * link.ns_per_kib / 1024);
}

Result<SimNet::Target> SimNet::resolve(const std::string& address, const std::string& self) const {
  Target target;
  if (address.starts_with("unix:/")) {
    target.host = self;
    target.port = address;
    target.loopback = true;
    return target;
  }
  const size_t colon = address.rfind(':');
  const char* end = address.data() + address.size();
  unsigned port = 0;
  if (!address.starts_with("tcp:") || colon < 5) {
    return make_error(ErrorCode::kInvalidArgument, "\"{}\" is no address", address);
  }
  const auto parsed = std::from_chars(address.data() + colon + 1, end, port);
  if (parsed.ec != std::errc() || parsed.ptr != end || port > 65535) {
    return make_error(ErrorCode::kInvalidArgument, "\"{}\" has no valid port", address);
  }
  const std::string ip = address.substr(4, colon - 4);
  target.port = fmt::format("tcp:{}", port);
  target.loopback = ip == "127.0.0.1" || ip == "[::1]" || ip == "localhost";
  if (target.loopback || ip == "0.0.0.0" || ip == "[::]") {
    target.host = self;
  } else if (auto it = ips_.find(ip); it != ips_.end()) {
    target.host = it->second;
  }
  return target;
}

Task<Result<std::unique_ptr<Listener>>> SimNetwork::listen(std::string address,
                                                           ListenOptions options) {
  if (life_.is_dead()) co_return dead_error("listen");
  Result<SimNet::Target> target = net_.resolve(address, host_);
  HF_CO_TRY(target);
  if (target->host != host_) {
    co_return make_error(ErrorCode::kInvalidArgument, "listen on {}: not an address of this host",
                         address);
  }
  Delay delay(life_, net_.loop().now() + 10'000);
  bool came = co_await delay;
  if (!came) co_return dead_error("listen");
  std::string name = address;
  if (target->port == "tcp:0") {
    unsigned port = 32768;
    while (net_.listeners().contains({host_, fmt::format("tcp:{}", port)})) ++port;
    target->port = fmt::format("tcp:{}", port);
    name = address.substr(0, address.rfind(':') + 1) + std::to_string(port);
  }
  if (net_.listeners().contains({host_, target->port})) {
    co_return make_error(ErrorCode::kInUse, "listen on {}: another process listens there", address);
  }
  co_return std::unique_ptr<Listener>(
      std::make_unique<SimListener>(life_, net_, *target, name, options.backlog));
}

Task<Result<std::unique_ptr<Stream>>> SimNetwork::connect(std::string address, Duration timeout) {
  if (life_.is_dead()) co_return dead_error("connect");
  Result<SimNet::Target> target = net_.resolve(address, host_);
  HF_CO_TRY(target);
  const SimTime give_up = net_.loop().now() + timeout.count();
  // There: the listener's host must hear us, and we its answer.
  Delay there(life_, std::min(give_up, net_.arrival(host_, target->host, 64)));
  bool came = co_await there;
  if (!came) co_return dead_error("connect");
  bool heard = !target->host.empty() && net_.is_up(target->host) &&
               !net_.is_blocked(host_, target->host) && !net_.is_blocked(target->host, host_) &&
               net_.loop().now() < give_up;
  SimListener* listener = nullptr;
  if (heard) {
    auto it = net_.listeners().find({target->host, target->port});
    const bool reachable =
        it != net_.listeners().end() && (target->host == host_ || !it->second->is_loopback());
    if (reachable) listener = it->second;
    if (listener != nullptr && listener->is_full()) heard = false;
  }
  std::shared_ptr<Connection> connection;
  if (heard && listener != nullptr) {
    connection = std::make_shared<Connection>(net_, host_, target->host);
    const std::string from = fmt::format("sim:{}#{}", host_, connection->number());
    listener->offer(std::make_unique<SimStream>(listener->life(), connection, 1, from));
  }
  std::unique_ptr<SimStream> stream;
  if (connection) stream = std::make_unique<SimStream>(life_, connection, 0, address);
  const SimTime answer = heard ? net_.arrival(target->host, host_, 64) : give_up;
  Delay back(life_, std::min(give_up, answer));
  came = co_await back;
  if (!came) co_return dead_error("connect");
  net_.loop().record("connect", heard, listener != nullptr);
  if (!heard || answer > give_up) {
    co_return make_error(ErrorCode::kTimeout, "connect to {}: no answer within {} ms", address,
                         timeout.count() / 1'000'000);
  }
  if (!stream) co_return Error::from_errno(ECONNREFUSED, "connect to " + address);
  co_return std::unique_ptr<Stream>(std::move(stream));
}

}  // namespace hf::sim
