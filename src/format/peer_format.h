// The peer protocol: what a coordinator and a replica of another node say to each other. Pure
// encode and decode; docs/formats/peer.md has every offset.
//
//   frame = header (40 bytes, CRC of its own) ‖ body (CRC in the header) ‖ data (CRC in the header)
//
// One connection is one session with one replica: the first request is a hello, the second a fence.
// Requests are numbered by who asks; answers carry the number and may come in any order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/id.h"
#include "base/stamp.h"

namespace hf {

inline constexpr uint32_t kPeerMagic = 0x50524648;  // "HFRP"
inline constexpr uint16_t kPeerVersion = 1;
inline constexpr size_t kPeerHeaderBytes = 40;
inline constexpr size_t kPeerBodyMax = 128 * kKiB;
inline constexpr size_t kPeerDataMax = 8 * kMiB;  // longer reads and writes go in pieces
inline constexpr size_t kPeerRangesMax = 4096;
inline constexpr size_t kPeerTextMax = 8 * kKiB;

enum class PeerKind : uint8_t {
  kHello = 1,
  kFence = 2,
  kHeartbeat = 3,
  kRelease = 4,
  kWrite = 5,
  kWriteZeroes = 6,
  kRead = 7,
  kExtents = 8,
  kWindow = 9,
  kDirty = 10,
  kMarkDirty = 11,
  kClearDirty = 12,
  kSettleWindow = 13,
  kSetConfig = 14,
  kResize = 15,
  kSnapshot = 16,
  kDeleteSnapshot = 17,
};
inline constexpr uint8_t kPeerKindLast = 17;

struct PeerFrame {
  PeerKind kind = PeerKind::kHello;
  bool is_answer = false;
  uint64_t request = 0;
  uint32_t body_bytes = 0;
  uint32_t data_bytes = 0;
  uint32_t body_crc = 0;
  uint32_t data_crc = 0;
};

struct PeerRange {
  uint64_t offset = 0;
  uint64_t length = 0;
  uint8_t flag = 0;  // of extents: has data
};

// Every request has the same body; what a kind does not use is zero.
struct PeerRequest {
  PeerRequest() = default;
  ClusterId cluster;    // hello
  VolumeId volume;      // hello
  ReplicaId replica;    // hello
  SnapshotId snapshot;  // snapshot, delete_snapshot
  uint64_t epoch = 0;   // fence; of the stamp
  uint64_t number = 0;  // fence: of the session; else the sequence
  uint64_t generation = 0;
  Stamp commit;         // of writes, heartbeat
  uint64_t offset = 0;  // also the start of a page
  uint64_t length = 0;  // also the new size
  uint32_t limit = 0;   // of a page
  uint8_t slots = 0;    // a mask; of dirty: one slot's bit
  uint8_t absent = 0;
  std::string text;  // the configuration
  std::vector<PeerRange> ranges;
};

struct PeerAnswer {
  PeerAnswer() = default;
  uint16_t code = 0;  // ErrorCode
  std::string text;   // the error's message; of fence: the configuration
  uint64_t a = 0, b = 0, c = 0,
           d = 0;  // fence: promised before, size, lease left in ns; snapshot: see there
  Stamp stamp;
  SnapshotId snapshot;
  std::vector<PeerRange> ranges;
};

// `out` has kPeerHeaderBytes.
void encode_peer_frame(const PeerFrame& frame, MutableByteSpan out);
// kProtocol: not this protocol, a broken header, lengths above the bounds. kNotSupported: another
// version.
Result<PeerFrame> decode_peer_frame(ByteSpan header);

std::vector<std::byte> encode_peer_request(const PeerRequest& request);
Result<PeerRequest> decode_peer_request(ByteSpan body);
std::vector<std::byte> encode_peer_answer(const PeerAnswer& answer);
Result<PeerAnswer> decode_peer_answer(ByteSpan body);

}  // namespace hf
