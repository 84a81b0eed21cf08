// Transmission: serves the kernel's end of one NBD connection over a Stream, from the first request
// on (the kernel does not negotiate when it is attached by netlink). Simple replies only, as it
// sends them.
//
//   kernel ──Stream──▶ serve(): header, payload of a write ──spawn──▶ one coroutine per request
//   kernel ◀── one write per reply, one at a time ◀──────────────────── AlignFilter → BlockDevice
//
// Bounds: kInFlightBytes of request data for all connections of a driver together (who finds none
// stops reading), kInFlightMax requests a connection. Anything malformed ends the connection with a
// log line. FUA means: on stable media when answered, so a flush follows the write.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "runtime/gate.h"
#include "runtime/net.h"
#include "runtime/sync.h"
#include "volume/block_device.h"

namespace hf::nbdk {

inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr size_t kRequestBytes = 28;
inline constexpr size_t kReplyBytes = 16;
inline constexpr uint32_t kPayloadMax = 32 * kMiB;
inline constexpr uint64_t kInFlightMax = 256;
inline constexpr uint64_t kInFlightBytes = 64 * kMiB;

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kWriteZeroes = 6
};
inline constexpr uint16_t kFlagFua = 1 << 0;
inline constexpr uint16_t kFlagNoHole = 1 << 1;

struct Request {
  uint16_t flags = 0;
  Command command = Command::kRead;
  uint64_t cookie = 0;
  uint64_t offset = 0;
  uint32_t length = 0;
  // Bytes that follow the header.
  uint32_t payload() const { return command == Command::kWrite ? length : 0; }
};

// Pure. kProtocol for a wrong magic, an unknown command, or a read or write of more than
// kPayloadMax: after these the stream cannot be followed any more. Ranges are checked where they
// are used.
Result<Request> decode_request(ByteSpan header);
void encode_reply(uint64_t cookie, uint32_t nbd_errno, std::byte* out);

class Transmission {
 public:
  // `budget`: kInFlightBytes in units of kBlockSize, shared. All outlive this.
  Transmission(std::unique_ptr<Stream> stream, std::string name, BlockDevice& device,
               Semaphore& budget)
      : stream_(std::move(stream)), name_(std::move(name)), device_(device), budget_(budget) {}

  enum class End : uint8_t {
    kDisconnected,  // the kernel said goodbye: the device was detached
    kLost,  // the kernel gave the connection up, or died; reconnect if the device is still wanted
    kStopped,  // by close()
  };
  // Serves until the end; on return every operation that was started has ended.
  Task<End> serve();
  // Stops reading; serve() ends when what runs has been answered. What the kernel sent since is
  // lost for this connection: it sends it again on the next.
  void close();
  uint64_t requests() const { return requests_; }

 private:
  Task<Status> fill(size_t bytes);
  Task<Status> read_payload(MutableByteSpan out);
  Task<Status> receive_one(End* end);
  Task<void> run(Request request, AlignedBuffer data, uint64_t units);
  Task<Status> perform(Request request, MutableByteSpan data);
  Task<void> reply(uint64_t cookie, const Status& done, ByteSpan data);

  std::unique_ptr<Stream> stream_;
  const std::string name_;
  BlockDevice& device_;
  Semaphore& budget_;
  Semaphore slots_{kInFlightMax};
  Mutex write_mutex_;
  std::vector<std::byte> buffer_ =
      std::vector<std::byte>(8 * kKiB);  // small: a thousand idle volumes
  size_t begin_ = 0, end_ = 0;           // of what was read and not yet used
  bool stopping_ = false;
  uint64_t requests_ = 0;
  Gate gate_;
};

}  // namespace hf::nbdk
