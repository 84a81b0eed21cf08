// Transmission: the second phase of one NBD connection, on a stream whose handshake is done (or
// never was, where both sides know what it would have said).
//
//   stream ─▶ reader ─▶ judge ─▶ one coroutine a request, concurrently ─▶ replies ─▶ writer ─▶
//   stream
//              │ waits for a slot and for memory: the bounds below are the client's back pressure
//
// Requests run concurrently, as the protocol allows, and are answered in the order of their ends.
// What ended together is sent in one system call. FUA is a write and then a flush of the device; a
// flush covers everything that was answered on any connection to the device, so several connections
// may share it.
//
// Small payloads come through the input buffer: one copy, for one receive of many requests instead of
// two receives a request. The rest of a large one is received in place. The buffer begins small and
// grows while receives of small requests fill it, so that an idle connection costs little.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "block/nbd/memory_budget.h"
#include "block/nbd/nbd_buffers.h"
#include "block/nbd/nbd_protocol.h"
#include "runtime/gate.h"
#include "runtime/net.h"
#include "runtime/sync.h"
#include "volume/block_device.h"

namespace hf::nbd {

struct TransmissionOptions {
  TransmissionOptions() = default;
  bool read_only = false;
  bool structured = false;
  bool allocation = false;
  // Of the buffer that requests and small payloads come through.
  size_t input_bytes_max = 128 * kKiB;
  // Bytes of request data, shared with other connections; outlives the transmission. Null: only the
  // connection's own bound.
  MemoryBudget* memory = nullptr;
  std::string memory_share;  // of those whose requests may get stuck together
  // What the device ends with kClosed stays unanswered: the client sends it again to who serves next.
  bool leaves_closed = false;
};

struct TransmissionCounts {
  uint64_t requests = 0;
  uint64_t failed = 0;  // answered with an error
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
};

// `device` behind an AlignFilter of its own, for byte-granular requests. Connections to one volume
// must share the filter: it is what keeps their partial blocks apart.
std::shared_ptr<BlockDevice> byte_granular(std::shared_ptr<BlockDevice> device);

class Transmission {
 public:
  static constexpr uint64_t kRequestsMax = 128;           // in progress, of one connection
  static constexpr uint64_t kBufferBytesMax = 64 * kMiB;  // of their data
  static constexpr size_t kInputBytesMin = 16 * kKiB;    // unless input_bytes_max is less
  static constexpr uint32_t kSmallPayload = 16 * kKiB;   // longer ones do not make it grow
  static constexpr size_t kStatusExtentsMax = 1024;      // in one answer
  static constexpr size_t kReadPiecesMax = 64;           // chunks of one read
  static constexpr uint32_t kSparseReadMin = 64 * kKiB;  // shorter reads do not ask for holes
  static constexpr size_t kBatchSegmentsMax = 64;        // sent at once
  static constexpr uint64_t kBatchBytesMax = 1 * kMiB;   // gathered, if more than one answer
  // Given to the stream at once. What a client takes of that is seen when it has taken all of it.
  static constexpr uint64_t kSendBytesMax = 256 * kKiB;

  // The stream and the pool outlive this. `device` takes any range (byte_granular), or the client
  // is known to ask for whole blocks only.
  Transmission(Stream& stream, std::shared_ptr<BlockDevice> device, BufferPool& buffers,
               TransmissionOptions options);
  ~Transmission();
  Transmission(const Transmission&) = delete;
  Transmission& operator=(const Transmission&) = delete;

  // Serves until the connection ends; closes the stream. When it returns, no operation of this
  // connection is under way any more, so that another connection may go on safely.
  // Ok: the client said goodbye. kCancelled: drain() was called. kClosed: the connection went away
  // without a goodbye. kProtocol: what came was not NBD. Once only.
  Task<Status> run();
  // Answers what is being worked on, takes no further request, closes the stream. Returns when that
  // is done; run() then ends. What the client sent meanwhile has not been begun: one that connects
  // again sends it again, and sees a pause instead of an error. To stop waiting for a client that
  // takes no answers, close the stream; operations of the device are awaited in any case. May come
  // before run.
  Task<void> drain();

