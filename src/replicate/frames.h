// Frames of the peer protocol over a stream: a reader that checks everything before it hands it
// out, and a writer that sends what is queued in as few calls as it can. Both ends of a connection
// use them.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "format/peer_format.h"
#include "replicate/port.h"
#include "runtime/net.h"
#include "runtime/sync.h"

namespace hf {

struct InFrame {
  InFrame() = default;
  PeerFrame frame;
  std::vector<std::byte> body;
  std::shared_ptr<AlignedBuffer> data;  // null without data
};

class FrameReader {
 public:
  explicit FrameReader(Stream& stream) : stream_(stream), buffer_(kBufferBytes) {}
  // kClosed, kProtocol (also: a checksum does not match; nothing of the frame counts),
  // kNotSupported.
  Task<Result<InFrame>> next();

 private:
  static constexpr size_t kBufferBytes = 64 * kKiB;
  Task<Status> take(MutableByteSpan out);

  Stream& stream_;
  std::vector<std::byte> buffer_;
  size_t begin_ = 0, end_ = 0;
};

class FrameWriter {
 public:
  explicit FrameWriter(Stream& stream) : stream_(stream) {}
  // At the end of the queue, at once.
  void push(PeerFrame frame, std::vector<std::byte> body, WriteData data);
  // Returns when all that was pushed before has been sent, or never will be.
  Task<void> flushed();
  // Sends until the stream fails or stop() is called.
  Task<void> run();
  void stop() {
    stopped_ = true;
    changed_.notify_all();
  }

 private:
  static constexpr size_t kAtATime = 64;
  struct Out {
    Out() = default;
    std::vector<std::byte> head;  // header and body
    WriteData data;
  };
  Stream& stream_;
  std::deque<Out> queue_;
  Signal changed_;
  bool sending_ = false;
  bool stopped_ = false;
};

}  // namespace hf
