#include "block/nbd/nbd_server.h"

#include "base/log.h"
#include "runtime/net.h"

namespace hf::nbd {

struct NbdServer::Connection : ListHook {
  explicit Connection(std::unique_ptr<Stream> s) : stream(std::move(s)) {}
  std::unique_ptr<Stream> stream;
  std::optional<OpenExport> used;        // once an export was entered
  Transmission* transmission = nullptr;  // while in the second phase
  Gate timers;                           // deadlines that may still look at the stream
  uint64_t progress = 0;                 // of the transmission, when it was last looked at
  uint32_t stalls = 0;                   // looks since without any
};

// What the exports said of the option at hand: Negotiation decides on that.
class NbdServer::Asked final : public ExportCatalogue {
 public:
  void forget() {
    found_.reset();
    all_.clear();
  }
  void set(Result<ExportFacts> found) { found_.emplace(std::move(found)); }
  void set_all(std::vector<ExportFacts> all) { all_ = std::move(all); }
  Result<ExportFacts> find(std::string_view name) const override {
    HF_ASSERT(found_.has_value(), "nobody asked for {}", printable(name));
    return *found_;
  }
  void for_each(const std::function<void(const ExportFacts&)>& visit) const override {
    for (const ExportFacts& facts : all_) visit(facts);
  }