  const TransmissionCounts& counts() const { return counts_; }
  uint64_t in_progress() const { return working_; }
  // In the middle of a request or an answer, whose rest is up to the client; while progress() stays
  // the same, it does nothing for it.
  bool waits_for_client() const { return receiving_ || !batch_.empty(); }
  uint64_t progress() const { return progress_; }

 private:
  // One request from its acceptance until its answer is sent. Reused, with what it has allocated.
  struct Slot {
    Request request;
    AlignedBuffer buffer;
    uint64_t budget = 0;
    MemoryBudget::Share* share = nullptr;  // that `budget` is taken from
    bool working = false;
    std::vector<std::byte> heads;    // what is not data; never reallocated once segments point in
    std::vector<ByteSpan> segments;  // the answer, in order
    MutableByteSpan data() { return buffer.span().first(request.length); }
  };

  Rules rules() const;
  Task<Status> read_requests();
  Task<Status> accept(Request request);
  Task<Status> discard_input();
  Task<Status> fill(size_t bytes);
  Task<Status> receive(MutableByteSpan out);
  Task<Status> skip(uint64_t bytes);
  void take_input(size_t bytes) { in_begin_ += bytes; }
  size_t input_size() const { return in_end_ - in_begin_; }
  void grow_input();
  void start(Slot& slot);

  Task<void> serve_read(Slot& slot);
  Task<Status> read_sparse(Slot& slot);
  void add_piece(Slot& slot, uint64_t offset, MutableByteSpan data, bool hole, bool last);
  Task<void> serve_write(Slot& slot);
  Task<void> serve_clear(Slot& slot);
  Task<void> serve_flush(Slot& slot);
  Task<void> serve_status(Slot& slot);
  Task<Status> flush_if_asked(const Slot& slot);
  void answer(Slot& slot, const Status& status);
  void answer_error(Slot& slot, uint32_t nbd_errno, std::string_view why);
  void answer_read(Slot& slot);
  void queue(Slot& slot);

  Task<void> write_replies();
  Task<Status> send_out();
  Task<void> take_memory(Slot& slot);
  void gather();
  void release(Slot& slot);

  Stream& stream_;
  const std::shared_ptr<BlockDevice> device_;
  BufferPool& buffers_;
  const TransmissionOptions options_;
  TransmissionCounts counts_;

  AlignedBuffer input_;
  size_t in_begin_ = 0;
  size_t in_end_ = 0;
  bool input_filled_ = false;  // by the last receive
  uint32_t last_payload_ = 0;  // of the last write
  bool receiving_ = false;     // the rest of a request
  uint64_t progress_ = 0;      // receives and sends that ended

  Semaphore free_slots_{kRequestsMax};
  Semaphore budget_{kBufferBytesMax};
  // Writes wait for space where reads do not. Null without a shared budget.
  std::shared_ptr<MemoryBudget::Share> read_share_;
  std::shared_ptr<MemoryBudget::Share> write_share_;
  std::vector<std::unique_ptr<Slot>> slots_;  // made when first needed
  std::vector<Slot*> idle_slots_;

  std::vector<Slot*> replies_;  // answered, not yet sent
  std::vector<Slot*> batch_;    // being sent
  std::vector<ByteSpan> out_;
  std::vector<ByteSpan> part_;  // of out_, being sent
  Signal reply_queued_;
  bool no_more_replies_ = false;
  bool broken_ = false;  // nothing can be sent any more

  uint64_t working_ = 0;  // requests being carried out, until their answer is sent
  Signal worked_;
  bool draining_ = false;
  Gate requests_;
  Gate writer_;
  Gate drains_;
};

}  // namespace hf::nbd
