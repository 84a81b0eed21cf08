#include "block/nbd/nbd_server.h"

#include "base/log.h"
#include "runtime/net.h"

namespace hf::nbd {
namespace {

constexpr Duration kAcceptRetry =
    100ms;  // after an accept failed, for want of descriptors for example

}  // namespace

struct NbdServer::Connection : ListHook {
  explicit Connection(std::unique_ptr<Stream> s) : stream(std::move(s)) {}
  std::unique_ptr<Stream> stream;
  std::shared_ptr<Export> used;          // once an export was chosen
  Transmission* transmission = nullptr;  // while in the second phase
  Gate timers;                           // deadlines that may still look at the stream
};

// --- exports
// --------------------------------------------------------------------------------------

std::optional<ExportFacts> NbdServer::Catalogue::find(std::string_view name) const {
  auto at = server_.exports_.find(name);
  if (name.empty() && server_.exports_.size() == 1) at = server_.exports_.begin();
  if (at == server_.exports_.end()) return std::nullopt;
  const NbdExport& item = at->second->item;
  ExportFacts facts;
  facts.name = item.name;
  facts.description = item.description;
  facts.size = item.device->size();
  facts.read_only = item.read_only;
  return facts;
}

void NbdServer::Catalogue::for_each(const std::function<void(const ExportFacts&)>& visit) const {
  for (const auto& [name, item] : server_.exports_) visit(*find(name));
}

NbdServer::NbdServer(World& world, NbdServerOptions options)
    : world_(world), options_(options), catalogue_(*this) {}

NbdServer::~NbdServer() {
  HF_ASSERT(listeners_.empty() && open_ == 0, "stop the NBD server before destroying it");
}

Status NbdServer::add_export(NbdExport item) {
  HF_ASSERT(item.device != nullptr);
  if (item.name.empty() || !is_valid_text(as_bytes(item.name))) {
    return make_error(ErrorCode::kInvalidArgument,
                      "NBD export name \"{}\": 1 to {} bytes without NUL are allowed",
                      printable(item.name), kStringMax);
  }
  if (exports_.contains(item.name)) {
    return make_error(ErrorCode::kAlreadyExists, "NBD export \"{}\" exists already", item.name);
  }
  if (item.description.size() > kStringMax) item.description.resize(kStringMax);
  auto made = std::make_shared<Export>();
  made->bytes = byte_granular(item.device);
  made->item = std::move(item);
  exports_.emplace(made->item.name, std::move(made));
  return Status();
}

Task<Status> NbdServer::remove_export(std::string name) {
  const auto at = exports_.find(name);
  if (at == exports_.end()) {
    co_return make_error(ErrorCode::kNotFound, "there is no NBD export \"{}\"", name);
  }
  const std::shared_ptr<Export> gone = at->second;
  exports_.erase(at);
  drain_where([&](const Connection& connection) { return connection.used == gone; });
  co_await gone->users.close();
  co_return Status();
}

// --- listening
// ------------------------------------------------------------------------------------

Task<Status> NbdServer::listen(std::string address, ListenOptions options) {
  if (stopping_.is_cancelled()) {
    co_return make_error(ErrorCode::kClosed, "listen on {}: the NBD server was stopped", address);
  }
  Result<std::unique_ptr<Listener>> listener = co_await world_.net.listen(address, options);
  HF_CO_TRY(listener);
  if (stopping_.is_cancelled()) {
    (*listener)->close();
    co_return make_error(ErrorCode::kClosed, "listen on {}: the NBD server was stopped", address);
  }
  listeners_.push_back(std::move(*listener));
  HF_LOG(kInfo, "block", "nbd_listening address={}", listeners_.back()->address());
  const bool spawned = spawn(gate_, accept_loop(*listeners_.back()));
  HF_ASSERT(spawned);
  co_return Status();
}

std::vector<std::string> NbdServer::addresses() const {
  std::vector<std::string> found;
  for (const auto& listener : listeners_) found.push_back(listener->address());
  return found;
}

Task<void> NbdServer::accept_loop(Listener& listener) {
  while (!stopping_.is_cancelled()) {
    Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
    if (!stream.ok()) {
      if (stream.code() == ErrorCode::kClosed || stream.code() == ErrorCode::kCancelled) co_return;
      HF_LOG(kWarn, "block", "nbd_accept_failed address={} error=\"{}\"", listener.address(),
             stream.error().to_string());
      Status waited = co_await world_.clock.sleep_for(kAcceptRetry, stopping_);
      if (!waited.ok()) co_return;
      continue;
    }
    if (open_ >= options_.connections_max) {
      ++counts_.refused;
      HF_LOG(kWarn, "block",
             "nbd_refused peer={} reason=\"{} connections are open, the most allowed\"",
             (*stream)->peer(), open_);
      (*stream)->close();
      continue;
    }
    spawn(gate_, serve(std::move(*stream)));
  }
}

Task<void> NbdServer::stop() {
  stopping_.cancel();
  for (const auto& listener : listeners_) listener->close();
  drain_where([](const Connection&) { return true; });
  co_await gate_.close();
  listeners_.clear();
}

// --- one connection
// -------------------------------------------------------------------------------

Task<void> NbdServer::serve(std::unique_ptr<Stream> stream) {
  Connection connection(std::move(stream));
  connections_.push_back(connection);
  ++open_;
  ++counts_.connections;
  if (stopping_.is_cancelled()) connection.stream->close();
  Status ended = co_await converse(connection);
  connection.stream->close();
  log_end(connection, ended);
  co_await connection.timers.close();
  connection.unlink();
  --open_;
}

void NbdServer::log_end(const Connection& connection, const Status& ended) {
  const std::string name = connection.used ? printable(connection.used->item.name) : std::string();
  const std::string& peer = connection.stream->peer();
  if (ended.ok() || ended.code() == ErrorCode::kCancelled) {
    HF_LOG(kDebug, "block", "nbd_closed peer={} export=\"{}\"", peer, name);
  } else if (ended.code() == ErrorCode::kProtocol) {
    ++counts_.protocol_errors;
    HF_LOG(kWarn, "block", "nbd_closed_broken_client peer={} export=\"{}\" error=\"{}\"", peer,
           name, ended.error().to_string());
  } else {
    HF_LOG(kInfo, "block", "nbd_lost peer={} export=\"{}\" error=\"{}\"", peer, name,
           ended.error().to_string());
  }
}

Task<Status> NbdServer::converse(Connection& connection) {
  Negotiation negotiation(catalogue_);
  bool chosen = false;
  CancelSource in_time;
  spawn(connection.timers, close_after(*connection.stream, options_.handshake_timeout, in_time));
  Status agreed = co_await handshake(connection, negotiation, &chosen);
  in_time.cancel();
  // The timer looks at in_time until it has ended.
  co_await connection.timers.wait_empty();
  HF_CO_TRY(agreed);
  if (!chosen) co_return Status();
  co_return co_await transmit(connection, negotiation);
}

Task<void> NbdServer::close_after(Stream& stream, Duration timeout, CancelToken cancel) {
  Status slept = co_await world_.clock.sleep_for(timeout, cancel);
  if (slept.ok()) stream.close();
}

Task<Status> NbdServer::handshake(Connection& connection, Negotiation& negotiation,
                                  bool* transmit) {
  Stream& stream = *connection.stream;
  std::vector<std::byte> out;
  append_greeting(&out);
  Status sent = co_await stream.write_bytes(out);
  HF_CO_TRY(sent);
  std::array<std::byte, kOptionHeaderBytes> head;
  Status got = co_await stream.read_exact(MutableByteSpan(head).first(kClientFlagsBytes));
  HF_CO_TRY(got);
  uint32_t flags = 0;
  std::memcpy(&flags, head.data(), sizeof flags);
  const Status fine = negotiation.client_flags(__builtin_bswap32(flags));
  HF_CO_TRY(fine);
  std::vector<std::byte> data;
  while (true) {
    got = co_await stream.read_exact(head);
    HF_CO_TRY(got);
    const Result<OptionHeader> header = decode_option_header(head);
    HF_CO_TRY(header);
    data.resize(header->length);
    if (!data.empty()) got = co_await stream.read_exact(data);
    HF_CO_TRY(got);
    out.clear();
    const Result<Negotiation::Step> step = negotiation.option(header->option, data, &out);
    HF_CO_TRY(step);
    if (*step == Negotiation::Step::kTransmit) {
      // Found without a pause since: the catalogue named it a moment ago.
      const std::shared_ptr<Export> chosen = exports_.find(negotiation.export_name())->second;
      const bool entered = chosen->users.try_enter();
      HF_ASSERT(entered);
      connection.used = chosen;
    }
    if (!out.empty()) sent = co_await stream.write_bytes(out);
    if (!sent.ok() && connection.used) connection.used->users.leave();
    HF_CO_TRY(sent);
    if (*step == Negotiation::Step::kEnd) co_return Status();
    if (*step == Negotiation::Step::kTransmit) {
      *transmit = true;
      co_return Status();
    }
  }
}

Task<Status> NbdServer::transmit(Connection& connection, const Negotiation& negotiation) {
  TransmissionOptions options;
  options.read_only = connection.used->item.read_only;
  options.structured = negotiation.structured();
  options.allocation = negotiation.allocation();
  Transmission transmission(*connection.stream, connection.used->bytes, buffers_, options);
  connection.transmission = &transmission;
  HF_LOG(kDebug, "block", "nbd_open peer={} export=\"{}\"", connection.stream->peer(),
         connection.used->item.name);
  Status ended = co_await transmission.run();
  connection.transmission = nullptr;
  const TransmissionCounts& counts = transmission.counts();
  counts_.transmission.requests += counts.requests;
  counts_.transmission.failed += counts.failed;
  counts_.transmission.bytes_read += counts.bytes_read;
  counts_.transmission.bytes_written += counts.bytes_written;
  connection.used->users.leave();
  co_return ended;
}

void NbdServer::drain_where(const std::function<bool(const Connection&)>& chosen) {
  connections_.for_each([&](Connection& connection) {
    if (!chosen(connection)) return;
    if (connection.transmission == nullptr) {
      connection.stream->close();  // still in the handshake
    } else {
      spawn(connection.timers, drain(connection));
    }
  });
}

Task<void> NbdServer::drain(Connection& connection) {
  Gate timer;
  CancelSource in_time;
  spawn(timer, close_after(*connection.stream, options_.drain_timeout, in_time));
  co_await connection.transmission->drain();
  in_time.cancel();
  co_await timer.close();
}

}  // namespace hf::nbd