 private:
  std::optional<Result<ExportFacts>> found_;
  std::vector<ExportFacts> all_;
};

NbdServer::NbdServer(World& world, ExportSource& exports, NbdServerOptions options)
    : world_(world), options_(options), exports_(exports) {}

NbdServer::~NbdServer() {
  HF_ASSERT(listeners_.empty() && open_ == 0, "stop the NBD server before destroying it");
}

Task<void> NbdServer::disconnect(std::string name) {
  const auto uses = [&](const Connection& c) { return c.used && c.used->facts.name == name; };
  drain_where(uses);
  while (true) {
    bool any = false;
    connections_.for_each([&](Connection& connection) { any = any || uses(connection); });
    if (!any) co_return;
    co_await export_closed_.wait();
  }
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
  if (listeners_.empty()) spawn(gate_, watch_stalls());
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
    Result<std::unique_ptr<Stream>> stream = co_await accept_next(listener, world_.clock, "nbd", CancelToken(stopping_));
    if (!stream.ok()) co_return;
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
  co_await close_export(connection);
  connection.unlink();
  --open_;
}

void NbdServer::log_end(const Connection& connection, const Status& ended) {
  const std::string name = connection.used ? printable(connection.used->facts.name) : std::string();
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
  Asked asked;
  Negotiation negotiation(asked);
  CancelSource in_time;
  spawn(connection.timers, close_after(*connection.stream, options_.handshake_timeout, in_time));
  Status ended = co_await handshake(connection, negotiation, asked);
  in_time.cancel();
  // The timer looks at in_time until it has ended.
  co_await connection.timers.wait_empty();
  if (ended.ok() && connection.used) ended = co_await transmit(connection, negotiation);
  co_return ended;
}

Task<void> NbdServer::close_export(Connection& connection) {
  if (!connection.used) co_return;
  OpenExport used = std::move(*connection.used);
  connection.used.reset();
  co_await exports_.close(std::move(used), connection.stream->peer());
  export_closed_.notify_all();
}

Task<void> NbdServer::close_after(Stream& stream, Duration timeout, CancelToken cancel) {
  Status slept = co_await world_.clock.sleep_for(timeout, cancel);
  if (slept.ok()) stream.close();
}

Task<Status> NbdServer::handshake(Connection& connection, Negotiation& negotiation, Asked& asked) {
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
  co_return co_await answer_options(connection, negotiation, asked);
}

// Ok with an export in use: the transmission begins. Ok without: the client said goodbye.
Task<Status> NbdServer::answer_options(Connection& connection, Negotiation& negotiation,
                                       Asked& asked) {
  Stream& stream = *connection.stream;
  std::array<std::byte, kOptionHeaderBytes> head;
  std::vector<std::byte> data;
  std::vector<std::byte> out;
  while (true) {
    Status status = co_await stream.read_exact(head);
    HF_CO_TRY(status);
    const Result<OptionHeader> header = decode_option_header(head);
    HF_CO_TRY(header);
    data.resize(header->length);
    if (!data.empty()) status = co_await stream.read_exact(data);
    HF_CO_TRY(status);
    status = co_await look_up(connection, header->option, data, asked);
    HF_CO_TRY(status);
    out.clear();
    const Result<Negotiation::Step> step = negotiation.option(header->option, data, &out);
    HF_CO_TRY(step);
    HF_ASSERT((*step == Negotiation::Step::kTransmit) == connection.used.has_value());
    if (!out.empty()) status = co_await stream.write_bytes(out);
    HF_CO_TRY(status);
    if (*step != Negotiation::Step::kContinue) co_return Status();
  }
}

Task<Status> NbdServer::look_up(Connection& connection, uint32_t option, ByteSpan data,
                                Asked& asked) {
  asked.forget();
  if (static_cast<Option>(option) == Option::kList) {
    Result<std::vector<ExportFacts>> all = co_await exports_.list();
    HF_CO_TRY(all);
    asked.set_all(std::move(*all));
    co_return Status();
  }
  std::optional<std::string> name = named_export(option, data);
  if (!name) co_return Status();
  if (!enters_transmission(option)) {
    Result<ExportFacts> found = co_await exports_.find(std::move(*name));
    asked.set(std::move(found));
    co_return Status();
  }
  Result<OpenExport> opened = co_await exports_.open(*name, connection.stream->peer());
  if (opened.ok()) {
    asked.set(opened->facts);
    connection.used = std::move(*opened);
  } else {
    HF_LOG(kInfo, "block", "nbd_export_refused peer={} export=\"{}\" error=\"{}\"",
           connection.stream->peer(), printable(*name), opened.error().to_string());
    asked.set(opened.error());
  }
  co_return Status();
}

Task<Status> NbdServer::transmit(Connection& connection, const Negotiation& negotiation) {
  TransmissionOptions options;
  options.read_only = connection.used->facts.read_only;
  options.structured = negotiation.structured();
  options.allocation = negotiation.allocation();
  options.memory = &memory_;
  options.memory_share = connection.used->domain;
  if (options.memory_share.empty()) options.memory_share = "export " + connection.used->facts.name;
  Transmission transmission(*connection.stream, connection.used->device, buffers_,
                            std::move(options));
  connection.transmission = &transmission;
  HF_LOG(kDebug, "block", "nbd_open peer={} export=\"{}\"", connection.stream->peer(),
         printable(connection.used->facts.name));
  Status ended = co_await transmission.run();
  connection.transmission = nullptr;
  const TransmissionCounts& counts = transmission.counts();
  counts_.transmission.requests += counts.requests;
  counts_.transmission.failed += counts.failed;
  counts_.transmission.bytes_read += counts.bytes_read;
  counts_.transmission.bytes_written += counts.bytes_written;
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

// One look at all connections now and then, instead of a timer for each request.
Task<void> NbdServer::watch_stalls() {
  constexpr uint32_t kLooks = 4;
  while (true) {
    Status slept = co_await world_.clock.sleep_for(options_.stall_timeout / kLooks, stopping_);
    if (!slept.ok()) co_return;
    connections_.for_each([&](Connection& connection) {
      const Transmission* transmission = connection.transmission;
      if (transmission == nullptr || !transmission->waits_for_client() ||
          transmission->progress() != connection.progress) {
        connection.stalls = 0;
      } else if (++connection.stalls == kLooks) {
        ++counts_.stalled;
        HF_LOG(kWarn, "block", "nbd_stalled peer={} export=\"{}\": closed",
               connection.stream->peer(), printable(connection.used->facts.name));
        connection.stream->close();
      }
      if (transmission != nullptr) connection.progress = transmission->progress();
    });
  }
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
