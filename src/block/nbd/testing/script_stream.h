// ScriptStream: a Stream whose peer has already said all it has to say. Gives its input in pieces
// of a chosen size, then the end; keeps what is written. Test code only.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "runtime/net.h"

namespace hf::nbd {

class ScriptStream final : public Stream {
 public:
  explicit ScriptStream(std::vector<std::byte> input, size_t piece = SIZE_MAX)
      : input_(std::move(input)), piece_(piece) {}

  Task<Result<size_t>> read_some(MutableByteSpan out) override {
    co_await yield();
    if (closed_) co_return Error(ErrorCode::kClosed, "closed by this side");
    const size_t n = std::min({out.size(), input_.size() - at_, piece_});
    std::copy_n(input_.begin() + static_cast<ptrdiff_t>(at_), n, out.begin());
    at_ += n;
    co_return n;
  }
  Task<Status> write_all(std::span<const ByteSpan> segments) override {
    co_await yield();
    ++writes;
    if (closed_) co_return Error(ErrorCode::kClosed, "closed by this side");
    if (fail_writes) co_return Error(ErrorCode::kClosed, "the test wants it so");
    for (const ByteSpan segment : segments) {
      output.insert(output.end(), segment.begin(), segment.end());
    }
    co_return Status();
  }
  void close() override { closed_ = true; }
  const std::string& peer() const override { return peer_; }
  bool is_closed() const { return closed_; }

  std::vector<std::byte> output;
  uint64_t writes = 0;
  bool fail_writes = false;

 private:
  const std::vector<std::byte> input_;
  const size_t piece_;
  const std::string peer_ = "script";
  size_t at_ = 0;
  bool closed_ = false;
};

}  // namespace hf::nbd
