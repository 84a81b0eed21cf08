// Bytes: little-endian readers and writers with bounds, and page-aligned buffers for direct I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/assert.h"
#include "base/units.h"

namespace hf {

using ByteSpan = std::span<const std::byte>;
using MutableByteSpan = std::span<std::byte>;

inline ByteSpan as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Writes fixed-size little-endian integers. Overrunning is a bug of the caller (asserted): the
// structures that we write have sizes known at compile time.
class ByteWriter {
 public:
  explicit ByteWriter(MutableByteSpan out) : out_(out) {}
  template <typename T>
  void put(T value) {
    static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>);
    HF_ASSERT(at_ + sizeof value <= out_.size(), "{} + {} > {}", at_, sizeof value, out_.size());
    std::memcpy(out_.data() + at_, &value, sizeof value);  // x86-64 and arm64 are little-endian
    at_ += sizeof value;
  }
  void put_bytes(ByteSpan bytes) {
    HF_ASSERT(at_ + bytes.size() <= out_.size(), "{} + {} > {}", at_, bytes.size(), out_.size());
    if (!bytes.empty()) std::memcpy(out_.data() + at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  void put_zeros(size_t count) {
    HF_ASSERT(at_ + count <= out_.size());
    std::memset(out_.data() + at_, 0, count);
    at_ += count;
  }
  size_t position() const { return at_; }

 private:
  MutableByteSpan out_;
  size_t at_ = 0;
};

// Reads what an untrusted party wrote: running past the end makes it fail() for good and every later
// read returns zero, so that a decoder may read all fields and test once.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan in) : in_(in) {}
  template <typename T>
  T get() {
    static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>);
    T value{};
    if (!take(sizeof value)) return value;
    std::memcpy(&value, in_.data() + at_ - sizeof value, sizeof value);
    return value;
  }
  // An empty span when too few bytes are left.
  ByteSpan get_bytes(size_t count) {
    if (!take(count)) return {};
    return in_.subspan(at_ - count, count);
  }
  void skip(size_t count) { (void)take(count); }
  bool failed() const { return failed_; }
  size_t position() const { return at_; }
  size_t remaining() const { return in_.size() - at_; }

 private:
  bool take(size_t count) {
    if (failed_ || count > in_.size() - at_) {
      failed_ = true;
      return false;
    }
    at_ += count;
    return true;
  }
  ByteSpan in_;
  size_t at_ = 0;
  bool failed_ = false;
};

// Owned memory aligned to kBlockSize, for O_DIRECT. Not zeroed unless asked. Move-only.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size) : size_(size) {
    if (size == 0) return;
    data_ = static_cast<std::byte*>(std::aligned_alloc(kBlockSize, round_up(size, kBlockSize)));
    HF_ASSERT(data_ != nullptr, "out of memory for {} bytes", size);
  }
  static AlignedBuffer zeroed(size_t size) {
    AlignedBuffer buffer(size);
    if (size > 0) std::memset(buffer.data_, 0, size);
    return buffer;
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() { std::free(data_); }

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  MutableByteSpan span() { return {data_, size_}; }
  ByteSpan span() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

inline bool all_zero(ByteSpan bytes) {
  // Compares the span with itself shifted by one byte: memcmp is vectorised.
  return bytes.empty() ||
         (bytes[0] == std::byte{0} &&
          (bytes.size() == 1 || std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0));
}

}  // namespace hf
