#include "replicate/frames.h"

#include <algorithm>

#include "base/crc32c.h"

namespace hf {

Task<Status> FrameReader::take(MutableByteSpan out) {
  size_t at = 0;
  while (at < out.size()) {
    if (begin_ == end_) {
      // What is long goes straight where it belongs.
      if (out.size() - at >= kBufferBytes) {
        Status rest = co_await stream_.read_exact(out.subspan(at));
        co_return rest;
      }
      Result<size_t> got = co_await stream_.read_some(buffer_);
      HF_CO_TRY(got);
      if (*got == 0) {
        co_return make_error(ErrorCode::kClosed, "{} closed the connection", stream_.peer());
      }
      begin_ = 0;
      end_ = *got;
    }
    const size_t some = std::min(end_ - begin_, out.size() - at);
    std::memcpy(out.data() + at, buffer_.data() + begin_, some);
    begin_ += some;
    at += some;
  }
  co_return Status();
}

Task<Result<InFrame>> FrameReader::next() {
  std::byte header[kPeerHeaderBytes];
  Status got = co_await take(header);
  HF_CO_TRY(got);
  Result<PeerFrame> frame = decode_peer_frame(header);
  HF_CO_TRY(frame);
  InFrame in;
  in.frame = *frame;
  in.body.resize(frame->body_bytes);
  got = co_await take(in.body);
  HF_CO_TRY(got);
  if (crc32c(in.body) != frame->body_crc) {
    co_return make_error(ErrorCode::kProtocol, "{}: checksum of a frame's body", stream_.peer());
  }
  if (frame->data_bytes == 0) co_return in;
  in.data = std::make_shared<AlignedBuffer>(frame->data_bytes);
  got = co_await take(in.data->span());
  HF_CO_TRY(got);
  if (crc32c(in.data->span()) != frame->data_crc) {
    co_return make_error(ErrorCode::kProtocol, "{}: checksum of a frame's data", stream_.peer());
  }
  co_return in;
}

void FrameWriter::push(PeerFrame frame, std::vector<std::byte> body, WriteData data) {
  frame.body_bytes = static_cast<uint32_t>(body.size());
  frame.body_crc = crc32c(body);
  frame.data_bytes = static_cast<uint32_t>(data.bytes().size());
  frame.data_crc = data.bytes().empty() ? 0 : crc32c(data.bytes());
  Out out;
  out.head.resize(kPeerHeaderBytes + body.size());
  encode_peer_frame(frame, MutableByteSpan(out.head).first(kPeerHeaderBytes));
  if (!body.empty()) std::memcpy(out.head.data() + kPeerHeaderBytes, body.data(), body.size());
  out.data = std::move(data);
  queue_.push_back(std::move(out));
  changed_.notify_all();
}

Task<void> FrameWriter::run() {
  std::vector<Out> sending;
  std::vector<ByteSpan> segments;
  while (true) {
    while (queue_.empty() && !stopped_) co_await changed_.wait();
    if (stopped_) co_return;
    sending.clear();
    segments.clear();
    while (!queue_.empty() && sending.size() < kAtATime) {
      sending.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    for (const Out& out : sending) {
      segments.push_back(out.head);
      if (!out.data.bytes().empty()) segments.push_back(out.data.bytes());
    }
    sending_ = true;
    Status sent = co_await stream_.write_all(segments);
    sending_ = false;
    if (!sent.ok()) stopped_ = true;
    changed_.notify_all();
  }
}

Task<void> FrameWriter::flushed() {
  while ((sending_ || !queue_.empty()) && !stopped_) co_await changed_.wait();
}

}  // namespace hf
