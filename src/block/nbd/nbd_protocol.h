// The NBD protocol as bytes: constants, and pure encoders and decoders with every size checked.
// What of the protocol we serve, and how: docs/formats/nbd.md. Everything on the wire is
// big-endian.
//
// A decoder answers kProtocol for bytes that no client in its right mind sends; after that the
// place in the byte stream is lost and the connection must end. A request that is well-formed and
// not to be had is a Refusal: it is answered with an error and the connection goes on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace hf::nbd {

// --- handshake
// ------------------------------------------------------------------------------------
inline constexpr uint64_t kServerMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;

inline constexpr uint16_t kFixedNewstyle = 1 << 0;  // handshake flags, and the client's answer
inline constexpr uint16_t kNoZeroes = 1 << 1;

enum class Option : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
};

enum class OptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kUnsupported = 0x80000001,
  kPolicy = 0x80000002,
  kInvalid = 0x80000003,
  kUnknownExport = 0x80000006,
  kTooBig = 0x80000009,
};

enum class Info : uint16_t { kExport = 0, kName = 1, kDescription = 2, kBlockSize = 3 };

// Transmission flags: what an export can do.
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kReadOnlyExport = 1 << 1;
inline constexpr uint16_t kSendFlush = 1 << 2;
inline constexpr uint16_t kSendFua = 1 << 3;
inline constexpr uint16_t kSendTrim = 1 << 5;
inline constexpr uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kSendDf = 1 << 7;
inline constexpr uint16_t kCanMultiConn = 1 << 8;
inline constexpr uint16_t kSendCache = 1 << 10;
inline constexpr uint16_t kSendFastZero = 1 << 11;

// Of every export of ours. CAN_MULTI_CONN: a flush of the device covers what any connection wrote.
uint16_t transmission_flags(bool read_only, bool structured);

inline constexpr size_t kGreetingBytes = 18;
inline constexpr size_t kClientFlagsBytes = 4;
inline constexpr size_t kOptionHeaderBytes = 16;
inline constexpr size_t kStringMax = 4096;  // the protocol's own limit of any text
inline constexpr size_t kOptionBytesMax =
    64 * 1024;  // of one option's data; more ends the connection
inline constexpr size_t kMetaQueriesMax = 32;
inline constexpr uint32_t kMinBlock = 1;
inline constexpr uint32_t kPreferredBlock = kBlockSize;
inline constexpr uint32_t kMaxPayload = 32 * kMiB;
inline constexpr std::string_view kAllocationContext = "base:allocation";
inline constexpr uint32_t kAllocationContextId = 1;

struct OptionHeader {
  uint32_t option = 0;
  uint32_t length = 0;  // at most kOptionBytesMax
};
struct InfoRequest {
  std::string_view name;  // points into the data
  bool wants_name = false;
  bool wants_description = false;
};
struct MetaRequest {
  std::string_view export_name;
  std::vector<std::string_view> queries;
};

// Exactly kOptionHeaderBytes.
Result<OptionHeader> decode_option_header(ByteSpan bytes);
// The data of INFO and GO; kInvalidArgument where the client is to be told so.
Result<InfoRequest> decode_info_request(ByteSpan data);
// The data of LIST_META_CONTEXT and SET_META_CONTEXT; kLimitExceeded for too many queries.
Result<MetaRequest> decode_meta_request(ByteSpan data);
// Not longer than kStringMax, and without NUL.
bool is_valid_text(ByteSpan bytes);

// Appends big-endian fields; for the handshake and replies of variable length.
class Out {
 public:
  explicit Out(std::vector<std::byte>* bytes) : bytes_(bytes) {}
  void u16(uint16_t v) { put(__builtin_bswap16(v)); }
  void u32(uint32_t v) { put(__builtin_bswap32(v)); }
  void u64(uint64_t v) { put(__builtin_bswap64(v)); }
  void text(std::string_view v) { raw(as_bytes(v)); }
  void raw(ByteSpan v) { bytes_->insert(bytes_->end(), v.begin(), v.end()); }

 private:
  // `v` is in the order of the wire already (our machines are little-endian).
  template <typename T>
  void put(T v) {
    const auto* p = reinterpret_cast<const std::byte*>(&v);
    bytes_->insert(bytes_->end(), p, p + sizeof v);
  }
  std::vector<std::byte>* bytes_;
};

void append_greeting(std::vector<std::byte>* out);
void append_option_reply(std::vector<std::byte>* out, uint32_t option, OptionReply type,
                         ByteSpan payload);

// --- transmission
// ---------------------------------------------------------------------------------
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kChunkMagic = 0x668e33ef;
inline constexpr size_t kRequestBytes = 28;

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};

inline constexpr uint16_t kFlagFua = 1 << 0;
inline constexpr uint16_t kFlagNoHole = 1 << 1;
inline constexpr uint16_t kFlagDf = 1 << 2;
inline constexpr uint16_t kFlagReqOne = 1 << 3;
inline constexpr uint16_t kFlagFastZero = 1 << 4;

enum class Chunk : uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kError = 0x8001,
};
inline constexpr uint16_t kChunkDone = 1 << 0;
inline constexpr uint32_t kStateHole = 1 << 0;
inline constexpr uint32_t kStateZero = 1 << 1;
inline constexpr size_t kErrorTextMax = 256;  // of the text in an error chunk
// Each of these fits into so many bytes: a simple reply, a chunk's header with offset and size.
inline constexpr size_t kReplyHeadMax = 32;

inline constexpr uint32_t kErrnoOverflow = 75;  // the one number that no code of ours maps to

struct Request {
  uint16_t flags = 0;
  Command command = Command::kRead;  // may hold a number that is no command
  uint64_t cookie = 0;
  uint64_t offset = 0;  // bytes
  uint32_t length = 0;  // bytes
  // What follows the header on the wire.
  uint32_t payload() const { return command == Command::kWrite ? length : 0; }
};

// Exactly kRequestBytes. kProtocol: no request, or a write of more than kMaxPayload.
Result<Request> decode_request(ByteSpan bytes);

// What a request is judged by.
struct Rules {
  uint64_t size = 0;  // of the export, bytes
  bool read_only = false;
  bool structured = false;  // structured replies were agreed on
  bool allocation = false;  // base:allocation was selected
};
struct Refusal {
  uint32_t nbd_errno = 0;  // 0: not refused
  const char* why = "";
};
// Flags, bounds, permission. What passes lies inside the export, and a read has at most
// kMaxPayload.
Refusal judge(const Request& request, const Rules& rules);

void append_simple_reply(std::vector<std::byte>* out, uint64_t cookie, uint32_t nbd_errno);
// `length` bytes of payload follow, of which this is only the header.
void append_chunk(std::vector<std::byte>* out, uint64_t cookie, uint16_t flags, Chunk type,
                  uint32_t length);
// The head of a data chunk; `length` bytes of data follow it.
void append_data_chunk(std::vector<std::byte>* out, uint64_t cookie, bool last, uint64_t offset,
                       uint32_t length);
void append_hole_chunk(std::vector<std::byte>* out, uint64_t cookie, bool last, uint64_t offset,
                       uint32_t length);
// Whole, with text cut to kErrorTextMax. Always the last chunk of its reply.
void append_error_chunk(std::vector<std::byte>* out, uint64_t cookie, uint32_t nbd_errno,
                        std::string_view text);

// What a stranger sent, fit for a log line: short and printable.
std::string printable(std::string_view text);

}  // namespace hf::nbd
