#include "block/nbd/nbd_transmission.h"

#include <algorithm>

#include "runtime/fault_point.h"
#include "volume/filters/align_filter.h"

namespace hf::nbd {
namespace {

constexpr uint32_t kErrnoIo = 5, kErrnoInvalid = 22, kErrnoNotSupported = 95;

struct Aligned {
  explicit Aligned(std::shared_ptr<BlockDevice> device)
      : inner(std::move(device)), filter(*inner) {}
  const std::shared_ptr<BlockDevice> inner;
  AlignFilter filter;
};

// A part of a read: zeroes, or `length` bytes of data.
struct Piece {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool hole = false;
};

// What the device says, as pieces that cover the request without a gap; what it leaves out is data.
std::vector<Piece> pieces_of(const Request& request, const std::vector<BlockExtent>& extents,
                             size_t limit) {
  std::vector<Piece> pieces;
  uint64_t at = request.offset;
  const uint64_t end = request.offset + request.length;
  const auto add = [&](uint64_t to, bool hole) {
    if (to <= at) return;
    if (!pieces.empty() && pieces.back().hole == hole) {
      pieces.back().length += to - at;
    } else {
      pieces.push_back(Piece{at, to - at, hole});
    }
    at = to;
  };
  for (const BlockExtent& extent : extents) {
    if (extent.offset > at || pieces.size() + 1 >= limit) break;
    add(std::min(extent.offset + extent.length, end), extent.reads_zero);
  }
  add(end, false);
  return pieces;
}

}  // namespace

std::shared_ptr<BlockDevice> byte_granular(std::shared_ptr<BlockDevice> device) {
  const auto aligned = std::make_shared<Aligned>(std::move(device));
  return std::shared_ptr<BlockDevice>(aligned, &aligned->filter);
}

Transmission::Transmission(Stream& stream, std::shared_ptr<BlockDevice> device, BufferPool& buffers,
                           TransmissionOptions options)
    : stream_(stream),
      device_(std::move(device)),
      buffers_(buffers),
      options_(std::move(options)),
      input_(std::min(kInputBytesMin, options_.input_bytes_max)) {
  if (options_.memory == nullptr) return;
  read_share_ = options_.memory->share(options_.memory_share + "/read");
  write_share_ = options_.memory->share(options_.memory_share + "/write");
}

Transmission::~Transmission() {
  HF_ASSERT(working_ == 0 && replies_.empty() && batch_.empty(), "transmission to {} still runs",
            stream_.peer());
}

Rules Transmission::rules() const {
  Rules rules;
  rules.size = device_->size();
  rules.read_only = options_.read_only;
  rules.structured = options_.structured;
  rules.allocation = options_.allocation;
  return rules;
}

Task<Status> Transmission::run() {
  const bool spawned = spawn(writer_, write_replies());
  HF_ASSERT(spawned, "run() is called once");
  Status ended = co_await read_requests();
  // Who breaks the protocol gets no more answers; a client that ends in order gets all of them.
  if (ended.code() == ErrorCode::kProtocol) stream_.close();
  co_await requests_.close();
  no_more_replies_ = true;
  reply_queued_.notify_all();
  co_await writer_.close();
  stream_.close();
  co_await drains_.close();
  if (draining_ && ended.code() == ErrorCode::kClosed) {
    co_return make_error(ErrorCode::kCancelled, "serving {} was stopped", stream_.peer());
  }
  co_return ended;
}

Task<void> Transmission::drain() {
  Gate::Pass pass(drains_);
  if (!pass) co_return;
  draining_ = true;
  while (working_ > 0) co_await worked_.wait();
  stream_.close();
}

// --- reader
// ---------------------------------------------------------------------------------------

Task<Status> Transmission::read_requests() {
  while (true) {
    Status filled = co_await fill(kRequestBytes);
    HF_CO_TRY(filled);
    if (draining_) co_return co_await discard_input();
    const Result<Request> request = decode_request(input_.span().subspan(in_begin_, kRequestBytes));
    if (!request.ok()) co_return request.error().with_context(stream_.peer());
    take_input(kRequestBytes);
    if (request->command == Command::kDisconnect) co_return Status();
    Status accepted = co_await accept(*request);
    HF_CO_TRY(accepted);
  }
}

// While draining, until the stream is closed: bytes left unread at the close would make TCP reset the
// connection, and the client lose the last answers.
Task<Status> Transmission::discard_input() {
  while (true) {
    Result<size_t> n = co_await stream_.read_some(input_.span());
    HF_CO_TRY(n);
    if (*n == 0) co_return make_error(ErrorCode::kClosed, "{} went away", stream_.peer());
  }
}

Task<Status> Transmission::accept(Request request) {
  ++counts_.requests;
  const Refusal refusal = judge(request, rules());
  if (refusal.nbd_errno != 0) {
    Status skipped = co_await skip(request.payload());
    HF_CO_TRY(skipped);
  }
  if (!free_slots_.try_acquire()) {
    HF_PROBE("nbd.slots_full");
    co_await free_slots_.acquire();
  }
  if (idle_slots_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    idle_slots_.push_back(slots_.back().get());
  }
  Slot& slot = *idle_slots_.back();
  idle_slots_.pop_back();
  slot.request = request;
  last_payload_ = request.payload();
  if (refusal.nbd_errno != 0) {
    answer_error(slot, refusal.nbd_errno, refusal.why);
    co_return Status();
  }
  const bool has_data = request.command == Command::kRead || request.command == Command::kWrite;
  if (has_data && request.length > 0) {
    co_await take_memory(slot);
    slot.buffer = buffers_.take(request.length);
  }
  if (request.payload() > 0) {
    Status received = co_await receive(slot.data());
    if (!received.ok()) {
      release(slot);
      co_return received;
    }
  }
  if (draining_) {
    HF_PROBE("nbd.dropped_at_drain");
    release(slot);
    co_return Status();
  }
  start(slot);
  co_return Status();
}

Task<void> Transmission::take_memory(Slot& slot) {
  const uint64_t budget = BufferPool::class_bytes(slot.request.length);
  if (!budget_.try_acquire(budget)) {
    HF_PROBE("nbd.buffers_full");
    co_await budget_.acquire(budget);
  }
  slot.budget = budget;
  if (options_.memory == nullptr) co_return;
  const bool is_read = slot.request.command == Command::kRead;
  MemoryBudget::Share& share = is_read ? *read_share_ : *write_share_;
  const uint64_t held = kBufferBytesMax - budget_.free_units() - budget;
  if (!options_.memory->try_take(share, held, budget)) {
    HF_PROBE("nbd.memory_full");
    co_await options_.memory->take(share, held, budget);
  }
  slot.share = &share;
}

Task<Status> Transmission::fill(size_t bytes) {
  if (input_size() >= bytes) co_return Status();
  grow_input();
  std::memmove(input_.data(), input_.data() + in_begin_, input_size());
  in_end_ -= in_begin_;
  in_begin_ = 0;
  while (input_size() < bytes) {
    const MutableByteSpan room = input_.span().subspan(in_end_);
    receiving_ = receiving_ || input_size() > 0;
    Result<size_t> n = co_await stream_.read_some(room);
    HF_CO_TRY(n);
    ++progress_;
    input_filled_ = *n == room.size();
    if (*n == 0) {
      co_return make_error(ErrorCode::kClosed, "{} went away {}", stream_.peer(),
                           input_size() == 0 ? "without a goodbye" : "in the middle of a request");
    }
    in_end_ += *n;
  }
  receiving_ = false;
  co_return Status();
}

// When nothing is in it that a segment or a span points to: only the reader uses it.
void Transmission::grow_input() {
  if (!std::exchange(input_filled_, false) || input_.size() >= options_.input_bytes_max) return;
  if (last_payload_ > kSmallPayload) return;
  AlignedBuffer larger(std::min(2 * input_.size(), options_.input_bytes_max));
  std::memcpy(larger.data() + in_begin_, input_.data() + in_begin_, input_size());
  input_ = std::move(larger);
}

Task<Status> Transmission::receive(MutableByteSpan out) {
  const size_t here = std::min(out.size(), input_size());
  std::memcpy(out.data(), input_.data() + in_begin_, here);
  take_input(here);
  out = out.subspan(here);
  while (!out.empty()) {
    HF_PROBE("nbd.payload_received_in_place");
    receiving_ = true;
    Result<size_t> n = co_await stream_.read_some(out);
    HF_CO_TRY(n);
    ++progress_;
    if (*n == 0) {
      co_return make_error(ErrorCode::kClosed, "{} went away in the middle of a write",
                           stream_.peer());
    }
    out = out.subspan(*n);
  }
  receiving_ = false;
  co_return Status();
}

Task<Status> Transmission::skip(uint64_t bytes) {
  while (bytes > 0) {
    receiving_ = true;  // until fill() has some of it
    Status some = co_await fill(1);
    HF_CO_TRY(some);
    const uint64_t here = std::min<uint64_t>(bytes, input_size());
    take_input(here);
    bytes -= here;
  }
  receiving_ = false;  // else an idle client would count as one that stalls
  co_return Status();
}

// --- requests
// -------------------------------------------------------------------------------------

void Transmission::start(Slot& slot) {
  ++working_;
  slot.working = true;
  bool spawned = true;
  switch (slot.request.command) {
    case Command::kRead:
      spawned = spawn(requests_, serve_read(slot));
      break;
    case Command::kWrite:
      spawned = spawn(requests_, serve_write(slot));
      break;
    case Command::kTrim:
    case Command::kWriteZeroes:
      spawned = spawn(requests_, serve_clear(slot));
      break;
    case Command::kFlush:
      spawned = spawn(requests_, serve_flush(slot));
      break;
    case Command::kBlockStatus:
      spawned = spawn(requests_, serve_status(slot));
      break;
    case Command::kCache:  // a hint; there is nothing that it would make faster
      answer(slot, Status());
      break;
    default:
      HF_UNREACHABLE("command {} was judged good", static_cast<int>(slot.request.command));
  }
  HF_ASSERT(spawned, "the reader is done before the requests' gate is closed");
}

Task<void> Transmission::serve_read(Slot& slot) {
  const Request& request = slot.request;
  Status done;
  const bool may_split = options_.structured && (request.flags & kFlagDf) == 0;
  if (request.length == 0) {
    answer(slot, done);
    co_return;
  }
  if (may_split && request.length >= kSparseReadMin) {
    done = co_await read_sparse(slot);
  } else {
    done = co_await device_->read(request.offset, slot.data());
    if (done.ok()) answer_read(slot);
  }
  if (!done.ok()) {
    answer(slot, done);
    co_return;
  }
  counts_.bytes_read += request.length;
  queue(slot);
}

Task<Status> Transmission::read_sparse(Slot& slot) {
  const Request& request = slot.request;
  std::vector<BlockExtent> extents;
  Result<std::vector<BlockExtent>> found =
      co_await device_->extents(request.offset, request.length, kReadPiecesMax);
  // Without an answer all of it is data: reading tells what is wrong.
  if (found.ok()) extents = std::move(*found);
  const std::vector<Piece> pieces = pieces_of(request, extents, kReadPiecesMax);
  for (const Piece& piece : pieces) {
    if (piece.hole) continue;
    const MutableByteSpan part = slot.data().subspan(piece.offset - request.offset, piece.length);
    Status got = co_await device_->read(piece.offset, part);
    HF_CO_TRY(got);
  }
  slot.heads.reserve(pieces.size() * kReplyHeadMax);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    add_piece(slot, piece.offset, slot.data().subspan(piece.offset - request.offset, piece.length),
              piece.hole, i + 1 == pieces.size());
  }
  co_return Status();
}

