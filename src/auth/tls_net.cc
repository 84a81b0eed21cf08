#include <deque>

#include "auth/tls.h"
#include "base/log.h"

namespace hf::auth {
namespace {

constexpr Duration kLogPause = 1s;  // who knocks without end shall not fill the log

// Shared by the listener and by what it has running.
struct Door {
  Door(TlsEndpoint& e, std::unique_ptr<Listener> l) : endpoint(e), inner(std::move(l)) {}
  TlsEndpoint& endpoint;
  std::unique_ptr<Listener> inner;
  Semaphore room{kMaxHandshakes};
  std::deque<Result<std::unique_ptr<Stream>>> arrived;  // each has a unit of `room`
  Signal changed;
  bool closed = false;
  bool over = false;  // nothing is accepted below any more
  MonoTime log_again;
  uint64_t unlogged = 0;

  void close() {
    if (std::exchange(closed, true)) return;
    inner->close();
    arrived.clear();
    room.release(1);  // in case the pump waits for it
    changed.notify_all();
  }
  void log(const std::string& peer, const Error& why) {
    if (endpoint.clock().now() < log_again) {
      ++unlogged;
      return;
    }
    HF_LOG(kWarn, "auth", "tls_refused peer={} unlogged={} error=\"{}\"", peer, unlogged,
           why.to_string());
    unlogged = 0;
    log_again = endpoint.clock().now() + kLogPause;
  }
};

Task<void> admit(std::shared_ptr<Door> door, std::unique_ptr<Stream> stream) {
  const std::string peer = stream->peer();
  Result<std::unique_ptr<TlsStream>> tls =
      co_await door->endpoint.accept(std::move(stream), kHandshakeTime);
  if (!tls.ok() && !door->closed) door->log(peer, tls.error());
  if (!tls.ok() || door->closed) {
    door->room.release(1);
    co_return;
  }
  std::unique_ptr<Stream> plain = std::move(*tls);
  door->arrived.emplace_back(std::move(plain));
  door->changed.notify_all();
}

Task<void> pump(std::shared_ptr<Door> door) {
  while (!door->closed) {
    co_await door->room.acquire(1);
    Result<std::unique_ptr<Stream>> stream = co_await door->inner->accept();
    if (door->closed) break;
    if (!stream.ok()) {
      const bool end =
          stream.code() == ErrorCode::kClosed || stream.code() == ErrorCode::kCancelled;
      door->arrived.emplace_back(std::move(stream));
      door->changed.notify_all();
      if (end) break;
      continue;
    }
    std::unique_ptr<Stream> accepted = std::move(*stream);
    if (!spawn(door->endpoint.gate(), admit(door, std::move(accepted)))) break;
  }
  door->over = true;
  door->changed.notify_all();
}

class TlsListener final : public Listener {
 public:
  explicit TlsListener(std::shared_ptr<Door> door)
      : door_(std::move(door)), address_(door_->inner->address()) {}
  ~TlsListener() override { close(); }

  Task<Result<std::unique_ptr<Stream>>> accept() override {
    while (door_->arrived.empty()) {
      if (door_->over) co_return make_error(ErrorCode::kClosed, "listener {} is closed", address_);
      co_await door_->changed.wait();
    }
    Result<std::unique_ptr<Stream>> next = std::move(door_->arrived.front());
    door_->arrived.pop_front();
    door_->room.release(1);
    co_return next;
  }
  void close() override { door_->close(); }
  const std::string& address() const override { return address_; }

 private:
  const std::shared_ptr<Door> door_;
  const std::string address_;
};

}  // namespace

Task<Result<std::unique_ptr<Listener>>> TlsNetwork::listen(std::string address,
                                                           ListenOptions options) {
  Result<std::unique_ptr<Listener>> inner = co_await inner_.listen(std::move(address), options);
  HF_CO_TRY(inner);
  auto door = std::make_shared<Door>(endpoint_, std::move(*inner));
  std::unique_ptr<Listener> listener = std::make_unique<TlsListener>(door);
  if (!spawn(endpoint_.gate(), pump(door))) {
    co_return make_error(ErrorCode::kClosed, "TLS of this node is shutting down");
  }
  co_return std::move(listener);
}

Task<Result<std::unique_ptr<Stream>>> TlsNetwork::connect_any(std::optional<NodeId> node,
                                                              std::string address,
                                                              Duration timeout) {
  const MonoTime until = endpoint_.clock().now() + timeout;
  Result<std::unique_ptr<Stream>> inner = co_await inner_.connect(std::move(address), timeout);
  HF_CO_TRY(inner);
  std::unique_ptr<Stream> connected = std::move(*inner);
  Result<std::unique_ptr<TlsStream>> tls =
      co_await endpoint_.connect(std::move(connected), node, until - endpoint_.clock().now());
  HF_CO_TRY(tls);
  std::unique_ptr<Stream> stream = std::move(*tls);
  co_return std::move(stream);
}

Task<Result<std::unique_ptr<Stream>>> TlsNetwork::connect(std::string address, Duration timeout) {
  return connect_any(std::nullopt, std::move(address), timeout);
}

Task<Result<std::unique_ptr<Stream>>> TlsNetwork::connect_to(NodeId node, std::string address,
                                                             Duration timeout) {
  return connect_any(node, std::move(address), timeout);
}

}  // namespace hf::auth
