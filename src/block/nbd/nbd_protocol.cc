#include "block/nbd/nbd_protocol.h"

#include <algorithm>
#include <bit>

namespace hf::nbd {
namespace {

// ByteReader reads little-endian; the wire is not.
template <typename T>
T get(ByteReader& in) {
  static_assert(std::endian::native == std::endian::little);
  const T v = in.get<T>();
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(v));
  if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(v));
  if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(v));
}

std::string_view text_of(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Error invalid(const char* why) {
  return Error(ErrorCode::kInvalidArgument, why);
}

constexpr size_t kOptionReplyBytes = 20;

}  // namespace

uint16_t transmission_flags(bool read_only, bool structured) {
  uint16_t flags = kHasFlags | kSendFlush | kSendFua | kCanMultiConn | kSendCache;
  flags |= read_only ? kReadOnlyExport : kSendTrim | kSendWriteZeroes | kSendFastZero;
  if (structured) flags |= kSendDf;
  return flags;
}

bool is_valid_text(ByteSpan bytes) {
  return bytes.size() <= kStringMax &&
         std::find(bytes.begin(), bytes.end(), std::byte{0}) == bytes.end();
}

Result<OptionHeader> decode_option_header(ByteSpan bytes) {
  HF_ASSERT(bytes.size() == kOptionHeaderBytes);
  ByteReader in(bytes);
  const uint64_t magic = get<uint64_t>(in);
  OptionHeader header;
  header.option = get<uint32_t>(in);
  header.length = get<uint32_t>(in);
  if (magic != kOptionMagic) {
    return make_error(ErrorCode::kProtocol, "an option begins with {:#018x} instead of IHAVEOPT",
                      magic);
  }
  if (header.length > kOptionBytesMax) {
    return make_error(ErrorCode::kProtocol, "option {} has {} bytes of data, more than {}",
                      header.option, header.length, kOptionBytesMax);
  }
  return header;
}

Result<InfoRequest> decode_info_request(ByteSpan data) {
  ByteReader in(data);
  const uint32_t name_length = get<uint32_t>(in);
  const ByteSpan name = in.get_bytes(name_length);
  const uint16_t count = get<uint16_t>(in);
  if (in.failed()) return invalid("the name is longer than the option");
  if (!is_valid_text(name)) return invalid("the name is too long, or has a NUL");
  if (in.remaining() != size_t{2} * count) {
    return invalid("the number of information requests does not fit the option's length");
  }
  InfoRequest request;
  request.name = text_of(name);
  for (uint16_t i = 0; i < count; ++i) {
    const auto info = static_cast<Info>(get<uint16_t>(in));
    if (info == Info::kName) request.wants_name = true;
    if (info == Info::kDescription) request.wants_description = true;
  }
  return request;
}

Result<MetaRequest> decode_meta_request(ByteSpan data) {
  ByteReader in(data);
  const uint32_t name_length = get<uint32_t>(in);
  const ByteSpan name = in.get_bytes(name_length);
  const uint32_t count = get<uint32_t>(in);
  if (in.failed()) return invalid("the name is longer than the option");
  if (!is_valid_text(name)) return invalid("the name is too long, or has a NUL");
  if (count > kMetaQueriesMax) {
    return make_error(ErrorCode::kLimitExceeded, "at most {} queries at once", kMetaQueriesMax);
  }
  MetaRequest request;
  request.export_name = text_of(name);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t length = get<uint32_t>(in);
    const ByteSpan query = in.get_bytes(length);
    if (in.failed()) return invalid("a query is longer than the option");
    if (!is_valid_text(query)) return invalid("a query is too long, or has a NUL");
    request.queries.push_back(text_of(query));
  }
  if (in.remaining() != 0) return invalid("bytes behind the last query");
  return request;
}

void append_greeting(std::vector<std::byte>* out) {
  Out o(out);
  o.u64(kServerMagic);
  o.u64(kOptionMagic);
  o.u16(kFixedNewstyle | kNoZeroes);
}

void append_option_reply(std::vector<std::byte>* out, uint32_t option, OptionReply type,
                         ByteSpan payload) {
  out->reserve(out->size() + kOptionReplyBytes + payload.size());
  Out o(out);
  o.u64(kOptionReplyMagic);
  o.u32(option);
  o.u32(static_cast<uint32_t>(type));
  o.u32(static_cast<uint32_t>(payload.size()));
  o.raw(payload);
}

