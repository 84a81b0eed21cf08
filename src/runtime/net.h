// Streams: reliable byte streams between processes.
//
// Addresses are text: "unix:/run/x.sock" or "tcp:127.0.0.1:10809" (IPv6 as "tcp:[::1]:10809").
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/cancel.h"
#include "runtime/clock.h"
#include "runtime/task.h"

namespace hf {

// One connection. At most one read and one write in flight at a time (asserted). Destroy only with none
// in flight: close(), then await what was pending (it ends with kClosed).
class Stream {
 public:
  virtual ~Stream() = default;
  // At least one byte; 0 means that the peer closed its side in order. kClosed after a reset.
  virtual Task<Result<size_t>> read_some(MutableByteSpan out) = 0;
  // All of it, in order. After an error the stream is useless: some of it may have been sent.
  virtual Task<Status> write_all(std::span<const ByteSpan> segments) = 0;
  // Ends both directions now; pending operations end with kClosed. Idempotent.
  virtual void close() = 0;
  virtual const std::string& peer() const = 0;

  // Exactly out.size() bytes: kClosed if the peer closes before the first, kProtocol in the middle.
  Task<Status> read_exact(MutableByteSpan out);
  Task<Status> write_bytes(ByteSpan bytes);
};

class Listener {
 public:
  virtual ~Listener() = default;
  // kClosed after close().
  virtual Task<Result<std::unique_ptr<Stream>>> accept() = 0;
  // Stops listening and ends a pending accept. Idempotent.
  virtual void close() = 0;
  // With the port that the system chose, where 0 was asked for.
  virtual const std::string& address() const = 0;
};

// The next connection. An accept that fails (no descriptors left) is logged as `who`'s and done again a while later, since
// it passes. kClosed, kCancelled: no more come.
Task<Result<std::unique_ptr<Stream>>> accept_next(Listener& listener, Clock& clock, std::string who, CancelToken cancel);

struct ListenOptions {
  int backlog = 128;
  uint32_t unix_mode = 0600;  // permissions of a Unix socket, set before it can be connected to
};

class Network {
 public:
  virtual ~Network() = default;
  // A Unix path left behind by a dead process is replaced; one that still answers is kInUse.
  virtual Task<Result<std::unique_ptr<Listener>>> listen(std::string address,
                                                         ListenOptions options) = 0;
  // kUnavailable where nobody listens (of a Unix path also kNotFound), kTimeout when nobody answers.
  virtual Task<Result<std::unique_ptr<Stream>>> connect(std::string address, Duration timeout) = 0;
};

}  // namespace hf