// The chunk of a piece: its head, and the data unless it reads as zeroes.
void Transmission::add_piece(Slot& slot, uint64_t offset, MutableByteSpan data, bool hole,
                             bool last) {
  const uint64_t cookie = slot.request.cookie;
  const auto length = static_cast<uint32_t>(data.size());
  const size_t begin = slot.heads.size();
  HF_ASSERT(slot.heads.capacity() >= begin + kReplyHeadMax);
  hole = hole || all_zero(data);
  if (hole) {
    append_hole_chunk(&slot.heads, cookie, last, offset, length);
  } else {
    append_data_chunk(&slot.heads, cookie, last, offset, length);
  }
  slot.segments.push_back(ByteSpan(slot.heads).subspan(begin));
  if (!hole) slot.segments.push_back(data);
}

Task<void> Transmission::serve_write(Slot& slot) {
  Status done;
  if (slot.request.length > 0) done = co_await device_->write(slot.request.offset, slot.data());
  if (done.ok()) done = co_await flush_if_asked(slot);
  if (done.ok()) counts_.bytes_written += slot.request.length;
  answer(slot, done);
}

Task<void> Transmission::serve_clear(Slot& slot) {
  const Request& request = slot.request;
  Status done;
  if (request.length == 0) {
    answer(slot, done);
    co_return;
  }
  if (request.command == Command::kTrim) {
    done = co_await device_->discard(request.offset, request.length);
  } else {
    const bool deallocate = (request.flags & kFlagNoHole) == 0;
    done = co_await device_->write_zeroes(request.offset, request.length, deallocate);
  }
  if (done.ok()) done = co_await flush_if_asked(slot);
  answer(slot, done);
}

