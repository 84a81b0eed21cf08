#include "block/nbd/kernel/transmission.h"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace hf::nbdk {
namespace {

template <typename T>
T big_endian_at(ByteSpan bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  if constexpr (sizeof value == 2) return be16toh(value);
  if constexpr (sizeof value == 4) return be32toh(value);
  if constexpr (sizeof value == 8) return be64toh(value);
}

bool is_known(uint16_t command) {
  return command <= static_cast<uint16_t>(Command::kTrim) ||
         command == static_cast<uint16_t>(Command::kWriteZeroes);
}

}  // namespace

Result<Request> decode_request(ByteSpan header) {
  HF_ASSERT(header.size() == kRequestBytes, "{}", header.size());
  if (big_endian_at<uint32_t>(header, 0) != kRequestMagic) {
    return make_error(ErrorCode::kProtocol, "an NBD request begins with {:#x}",
                      big_endian_at<uint32_t>(header, 0));
  }
  Request request;
  request.flags = big_endian_at<uint16_t>(header, 4);
  const auto command = big_endian_at<uint16_t>(header, 6);
  std::memcpy(&request.cookie, header.data() + 8,
              sizeof request.cookie);  // opaque: sent back as it is
  request.offset = big_endian_at<uint64_t>(header, 16);
  request.length = big_endian_at<uint32_t>(header, 24);
  if (!is_known(command)) {
    return make_error(ErrorCode::kProtocol, "NBD command {} is unknown", command);
  }
  request.command = static_cast<Command>(command);
  const bool carries_data = request.command == Command::kRead || request.command == Command::kWrite;
  if (carries_data && request.length > kPayloadMax) {
    return make_error(ErrorCode::kProtocol, "an NBD request of {} bytes is longer than {}",
                      request.length, kPayloadMax);
  }
  return request;
}

void encode_reply(uint64_t cookie, uint32_t nbd_errno, std::byte* out) {
  const uint32_t magic = htobe32(kSimpleReplyMagic);
  const uint32_t error = htobe32(nbd_errno);
  std::memcpy(out, &magic, sizeof magic);
  std::memcpy(out + 4, &error, sizeof error);
  std::memcpy(out + 8, &cookie, sizeof cookie);
}

void Transmission::close() {
  stopping_ = true;
  // Only the reading is to end; but a Stream closes whole, so what still runs is waited for in
  // serve() and answered into nothing: the kernel sends it again.
  stream_->close();
}

// At least `bytes` in the buffer.
Task<Status> Transmission::fill(size_t bytes) {
  HF_ASSERT(bytes <= buffer_.size());
  while (end_ - begin_ < bytes) {
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    Result<size_t> n = co_await stream_->read_some(MutableByteSpan(buffer_).subspan(end_));
    HF_CO_TRY(n);
    if (*n == 0) co_return make_error(ErrorCode::kClosed, "the kernel closed the connection");
    end_ += *n;
  }
  co_return Status();
}

Task<Status> Transmission::read_payload(MutableByteSpan out) {
  const size_t there = std::min(out.size(), end_ - begin_);
  std::memcpy(out.data(), buffer_.data() + begin_, there);
  begin_ += there;
  if (there == out.size()) co_return Status();
  co_return co_await stream_->read_exact(out.subspan(there));
}

Task<Status> Transmission::receive_one(End* end) {
  Status filled = co_await fill(kRequestBytes);
  HF_CO_TRY(filled);
  const Result<Request> request = decode_request(ByteSpan(buffer_).subspan(begin_, kRequestBytes));
  begin_ += kRequestBytes;
  HF_CO_TRY(request);
  ++requests_;
  if (request->command == Command::kDisconnect) {
    *end = End::kDisconnected;
    co_return Error(ErrorCode::kClosed, "disconnected");
  }
  const bool carries_data =
      request->command == Command::kRead || request->command == Command::kWrite;
  const uint64_t bytes = carries_data ? request->length : 0;
  const uint64_t units = round_up(bytes, kBlockSize) / kBlockSize;
  co_await slots_.acquire();
  co_await budget_.acquire(units);
  AlignedBuffer data(bytes);
  if (request->payload() > 0) {
    Status read = co_await read_payload(data.span());
    if (!read.ok()) {
      slots_.release();
      budget_.release(units);
      co_return read;
    }
  }
  const Request copy = *request;
  HF_ASSERT(spawn(gate_, run(copy, std::move(data), units)));
  co_return Status();
}

Task<Transmission::End> Transmission::serve() {
  End end = End::kLost;
  Status status;
  while (status.ok() && !stopping_) {
    status = co_await receive_one(&end);
  }
  if (!status.ok() && status.code() == ErrorCode::kProtocol && end != End::kDisconnected &&
      !stopping_) {
    HF_LOG(kError, "block", "nbd_connection_broken device={} error=\"{}\"", name_,
           status.error().message());
  }
  stream_->close();
  co_await gate_.close();
  co_return stopping_ ? End::kStopped : end;
}

Task<void> Transmission::run(Request request, AlignedBuffer data, uint64_t units) {
  Status done = co_await perform(request, data.span());
  const bool sends_data = request.command == Command::kRead && done.ok();
  co_await reply(request.cookie, done, sends_data ? ByteSpan(data.span()) : ByteSpan());
  budget_.release(units);
  slots_.release();
}

Task<Status> Transmission::perform(Request request, MutableByteSpan data) {
  Status done;
  switch (request.command) {
    case Command::kRead:
      done = co_await device_.read(request.offset, data);
      break;
    case Command::kWrite:
      done = co_await device_.write(request.offset, data);
      break;
    case Command::kFlush:
      done = co_await device_.flush();
      break;
    case Command::kTrim:
      done = co_await device_.discard(request.offset, request.length);
      break;
    case Command::kWriteZeroes: {
      const bool deallocate = (request.flags & kFlagNoHole) == 0;
      done = co_await device_.write_zeroes(request.offset, request.length, deallocate);
      break;
    }
    case Command::kDisconnect:
      break;
  }
  const bool writes = request.command != Command::kRead && request.command != Command::kFlush;
  if (done.ok() && writes && (request.flags & kFlagFua) != 0) done = co_await device_.flush();
  co_return done;
}

Task<void> Transmission::reply(uint64_t cookie, const Status& done, ByteSpan data) {
  std::byte header[kReplyBytes];
  encode_reply(cookie, done.ok() ? 0 : done.error().info().nbd_errno, header);
  const ByteSpan segments[2] = {header, data};
  co_await write_mutex_.lock();
  MutexGuard guard(write_mutex_);
  Status sent =
      co_await stream_->write_all(std::span<const ByteSpan>(segments, data.empty() ? 1 : 2));
  // A connection that is gone is noticed by the reader; the kernel asks again on the next one.
  (void)sent;
}

}  // namespace hf::nbdk
