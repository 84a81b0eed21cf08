// What the daemon and the holder process say to each other: fixed-size messages over a Unix socket
// of type SOCK_SEQPACKET, one request and one reply at a time, a file descriptor beside them
// (SCM_RIGHTS) where said. docs/formats/holder.md has the layout. Little-endian; versioned;
// checksummed.
//
// The holder survives the daemon. It keeps file descriptors whose last close would end something
// that containers use: a FUSE connection, above all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace hf::holder {

inline constexpr uint32_t kRequestMagic = 0x51484648;  // "HFHQ"
inline constexpr uint32_t kReplyMagic = 0x52484648;    // "HFHR"
inline constexpr uint16_t kVersion = 1;
inline constexpr size_t kNameMax = 64;    // bytes; names are printable ASCII without blanks
inline constexpr size_t kStateMax = 256;  // bytes, opaque to the holder
// More is refused with kFull: 1,000 volumes and their sockets, well below the usual hard limit of
// open files.
inline constexpr size_t kEntriesMax = 4096;
inline constexpr size_t kClientsMax = 16;

enum class Command : uint16_t {
  kPut = 1,   // + fd: keeps it under `name` with `state`, in place of what was there; without a fd:
              // replaces the state of an entry that exists
  kGet = 2,   // reply + fd
  kDel = 3,   // closes; kNotFound if it was not there
  kList = 4,  // the entry number `index` in the order of names, without its fd; kNotFound behind
              // the last
  kEnd = 5,   // the process ends after the reply, if it holds nothing; else kFull
};

enum class ReplyStatus : uint16_t {
  kOk = 0,
  kNotFound = 1,
  kFull = 2,
  kBadRequest = 3,  // malformed, checksum, unknown version or command
};

// Request and reply have the same shape; `code` is a Command or a ReplyStatus.
struct Message {
  uint32_t magic;
  uint16_t version;
  uint16_t code;
  uint32_t index;       // kList
  uint32_t state_size;  // bytes used of `state`
  char name[kNameMax];  // zero-padded
  std::byte state[kStateMax];
  uint32_t reserved;  // zero
  uint32_t crc;       // CRC32C of everything before it
};
static_assert(sizeof(Message) == 16 + kNameMax + kStateMax + 8);

inline uint32_t message_crc(const Message& m) {
  return crc32c({reinterpret_cast<const std::byte*>(&m), offsetof(Message, crc)});
}

inline bool name_is_valid(std::string_view name) {
  if (name.empty() || name.size() > kNameMax) return false;
  for (const char c : name) {
    if (c <= ' ' || c > '~') return false;
  }
  return true;
}

// `name` and `state` must fit (asserted).
inline Message make_message(uint32_t magic, uint16_t code, std::string_view name, ByteSpan state,
                            uint32_t index) {
  HF_ASSERT(name.size() <= kNameMax && state.size() <= kStateMax, "{} {}", name.size(),
            state.size());
  Message m;
  std::memset(&m, 0, sizeof m);
  m.magic = magic;
  m.version = kVersion;
  m.code = code;
  m.index = index;
  m.state_size = static_cast<uint32_t>(state.size());
  std::memcpy(m.name, name.data(), name.size());
  if (!state.empty()) std::memcpy(m.state, state.data(), state.size());
  m.crc = message_crc(m);
  return m;
}

// False for anything that make_message with this magic could not have made.
inline bool message_is_valid(const Message& m, size_t received, uint32_t magic) {
  return received == sizeof m && m.magic == magic && m.version == kVersion &&
         m.state_size <= kStateMax && m.crc == message_crc(m);
}

inline std::string message_name(const Message& m) {
  return std::string(m.name, strnlen(m.name, kNameMax));
}

}  // namespace hf::holder