Result<Request> decode_request(ByteSpan bytes) {
  HF_ASSERT(bytes.size() == kRequestBytes);
  ByteReader in(bytes);
  const uint32_t magic = get<uint32_t>(in);
  Request request;
  request.flags = get<uint16_t>(in);
  request.command = static_cast<Command>(get<uint16_t>(in));
  request.cookie = get<uint64_t>(in);
  request.offset = get<uint64_t>(in);
  request.length = get<uint32_t>(in);
  if (magic != kRequestMagic) {
    return make_error(ErrorCode::kProtocol, "a request begins with {:#010x} instead of {:#010x}",
                      magic, kRequestMagic);
  }
  if (request.payload() > kMaxPayload) {
    return make_error(ErrorCode::kProtocol, "a write of {} bytes, more than the {} we announce",
                      request.length, kMaxPayload);
  }
  return request;
}

Refusal judge(const Request& request, const Rules& rules) {
  constexpr uint32_t kPerm = 1, kInval = 22, kNoSpace = 28, kNotSupported = 95;
  const auto refuse = [](uint32_t nbd_errno, const char* why) { return Refusal{nbd_errno, why}; };
  const bool inside = request.offset <= rules.size && request.length <= rules.size - request.offset;
  uint16_t allowed = kFlagFua;  // announced, so taken with every command
  uint32_t outside = kInval;
  bool changes = false;
  switch (request.command) {
    case Command::kRead:
      if (rules.structured) allowed |= kFlagDf;
      break;
    case Command::kWrite:
      changes = true;
      outside = kNoSpace;
      break;
    case Command::kTrim:
      changes = true;
      break;
    case Command::kWriteZeroes:
      changes = true;
      allowed |= kFlagNoHole | kFlagFastZero;
      outside = kNoSpace;
      break;
    case Command::kBlockStatus:
      allowed |= kFlagReqOne;
      break;
    case Command::kFlush:
    case Command::kCache:
      break;
    default:
      return refuse(kInval, "unknown command");
  }
  if ((request.flags & ~allowed) != 0) return refuse(kInval, "a flag that this command has not");
  if (changes && rules.read_only) return refuse(kPerm, "the export is read-only");
  if (request.command == Command::kFlush) return Refusal();  // has no range
  if (!inside) return refuse(outside, "outside the export");
  if (request.command == Command::kRead && request.length > kMaxPayload) {
    return refuse(rules.structured ? kErrnoOverflow : kInval, "a read of more than 32 MiB");
  }
  if (request.command == Command::kBlockStatus && !rules.allocation) {
    return refuse(kInval, "block status without a context selected");
  }
  if (request.command == Command::kBlockStatus && request.length == 0) {
    return refuse(kInval, "block status of nothing");
  }
  // Fast is what only gives blocks back; provisioning, or changing a part of a block, is a write.
  const bool whole = is_aligned(request.offset | request.length, kBlockSize);
  if ((request.flags & kFlagFastZero) != 0 && ((request.flags & kFlagNoHole) != 0 || !whole)) {
    return refuse(kNotSupported, "no faster than a write");
  }
  return Refusal();
}

void append_simple_reply(std::vector<std::byte>* out, uint64_t cookie, uint32_t nbd_errno) {
  Out o(out);
  o.u32(kSimpleReplyMagic);
  o.u32(nbd_errno);
  o.u64(cookie);
}

void append_chunk(std::vector<std::byte>* out, uint64_t cookie, uint16_t flags, Chunk type,
                  uint32_t length) {
  Out o(out);
  o.u32(kChunkMagic);
  o.u16(flags);
  o.u16(static_cast<uint16_t>(type));
  o.u64(cookie);
  o.u32(length);
}

void append_data_chunk(std::vector<std::byte>* out, uint64_t cookie, bool last, uint64_t offset,
                       uint32_t length) {
  append_chunk(out, cookie, last ? kChunkDone : 0, Chunk::kOffsetData, 8 + length);
  Out(out).u64(offset);
}

void append_hole_chunk(std::vector<std::byte>* out, uint64_t cookie, bool last, uint64_t offset,
                       uint32_t length) {
  append_chunk(out, cookie, last ? kChunkDone : 0, Chunk::kOffsetHole, 12);
  Out o(out);
  o.u64(offset);
  o.u32(length);
}

void append_error_chunk(std::vector<std::byte>* out, uint64_t cookie, uint32_t nbd_errno,
                        std::string_view text) {
  HF_ASSERT(nbd_errno != 0);
  text = text.substr(0, kErrorTextMax);
  append_chunk(out, cookie, kChunkDone, Chunk::kError, static_cast<uint32_t>(6 + text.size()));
  Out o(out);
  o.u32(nbd_errno);
  o.u16(static_cast<uint16_t>(text.size()));
  o.text(text);
}

std::string printable(std::string_view text) {
  constexpr size_t kMax = 64;
  std::string out(text.substr(0, kMax));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  if (text.size() > kMax) out += "...";
  return out;
}

}  // namespace hf::nbd
