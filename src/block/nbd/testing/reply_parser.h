// Takes apart what a server sends in the transmission phase, and refuses what the protocol forbids
// it to send. Pure; test code only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "block/nbd/nbd_protocol.h"

namespace hf::nbd {

inline uint64_t big_endian(ByteSpan bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

struct TestExtent {
  uint32_t length = 0;
  uint32_t state = 0;
};

// The whole answer to one request.
struct TestReply {
  uint32_t nbd_errno = 0;
  std::string text;
  std::vector<std::byte> data;  // of a read: all of it, holes as zeroes
  size_t data_chunks = 0;
  size_t hole_chunks = 0;
  std::vector<TestExtent> extents;
};

class ReplyParser {
 public:
  // A request that was sent and is to be answered. Its cookie is not in use.
  void sent(const Request& request) {
    Pending pending;
    pending.request = request;
    if (request.command == Command::kRead) {
      pending.reply.data.resize(request.length);
      pending.missing = request.length;
    }
    pending_.emplace(request.cookie, std::move(pending));
  }
  size_t outstanding() const { return pending_.size(); }
  const std::map<uint64_t, TestReply>& done() const { return done_; }
  std::map<uint64_t, TestReply> take_done() { return std::exchange(done_, {}); }

  // Takes what is complete from the front of `bytes`; how many bytes that was.
  Result<size_t> parse(ByteSpan bytes) {
    size_t used = 0;
    while (true) {
      Result<size_t> n = one(bytes.subspan(used));
      if (!n.ok()) return n.error();
      if (*n == 0) return used;
      used += *n;
    }
  }

 private:
  struct Pending {
    Request request;
    TestReply reply;
    uint64_t missing = 0;
    std::map<uint64_t, uint64_t> seen;  // chunks of a read: begin, end
  };

  static Error bad(const std::string& what) { return Error(ErrorCode::kProtocol, what); }

  Result<size_t> one(ByteSpan in) {
    if (in.size() < 4) return size_t{0};
    const auto magic = static_cast<uint32_t>(big_endian(in, 0, 4));
    if (magic == kSimpleReplyMagic) return simple(in);
    if (magic == kChunkMagic) return chunk(in);
    return bad(fmt::format("a reply begins with {:#x}", magic));
  }

  Result<size_t> simple(ByteSpan in) {
    if (in.size() < 16) return size_t{0};
    const auto at = pending_.find(big_endian(in, 8, 8));
    if (at == pending_.end()) return bad("a reply to nothing");
    Pending& pending = at->second;
    pending.reply.nbd_errno = static_cast<uint32_t>(big_endian(in, 4, 4));
    size_t size = 16;
    if (pending.request.command == Command::kRead && pending.reply.nbd_errno == 0) {
      size += pending.request.length;
      if (in.size() < size) return size_t{0};
      pending.reply.data.assign(in.begin() + 16, in.begin() + static_cast<ptrdiff_t>(size));
    }
    finish(at);
    return size;
  }

  Result<size_t> chunk(ByteSpan in) {
    if (in.size() < 20) return size_t{0};
    const size_t size = 20 + big_endian(in, 16, 4);
    if (in.size() < size) return size_t{0};
    const auto at = pending_.find(big_endian(in, 8, 8));
    if (at == pending_.end()) return bad("a chunk for nothing");
    const bool last = (big_endian(in, 4, 2) & kChunkDone) != 0;
    const ByteSpan body = in.first(size).subspan(20);
    Status fine;
    switch (static_cast<Chunk>(big_endian(in, 6, 2))) {
      case Chunk::kNone:
        if (!last || !body.empty()) return bad("NONE is last and empty");
        break;
      case Chunk::kOffsetData:
        fine = content(at->second, body, false);
        break;
      case Chunk::kOffsetHole:
        fine = content(at->second, body, true);
        break;
      case Chunk::kBlockStatus:
        fine = status(at->second, body);
        break;
      case Chunk::kError:
        fine = error(at->second, body);
        break;
      default:
        return bad("unknown chunk");
    }
    if (!fine.ok()) return fine.error();
    if (last) {
      const Pending& done = at->second;
      if (done.reply.nbd_errno == 0 && done.missing != 0) return bad("a read with gaps");
      if ((done.request.flags & kFlagDf) != 0 &&
          done.reply.data_chunks + done.reply.hole_chunks > 1) {
        return bad("a fragmented reply in spite of DF");
      }
      finish(at);
    }
    return size;
  }

  static Status content(Pending& pending, ByteSpan body, bool hole) {
    if (pending.request.command != Command::kRead) return bad("content that nobody read");
    if (hole ? body.size() != 12 : body.size() < 9) return bad("a content chunk of odd size");
    const uint64_t offset = big_endian(body, 0, 8);
    const uint64_t length = hole ? big_endian(body, 8, 4) : body.size() - 8;
    const uint64_t begin = pending.request.offset, end = begin + pending.request.length;
    if (length == 0 || offset < begin || offset > end || length > end - offset) {
      return bad("content outside the request");
    }
    for (const auto& [from, to] : pending.seen) {
      if (from < offset + length && offset < to) return bad("content that overlaps");
    }
    pending.seen.emplace(offset, offset + length);
    pending.missing -= length;
    ++(hole ? pending.reply.hole_chunks : pending.reply.data_chunks);
    const auto out = pending.reply.data.begin() + static_cast<ptrdiff_t>(offset - begin);
    if (!hole) std::copy(body.begin() + 8, body.end(), out);
    return Status();
  }

  static Status status(Pending& pending, ByteSpan body) {
    if (pending.request.command != Command::kBlockStatus || body.size() < 12 ||
        body.size() % 8 != 4 || big_endian(body, 0, 4) != kAllocationContextId) {
      return bad("a strange block status");
    }
    uint64_t total = 0;
    for (size_t at = 4; at < body.size(); at += 8) {
      TestExtent extent;
      extent.length = static_cast<uint32_t>(big_endian(body, at, 4));
      extent.state = static_cast<uint32_t>(big_endian(body, at + 4, 4));
      if (extent.length == 0) return bad("an extent of nothing");
      total += extent.length;
      pending.reply.extents.push_back(extent);
    }
    const bool one = (pending.request.flags & kFlagReqOne) != 0;
    if (total > pending.request.length || (one && pending.reply.extents.size() != 1)) {
      return bad("block status of too much");
    }
    return Status();
  }

  static Status error(Pending& pending, ByteSpan body) {
    if (body.size() < 6 || big_endian(body, 4, 2) != body.size() - 6) return bad("a strange error");
    pending.reply.nbd_errno = static_cast<uint32_t>(big_endian(body, 0, 4));
    if (pending.reply.nbd_errno == 0) return bad("an error that is none");
    pending.reply.text.assign(reinterpret_cast<const char*>(body.data()) + 6, body.size() - 6);
    return Status();
  }

  void finish(std::map<uint64_t, Pending>::iterator at) {
    done_.emplace(at->first, std::move(at->second.reply));
    pending_.erase(at);
  }

  std::map<uint64_t, Pending> pending_;
  std::map<uint64_t, TestReply> done_;
};

inline void append_request(std::vector<std::byte>* out, const Request& request) {
  Out o(out);
  o.u32(kRequestMagic);
  o.u16(request.flags);
  o.u16(static_cast<uint16_t>(request.command));
  o.u64(request.cookie);
  o.u64(request.offset);
  o.u32(request.length);
}

inline Request test_request(Command command, uint64_t cookie, uint64_t offset, uint32_t length,
                            uint16_t flags = 0) {
  Request request;
  request.command = command;
  request.cookie = cookie;
  request.offset = offset;
  request.length = length;
  request.flags = flags;
  return request;
}

}  // namespace hf::nbd