// Whether an answered write is durable already is the volume's affair; after a flush it is.
Task<Status> Transmission::flush_if_asked(const Slot& slot) {
  if ((slot.request.flags & kFlagFua) == 0) co_return Status();
  co_return co_await device_->flush();
}

Task<void> Transmission::serve_flush(Slot& slot) {
  Status done = co_await device_->flush();
  answer(slot, done);
}

Task<void> Transmission::serve_status(Slot& slot) {
  const Request& request = slot.request;
  const size_t limit = (request.flags & kFlagReqOne) != 0 ? 1 : kStatusExtentsMax;
  Result<std::vector<BlockExtent>> found =
      co_await device_->extents(request.offset, request.length, limit);
  if (!found.ok()) {
    answer(slot, found.error());
    co_return;
  }
  struct Run {
    uint64_t length;
    uint32_t state;
  };
  std::vector<Run> runs;
  uint64_t left = request.length;
  for (const BlockExtent& extent : *found) {
    const uint64_t length = std::min(extent.length, left);
    if (length == 0) break;
    left -= length;
    const uint32_t state =
        (extent.allocated ? 0 : kStateHole) | (extent.reads_zero ? kStateZero : 0);
    if (!runs.empty() && runs.back().state == state) {
      runs.back().length += length;
    } else if (runs.size() < limit) {
      runs.push_back(Run{length, state});
    } else {
      break;
    }
  }
  if (runs.empty()) runs.push_back(Run{request.length, 0});  // nothing known: data
  append_chunk(&slot.heads, request.cookie, kChunkDone, Chunk::kBlockStatus,
               static_cast<uint32_t>(4 + 8 * runs.size()));
  Out out(&slot.heads);
  out.u32(kAllocationContextId);
  for (const Run& run : runs) {
    out.u32(static_cast<uint32_t>(run.length));
    out.u32(run.state);
  }
  slot.segments.push_back(slot.heads);
  queue(slot);
}

