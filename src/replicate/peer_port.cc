#include "replicate/peer_port.h"

#include <algorithm>

#include "base/known_code.h"

namespace hf {
namespace {

PeerRequest stamped(const WriteHeader& header) {
  PeerRequest request;
  request.epoch = header.epoch;
  request.number = header.sequence;
  request.generation = header.generation;
  request.commit = header.commit;
  request.absent = header.absent;
  return request;
}

Status status_of(const PeerAnswer& answer) {
  if (answer.code == 0) return Status();
  if (const std::optional<ErrorCode> code = known_code(answer.code)) return Error(*code, answer.text);
  return make_error(ErrorCode::kProtocol, "an answer with the unknown code {}", answer.code);
}

}  // namespace

// The stream, and the two tasks on it; lives until both have ended.
class PeerPort::Connection {
 public:
  explicit Connection(std::unique_ptr<Stream> stream)
      : stream_(std::move(stream)), reader_(*stream_), writer_(*stream_) {}
  ~Connection() { HF_ASSERT(waiting_.empty()); }

  static void start(const std::shared_ptr<Connection>& self, Gate& gate) {
    (void)spawn(gate, receive(self));
    (void)spawn(gate, send(self));
  }
  bool is_open() const { return !failure_; }
  const Error& failure() const { return *failure_; }
  void ask(PeerKind kind, const PeerRequest& request, WriteData data, Waiting* waiting) {
    if (failure_) {
      waiting->failure = failure_;
      waiting->done.set();
      return;
    }
    PeerFrame frame;
    frame.kind = kind;
    frame.request = ++requests_;
    waiting->kind = kind;
    waiting_.emplace(frame.request, waiting);
    writer_.push(frame, encode_peer_request(request), std::move(data));
  }
  void fail(const Error& why) {
    if (failure_) return;
    failure_ = why;
    stream_->close();
    writer_.stop();
    for (const auto& [request, waiting] : waiting_) {
      waiting->failure = why;
      waiting->done.set();
    }
    waiting_.clear();
  }

 private:
  static Task<void> send(std::shared_ptr<Connection> self) { co_await self->writer_.run(); }
  static Task<void> receive(std::shared_ptr<Connection> self) {
    while (!self->failure_) {
      Result<InFrame> in = co_await self->reader_.next();
      Status taken = in.ok() ? self->take(*in) : Status(in.error());
      if (!taken.ok()) self->fail(taken.error());
    }
  }
  Status take(InFrame& in) {
    const auto at = waiting_.find(in.frame.request);
    if (!in.frame.is_answer || at == waiting_.end() || at->second->kind != in.frame.kind) {
      return make_error(ErrorCode::kProtocol, "{}: an answer that nobody asked for",
                        stream_->peer());
    }
    Result<PeerAnswer> answer = decode_peer_answer(in.body);
    if (!answer.ok()) return answer.error();
    Waiting& waiting = *at->second;
    waiting.answer = std::move(*answer);
    waiting.data = std::move(in.data);
    waiting_.erase(at);
    waiting.done.set();
    return Status();
  }

