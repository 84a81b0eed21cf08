#include "replicate/peer_server.h"

#include <algorithm>

#include "base/log.h"
#include "runtime/fault_point.h"

namespace hf {
namespace {

constexpr int kRefusalsMax = 16;  // to one connection

WriteHeader header_of(const PeerRequest& request) {
  WriteHeader header;
  header.epoch = request.epoch;
  header.sequence = request.number;
  header.generation = request.generation;
  header.commit = request.commit;
  header.absent = request.absent;
  return header;
}

void set_error(PeerAnswer* answer, const Status& status) {
  if (status.ok()) return;
  answer->code = static_cast<uint16_t>(status.code());
  answer->text = status.error().message();
}

template <typename Ranges>
void set_ranges(PeerAnswer* answer, const Result<Ranges>& found) {
  if (!found.ok()) {
    set_error(answer, found.error());
    return;
  }
  for (const auto& from : *found) {
    PeerRange& range = answer->ranges.emplace_back();
    range.offset = from.offset;
    range.length = from.length;
    if constexpr (requires { from.data; }) range.flag = from.data ? 1 : 0;
  }
}

std::vector<ByteRange> ranges_of(const PeerRequest& request) {
  std::vector<ByteRange> ranges;
  for (const PeerRange& from : request.ranges) {
    ByteRange& range = ranges.emplace_back();
    range.offset = from.offset;
    range.length = from.length;
  }
  return ranges;
}

}  // namespace

// One connection. Lives until everything that it asked for has ended.
class PeerServer::Served {
 public:
  Served(PeerServer& server, std::unique_ptr<Stream> s)
      : stream(std::move(s)), reader(*stream), writer(*stream), server_(server) {
    server_.connections_.push_back(this);
  }
  ~Served() { server_.connections_.remove(this); }
  void close() {
    stream->close();
    writer.stop();
  }
  void answer(const PeerFrame& to, const PeerAnswer& answer, std::shared_ptr<AlignedBuffer> data) {
    PeerFrame frame;
    frame.kind = to.kind;
    frame.is_answer = true;
    frame.request = to.request;
    writer.push(frame, encode_peer_answer(answer),
                data ? WriteData::of(std::move(data)) : WriteData());
  }

  std::unique_ptr<Stream> stream;
  FrameReader reader;
  FrameWriter writer;
  std::shared_ptr<ReplicaService> service;
  Session session;
  bool refused = false;  // told so
  Semaphore requests{kMaxRequests};
  Semaphore bytes{kMaxRequestBytes};