// --- answers
// --------------------------------------------------------------------------------------

void Transmission::answer(Slot& slot, const Status& status) {
  if (status.code() == ErrorCode::kClosed && options_.leaves_closed) {
    HF_PROBE("nbd.closed_left");
    return release(slot);
  }
  if (!status.ok()) {
    uint32_t nbd_errno = status.error().info().nbd_errno;
    if (nbd_errno == 0) nbd_errno = kErrnoIo;
    // Kept by the protocol for fast zeroing.
    if (nbd_errno == kErrnoNotSupported && (slot.request.flags & kFlagFastZero) == 0) {
      nbd_errno = kErrnoInvalid;
    }
    answer_error(slot, nbd_errno, status.error().message());
    return;
  }
  if (options_.structured && slot.request.command == Command::kRead) {
    append_chunk(&slot.heads, slot.request.cookie, kChunkDone, Chunk::kNone, 0);
  } else {
    append_simple_reply(&slot.heads, slot.request.cookie, 0);
  }
  slot.segments.push_back(slot.heads);
  queue(slot);
}

void Transmission::answer_error(Slot& slot, uint32_t nbd_errno, std::string_view why) {
  ++counts_.failed;
  slot.heads.clear();
  slot.segments.clear();
  if (options_.structured) {
    append_error_chunk(&slot.heads, slot.request.cookie, nbd_errno, why);
  } else {
    append_simple_reply(&slot.heads, slot.request.cookie, nbd_errno);
  }
  slot.segments.push_back(slot.heads);
  queue(slot);
}