  std::unique_ptr<Stream> stream_;
  FrameReader reader_;
  FrameWriter writer_;
  std::map<uint64_t, Waiting*> waiting_;
  uint64_t requests_ = 0;
  std::optional<Error> failure_;
};

PeerPort::PeerPort(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
PeerPort::~PeerPort() {
  PeerPort::close();
}

void PeerPort::close() {
  connection_->fail(make_error(ErrorCode::kClosed, "the session was closed"));
}

Status PeerPort::flush() {
  return connection_->is_open() ? Status() : connection_->failure();
}

Task<Result<std::shared_ptr<PeerPort>>> PeerPort::connect(Network& net, std::string address,
                                                          PeerTarget target, Duration timeout,
                                                          Gate& gate) {
  Result<std::unique_ptr<Stream>> stream = co_await net.connect(std::move(address), timeout);
  HF_CO_TRY(stream);
  auto connection = std::make_shared<Connection>(std::move(*stream));
  Connection::start(connection, gate);
  std::shared_ptr<PeerPort> port(new PeerPort(std::move(connection)));
  PeerRequest hello;
  hello.cluster = target.cluster;
  hello.volume = target.volume;
  hello.replica = target.replica;
  // Not awaited: a fence follows at once, and tells of a refusal.
  port->hello_ = std::make_unique<Waiting>();
  port->connection_->ask(PeerKind::kHello, hello, WriteData(), port->hello_.get());
  co_return port;
}

// Fails with the connection's error, or with that of the answer.
Task<Status> PeerPort::ask(PeerKind kind, PeerRequest request, WriteData data, Waiting* waiting) {
  const std::shared_ptr<Connection> connection = connection_;
  connection->ask(kind, request, std::move(data), waiting);
  co_await waiting->done.wait();
  if (waiting->failure) co_return *waiting->failure;
  co_return status_of(waiting->answer);
}

Task<Status> PeerPort::ask_status(PeerKind kind, PeerRequest request) {
  Waiting waiting;
  Status done = co_await ask(kind, std::move(request), WriteData(), &waiting);
  co_return done;
}

Task<Result<std::vector<ByteRange>>> PeerPort::ask_ranges(PeerKind kind, PeerRequest request) {
  Waiting waiting;
  Status done = co_await ask(kind, std::move(request), WriteData(), &waiting);
  HF_CO_TRY(done);
  std::vector<ByteRange> ranges;
  for (const PeerRange& from : waiting.answer.ranges) {
    ByteRange& range = ranges.emplace_back();
    range.offset = from.offset;
    range.length = from.length;
  }
  co_return ranges;
}

Task<Result<FenceAnswer>> PeerPort::fence(Session session) {
  PeerRequest request;
  request.epoch = session.epoch;
  request.number = session.number;
  Waiting waiting;
  Status done = co_await ask(PeerKind::kFence, std::move(request), WriteData(), &waiting);
  if (!done.ok() && hello_->answer.code != 0) co_return status_of(hello_->answer).error();
  HF_CO_TRY(done);
  FenceAnswer answer;
  answer.promised_before = waiting.answer.a;
  answer.size_bytes = waiting.answer.b;
  answer.lease_left = std::min(Duration(waiting.answer.c), kLeaseGiven);
  answer.commit = waiting.answer.stamp;
  answer.config = std::move(waiting.answer.text);
  co_return answer;
}

Task<Status> PeerPort::heartbeat(Stamp commit) {
  PeerRequest request;
  request.commit = commit;
  co_return co_await ask_status(PeerKind::kHeartbeat, std::move(request));
}

Task<Status> PeerPort::release() {
  PeerRequest request;
  co_return co_await ask_status(PeerKind::kRelease, std::move(request));
}

Task<Status> PeerPort::write(WriteHeader header, uint64_t offset, WriteData data) {
  PeerRequest request = stamped(header);
  request.offset = offset;
  request.length = data.bytes().size();
  if (request.length <= kPeerDataMax) {
    Waiting waiting;
    co_return co_await ask(PeerKind::kWrite, std::move(request), std::move(data), &waiting);
  }
  for (uint64_t at = 0; at < data.bytes().size(); at += kPeerDataMax) {
    WriteData piece = data.part(at, std::min<uint64_t>(kPeerDataMax, data.bytes().size() - at));
    Status done = co_await write(header, offset + at, std::move(piece));
    HF_CO_TRY(done);
  }
  co_return Status();
}

Task<Status> PeerPort::write_zeroes(WriteHeader header, uint64_t offset, uint64_t length) {
  PeerRequest request = stamped(header);
  request.offset = offset;
  request.length = length;
  co_return co_await ask_status(PeerKind::kWriteZeroes, std::move(request));
}

Task<Status> PeerPort::read(uint64_t offset, MutableByteSpan out) {
  for (uint64_t at = 0; at < out.size(); at += kPeerDataMax) {
    const uint64_t length = std::min<uint64_t>(kPeerDataMax, out.size() - at);
    PeerRequest request;
    request.offset = offset + at;
    request.length = length;
    Waiting waiting;
    Status done = co_await ask(PeerKind::kRead, std::move(request), WriteData(), &waiting);
    HF_CO_TRY(done);
    if (waiting.data == nullptr || waiting.data->size() != length) {
      co_return make_error(ErrorCode::kProtocol, "a read of {} bytes was answered with {}", length,
                           waiting.data == nullptr ? 0 : waiting.data->size());
    }
    std::memcpy(out.data() + at, waiting.data->data(), length);
  }
  co_return Status();
}

Task<Result<std::vector<DataExtent>>> PeerPort::extents(uint64_t offset, uint64_t length,
                                                        size_t limit) {
  PeerRequest request;
  request.offset = offset;
  request.length = length;
  request.limit = static_cast<uint32_t>(std::min(limit, kPeerRangesMax));
  Waiting waiting;
  Status done = co_await ask(PeerKind::kExtents, std::move(request), WriteData(), &waiting);
  HF_CO_TRY(done);
  std::vector<DataExtent> extents;
  for (const PeerRange& from : waiting.answer.ranges) {
    DataExtent& extent = extents.emplace_back();
    extent.offset = from.offset;
    extent.length = from.length;
    extent.data = from.flag != 0;
  }
  co_return extents;
}

Task<Result<std::vector<ByteRange>>> PeerPort::window(uint64_t from, size_t limit) {
  PeerRequest request;
  request.offset = from;
  request.limit = static_cast<uint32_t>(std::min(limit, kPeerRangesMax));
  co_return co_await ask_ranges(PeerKind::kWindow, std::move(request));
}

Task<Result<std::vector<ByteRange>>> PeerPort::dirty(uint32_t slot, uint64_t from, size_t limit) {
  PeerRequest request;
  request.offset = from;
  request.slots = static_cast<uint8_t>(1u << slot);
  request.limit = static_cast<uint32_t>(std::min(limit, kPeerRangesMax));
  co_return co_await ask_ranges(PeerKind::kDirty, std::move(request));
}

Task<Status> PeerPort::mark_dirty(WriteHeader header, SlotMask slots,
                                  std::vector<ByteRange> ranges) {
  PeerRequest request = stamped(header);
  request.slots = slots;
  for (const ByteRange& from : ranges) {
    PeerRange& range = request.ranges.emplace_back();
    range.offset = from.offset;
    range.length = from.length;
  }
  co_return co_await ask_status(PeerKind::kMarkDirty, std::move(request));
}

Task<Status> PeerPort::clear_dirty(WriteHeader header, SlotMask slots) {
  PeerRequest request = stamped(header);
  request.slots = slots;
  co_return co_await ask_status(PeerKind::kClearDirty, std::move(request));
}

Task<Status> PeerPort::settle_window(WriteHeader header) {
  PeerRequest request = stamped(header);
  co_return co_await ask_status(PeerKind::kSettleWindow, std::move(request));
}

Task<Status> PeerPort::set_config(std::string config) {
  PeerRequest request;
  request.text = std::move(config);
  co_return co_await ask_status(PeerKind::kSetConfig, std::move(request));
}

Task<Status> PeerPort::resize(WriteHeader header, uint64_t size_bytes) {
  PeerRequest request = stamped(header);
  request.length = size_bytes;
  co_return co_await ask_status(PeerKind::kResize, std::move(request));
}

Task<Result<SnapshotInfo>> PeerPort::snapshot(WriteHeader header, SnapshotId id) {
  PeerRequest request = stamped(header);
  request.snapshot = id;
  Waiting waiting;
  Status done = co_await ask(PeerKind::kSnapshot, std::move(request), WriteData(), &waiting);
  HF_CO_TRY(done);
  SnapshotInfo info;
  info.id = waiting.answer.snapshot;
  info.size_bytes = waiting.answer.a;
  info.created.ns = static_cast<int64_t>(waiting.answer.b);
  info.layer = static_cast<uint32_t>(waiting.answer.c);
  info.epoch = waiting.answer.stamp.epoch;
  info.sequence = waiting.answer.stamp.sequence;
  co_return info;
}

Task<Status> PeerPort::delete_snapshot(SnapshotId id) {
  PeerRequest request;
  request.snapshot = id;
  co_return co_await ask_status(PeerKind::kDeleteSnapshot, std::move(request));
}

}  // namespace hf
