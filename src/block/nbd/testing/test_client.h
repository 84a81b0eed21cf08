// A small NBD client over any Stream: enough to ask for everything that the server offers. Test
// code only.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "block/nbd/testing/reply_parser.h"
#include "runtime/net.h"

namespace hf::nbd {

struct TestOptionReply {
  OptionReply type = OptionReply::kAck;
  std::vector<std::byte> payload;
};

class TestClient {
 public:
  explicit TestClient(std::unique_ptr<Stream> stream) : stream_(std::move(stream)) {}

  Task<Status> greet(uint32_t client_flags) {
    std::byte greeting[kGreetingBytes];
    Status got = co_await stream_->read_exact(greeting);
    HF_CO_TRY(got);
    if (big_endian(greeting, 0, 8) != kServerMagic || big_endian(greeting, 8, 8) != kOptionMagic) {
      co_return Error(ErrorCode::kProtocol, "no greeting of an NBD server");
    }
    std::vector<std::byte> flags;
    Out out(&flags);
    out.u32(client_flags);
    co_return co_await stream_->write_bytes(flags);
  }

  // All replies, the final one last.
  Task<Result<std::vector<TestOptionReply>>> option(Option option, std::vector<std::byte> data) {
    std::vector<std::byte> bytes;
    Out out(&bytes);
    out.u64(kOptionMagic);
    out.u32(static_cast<uint32_t>(option));
    out.u32(static_cast<uint32_t>(data.size()));
    out.raw(data);
    Status sent = co_await stream_->write_bytes(bytes);
    HF_CO_TRY(sent);
    std::vector<TestOptionReply> replies;
    while (true) {
      std::byte head[20];
      Status got = co_await stream_->read_exact(head);
      HF_CO_TRY(got);
      if (big_endian(head, 0, 8) != kOptionReplyMagic ||
          big_endian(head, 8, 4) != static_cast<uint32_t>(option)) {
        co_return Error(ErrorCode::kProtocol, "not the reply to this option");
      }
      TestOptionReply reply;
      reply.type = static_cast<OptionReply>(big_endian(head, 12, 4));
      reply.payload.resize(big_endian(head, 16, 4));
      if (!reply.payload.empty()) got = co_await stream_->read_exact(reply.payload);
      HF_CO_TRY(got);
      replies.push_back(std::move(reply));
      const OptionReply type = replies.back().type;
      if (type == OptionReply::kAck || static_cast<uint32_t>(type) >> 31 != 0) break;
    }
    co_return std::move(replies);
  }

  // The usual way in: structured replies, base:allocation, GO. kNotFound where GO is refused.
  Task<Status> go(std::string name, bool structured) {
    Status greeted = co_await greet(kFixedNewstyle | kNoZeroes);
    HF_CO_TRY(greeted);
    if (structured) {
      std::vector<std::byte> none;
      Result<std::vector<TestOptionReply>> agreed =
          co_await option(Option::kStructuredReply, std::move(none));
      HF_CO_TRY(agreed);
      std::vector<std::byte> query;
      Out out(&query);
      out.u32(static_cast<uint32_t>(name.size()));
      out.text(name);
      out.u32(1);
      out.u32(static_cast<uint32_t>(kAllocationContext.size()));
      out.text(kAllocationContext);
      agreed = co_await option(Option::kSetMetaContext, std::move(query));
      HF_CO_TRY(agreed);
    }
    std::vector<std::byte> data;
    Out out(&data);
    out.u32(static_cast<uint32_t>(name.size()));
    out.text(name);
    out.u16(0);
    Result<std::vector<TestOptionReply>> replies = co_await option(Option::kGo, std::move(data));
    HF_CO_TRY(replies);
    if (replies->back().type != OptionReply::kAck) {
      co_return Error(ErrorCode::kNotFound, "GO was refused");
    }
    for (const TestOptionReply& reply : *replies) {
      if (reply.type == OptionReply::kInfo && big_endian(reply.payload, 0, 2) == 0) {
        size_ = big_endian(reply.payload, 2, 8);
        flags_ = static_cast<uint16_t>(big_endian(reply.payload, 10, 2));
      }
    }
    co_return Status();
  }

  Task<Status> send(Request request, ByteSpan payload) {
    std::vector<std::byte> head;
    append_request(&head, request);
    if (request.command != Command::kDisconnect) parser_.sent(request);
    const ByteSpan segments[2] = {head, payload};
    co_return co_await stream_->write_all(segments);
  }
  // Receives until `count` answers are there; they stay in done().
  Task<Status> receive(size_t count) {
    while (parser_.done().size() < count) {
      std::byte buffer[16 * 1024];
      Result<size_t> n = co_await stream_->read_some(buffer);
      HF_CO_TRY(n);
      if (*n == 0) co_return Error(ErrorCode::kClosed, "the server closed the connection");
      input_.insert(input_.end(), buffer, buffer + *n);
      const Result<size_t> used = parser_.parse(input_);
      HF_CO_TRY(used);
      input_.erase(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(*used));
    }
    co_return Status();
  }
  Task<Result<TestReply>> call(Request request, ByteSpan payload) {
    Status status = co_await send(request, payload);
    HF_CO_TRY(status);
    status = co_await receive(1);
    HF_CO_TRY(status);
    std::map<uint64_t, TestReply> done = parser_.take_done();
    co_return std::move(done.begin()->second);
  }
  // True when the server closes in order, without another byte.
  Task<bool> sees_the_end() {
    std::byte buffer[1];
    Result<size_t> n = co_await stream_->read_some(buffer);
    co_return !n.ok() || *n == 0;
  }

  ReplyParser& parser() { return parser_; }
  Stream& stream() { return *stream_; }
  uint64_t size() const { return size_; }
  uint16_t flags() const { return flags_; }

 private:
  std::unique_ptr<Stream> stream_;
  ReplyParser parser_;
  std::vector<std::byte> input_;
  uint64_t size_ = 0;
  uint16_t flags_ = 0;
};

}  // namespace hf::nbd