// A read in one piece.
void Transmission::answer_read(Slot& slot) {
  slot.heads.reserve(kReplyHeadMax);
  if (options_.structured) {
    add_piece(slot, slot.request.offset, slot.data(), false, true);
    return;
  }
  append_simple_reply(&slot.heads, slot.request.cookie, 0);
  slot.segments.push_back(slot.heads);
  slot.segments.push_back(slot.data());
}

void Transmission::queue(Slot& slot) {
  replies_.push_back(&slot);
  reply_queued_.notify_all();
}

// --- writer
// ---------------------------------------------------------------------------------------

Task<void> Transmission::write_replies() {
  while (true) {
    while (replies_.empty() && !no_more_replies_) co_await reply_queued_.wait();
    if (replies_.empty()) co_return;
    gather();
    if (!broken_) {
      Status sent = co_await send_out();
      if (!sent.ok()) {
        broken_ = true;
        stream_.close();  // the reader ends, too
      }
    }
    for (Slot* slot : batch_) release(*slot);
    batch_.clear();
  }
}

// In parts, so that a client that takes a large answer slowly is not taken for one that takes
// nothing.
Task<Status> Transmission::send_out() {
  size_t at = 0;
  while (at < out_.size()) {
    part_.clear();
    uint64_t room = kSendBytesMax;
    while (at < out_.size() && room > 0) {
      const size_t here = std::min<uint64_t>(out_[at].size(), room);
      part_.push_back(out_[at].first(here));
      out_[at] = out_[at].subspan(here);
      room -= here;
      if (out_[at].empty()) ++at;
    }
    Status sent = co_await stream_.write_all(part_);
    HF_CO_TRY(sent);
    ++progress_;
  }
  co_return Status();
}

// Moves the oldest answers into batch_ and out_: at least one, and about kBatchSegmentsMax
// segments.
void Transmission::gather() {
  out_.clear();
  size_t count = 0;
  uint64_t bytes = 0;
  while (count < replies_.size() && out_.size() < kBatchSegmentsMax && bytes < kBatchBytesMax) {
    Slot& slot = *replies_[count++];
    bytes += slot.buffer.size();
    out_.insert(out_.end(), slot.segments.begin(), slot.segments.end());
    batch_.push_back(&slot);
  }
  replies_.erase(replies_.begin(), replies_.begin() + static_cast<ptrdiff_t>(count));
}

void Transmission::release(Slot& slot) {
  slot.heads.clear();
  slot.segments.clear();
  buffers_.give_back(std::move(slot.buffer));
  const uint64_t budget = std::exchange(slot.budget, 0);
  if (budget > 0) budget_.release(budget);
  MemoryBudget::Share* share = std::exchange(slot.share, nullptr);
  if (share != nullptr) options_.memory->give_back(*share, budget);
  if (std::exchange(slot.working, false)) {
    --working_;
    worked_.notify_all();
  }
  idle_slots_.push_back(&slot);
  free_slots_.release();
}

}  // namespace hf::nbd