 private:
  PeerServer& server_;
};

void PeerServer::start(std::unique_ptr<Listener> listener) {
  listener_ = std::move(listener);
  (void)spawn(tasks_, accept());
}

Task<void> PeerServer::stop() {
  stopping_.cancel();
  if (listener_ != nullptr) listener_->close();
  for (Served* served : connections_) served->close();
  co_await tasks_.close();
}

Task<void> PeerServer::accept() {
  while (!stopping_.is_cancelled()) {
    Result<std::unique_ptr<Stream>> stream = co_await accept_next(*listener_, clock_, "replicas", CancelToken(stopping_));
    if (!stream.ok()) co_return;
    if (connections_.size() >= kMaxConnections || stopping_.is_cancelled()) {
      HF_LOG(kWarn, "replicate", "a connection of {} is refused: {} are open", (*stream)->peer(),
             connections_.size());
      (*stream)->close();
      continue;
    }
    auto served = std::make_shared<Served>(*this, std::move(*stream));
    (void)spawn(tasks_, serve(std::move(served)));
  }
}

Task<void> PeerServer::send(std::shared_ptr<Served> served) {
  co_await served->writer.run();
}

// The first frame says whose session this is.
Task<Status> PeerServer::greet(Served& served) {
  Result<InFrame> in = co_await served.reader.next();
  HF_CO_TRY(in);
  Result<PeerRequest> hello = decode_peer_request(in->body);
  HF_CO_TRY(hello);
  if (in->frame.kind != PeerKind::kHello || in->frame.is_answer) {
    co_return make_error(ErrorCode::kProtocol, "{} does not say hello", served.stream->peer());
  }
  Status known;
  if (hello->cluster != cluster_) {
    known = make_error(ErrorCode::kWrongOwner, "{} is of cluster {}, this node of {}",
                       served.stream->peer(), hello->cluster.to_string(), cluster_.to_string());
  } else {
    served.service = directory_.find(hello->volume, hello->replica);
    if (served.service == nullptr) {
      known = make_error(ErrorCode::kNotFound, "there is no replica {} of volume {} here",
                         hello->replica.to_string(), hello->volume.to_string());
    }
  }
  PeerAnswer answer;
  set_error(&answer, known);
  served.refused = !known.ok();
  served.answer(in->frame, answer, nullptr);
  co_return known;
}

// Whatever else was sent with the hello gets the same answer: to close over it would lose what was
// said.
Task<void> PeerServer::refuse(Served& served, Error why) {
  for (int requests = 0; requests < kRefusalsMax; ++requests) {
    Result<InFrame> in = co_await served.reader.next();
    if (!in.ok()) co_return;
    PeerAnswer answer;
    set_error(&answer, why);
    served.answer(in->frame, answer, nullptr);
  }
}

Task<void> PeerServer::serve(std::shared_ptr<Served> served) {
  (void)spawn(tasks_, send(served));
  Status good = co_await greet(*served);
  if (served->refused) co_await refuse(*served, good.error());
  while (good.ok() && !stopping_.is_cancelled()) {
    Result<InFrame> in = co_await served->reader.next();
    if (!in.ok()) {
      good = in.error();
      break;
    }
    Result<PeerRequest> request = decode_peer_request(in->body);
    const PeerKind kind = in->frame.kind;
    if (!request.ok() || in->frame.is_answer || kind == PeerKind::kHello ||
        (kind == PeerKind::kFence) != (served->session.number == 0)) {
      good = make_error(ErrorCode::kProtocol, "{} sent what it must not", served->stream->peer());
      break;
    }
    if (kind == PeerKind::kFence) {
      served->session.epoch = request->epoch;
      served->session.number = std::max<uint64_t>(request->number, 1);
    }
    co_await served->requests.acquire();
    const uint64_t bytes = in->frame.data_bytes + (kind == PeerKind::kRead ? kPeerDataMax / 8 : 0);
    co_await served->bytes.acquire(bytes);
    (void)spawn(tasks_, handle(served, std::move(*in), std::move(*request)));
  }
  if (!good.ok() && good.code() != ErrorCode::kClosed && good.code() != ErrorCode::kCancelled) {
    HF_PROBE("replicate.connection_refused");
    HF_LOG(kWarn, "replicate", "connection of {} is closed: {}", served->stream->peer(),
           good.error().to_string());
    co_await served->writer.flushed();  // what was said goes out first
  }
  served->close();
}

Task<void> PeerServer::handle(std::shared_ptr<Served> served, InFrame in, PeerRequest request) {
  const uint64_t bytes =
      in.frame.data_bytes + (in.frame.kind == PeerKind::kRead ? kPeerDataMax / 8 : 0);
  SemaphoreUnits one(served->requests, 1);
  SemaphoreUnits some(served->bytes, bytes);
  std::shared_ptr<AlignedBuffer> data;
  PeerAnswer answer = co_await execute(*served, in.frame.kind, request, in, &data);
  served->answer(in.frame, answer, std::move(data));
}

Task<PeerAnswer> PeerServer::execute(Served& served, PeerKind kind, PeerRequest& request,
                                     InFrame& in, std::shared_ptr<AlignedBuffer>* data) {
  ReplicaService& service = *served.service;
  const Session session = served.session;
  const WriteHeader header = header_of(request);
  PeerAnswer answer;
  Status done;
  switch (kind) {
    case PeerKind::kHello:
      break;
    case PeerKind::kFence: {
      Result<FenceAnswer> fenced = co_await service.fence(session);
      if (!fenced.ok()) {
        done = fenced.error();
        break;
      }
      answer.a = fenced->promised_before;
      answer.b = fenced->size_bytes;
      answer.c = static_cast<uint64_t>(fenced->lease_left.count());
      answer.stamp = fenced->commit;
      answer.text = std::move(fenced->config);
      break;
    }
    case PeerKind::kHeartbeat:
      done = service.heartbeat(session, request.commit);
      break;
    case PeerKind::kRelease:
      done = service.release(session);
      break;
    case PeerKind::kWrite: {
      if (in.data == nullptr || in.data->size() != request.length) {
        done =
            make_error(ErrorCode::kProtocol, "a write of {} bytes with other data", request.length);
        break;
      }
      WriteData payload = WriteData::of(std::move(in.data));
      done = co_await service.write(session, header, request.offset, std::move(payload));
      break;
    }
    case PeerKind::kWriteZeroes:
      done = co_await service.write_zeroes(session, header, request.offset, request.length);
      break;
    case PeerKind::kRead: {
      if (request.length > kPeerDataMax) {
        done = make_error(ErrorCode::kProtocol, "a read of {} bytes", request.length);
        break;
      }
      auto buffer = std::make_shared<AlignedBuffer>(request.length);
      done = co_await service.read(session, request.offset, buffer->span());
      if (done.ok()) *data = std::move(buffer);
      break;
    }
    case PeerKind::kExtents: {
      const size_t limit = std::min<size_t>(request.limit, kPeerRangesMax);
      Result<std::vector<DataExtent>> found =
          co_await service.extents(session, request.offset, request.length, limit);
      set_ranges(&answer, found);
      break;
    }
    case PeerKind::kWindow: {
      const size_t limit = std::min<size_t>(request.limit, kPeerRangesMax);
      Result<std::vector<ByteRange>> found =
          co_await service.window(session, request.offset, limit);
      set_ranges(&answer, found);
      break;
    }
    default:
      co_return co_await execute_rest(service, session, kind, request);
  }
  set_error(&answer, done);
  co_return answer;
}

Task<PeerAnswer> PeerServer::execute_rest(ReplicaService& service, Session session, PeerKind kind,
                                          PeerRequest& request) {
  const WriteHeader header = header_of(request);
  PeerAnswer answer;
  Status done;
  switch (kind) {
    case PeerKind::kDirty: {
      uint32_t slot = 0;
      while (slot + 1 < kMemberSlots && (request.slots & (1u << slot)) == 0) ++slot;
      const size_t limit = std::min<size_t>(request.limit, kPeerRangesMax);
      Result<std::vector<ByteRange>> found =
          co_await service.dirty(session, slot, request.offset, limit);
      set_ranges(&answer, found);
      break;
    }
    case PeerKind::kMarkDirty: {
      std::vector<ByteRange> ranges = ranges_of(request);
      done = co_await service.mark_dirty(session, header, request.slots, std::move(ranges));
      break;
    }
    case PeerKind::kClearDirty:
      done = co_await service.clear_dirty(session, header, request.slots);
      break;
    case PeerKind::kSettleWindow:
      done = co_await service.settle_window(session, header);
      break;
    case PeerKind::kSetConfig:
      done = co_await service.set_config(session, std::move(request.text));
      break;
    case PeerKind::kResize:
      done = co_await service.resize(session, header, request.length);
      break;
    case PeerKind::kSnapshot: {
      Result<SnapshotInfo> cut = co_await service.snapshot(session, header, request.snapshot);
      if (!cut.ok()) {
        done = cut.error();
        break;
      }
      answer.snapshot = cut->id;
      answer.a = cut->size_bytes;
      answer.b = static_cast<uint64_t>(cut->created.ns);
      answer.c = cut->layer;
      answer.stamp.epoch = cut->epoch;
      answer.stamp.sequence = cut->sequence;
      break;
    }
    case PeerKind::kDeleteSnapshot:
      done = co_await service.delete_snapshot(session, request.snapshot);
      break;
    default:
      done = make_error(ErrorCode::kNotSupported, "a request of an unknown kind");
      break;
  }
  set_error(&answer, done);
  co_return answer;
}

}  // namespace hf
