#include "format/config_format.h"

#include "base/bytes.h"
#include "base/id_bytes.h"
#include "format/crc_field.h"

namespace hf {
namespace {

constexpr uint32_t kMagic = 0x43564648;  // "HFVC"
constexpr size_t kHeaderBytes = 16;
constexpr size_t kFixedBytes = kHeaderBytes + 16 * 3 + 8 * 4 + 8;
constexpr size_t kMemberBytes = 16 * 3 + 8 + 8;
constexpr size_t kCrcAt = 12;

Error bad(std::string_view what) {
  return make_error(ErrorCode::kCorruption, "configuration of a volume: {}", what);
}

Status check_values(const VolumeConfig& c) {
  uint8_t seen = 0;
  for (const VolumeMember& member : c.members) {
    if (member.slot >= kMaxMembers || (seen & slot_bit(member.slot)) != 0) return bad("slots");
    seen |= slot_bit(member.slot);
  }
  if (c.in_sync == 0 || (c.in_sync & ~seen) != 0) return bad("in-sync set");
  if (c.phase > VolumePhase::kActive) return bad("phase");
  return Status();
}

}  // namespace

const VolumeMember* VolumeConfig::member(uint8_t slot) const {
  for (const VolumeMember& member : members) {
    if (member.slot == slot) return &member;
  }
  return nullptr;
}

uint8_t VolumeConfig::member_mask() const {
  uint8_t mask = 0;
  for (const VolumeMember& member : members) mask |= slot_bit(member.slot);
  return mask;
}

std::vector<uint8_t> slots_of(uint8_t mask) {
  std::vector<uint8_t> slots;
  for (uint8_t slot = 0; slot < kMaxMembers; ++slot) {
    if ((mask & slot_bit(slot)) != 0) slots.push_back(slot);
  }
  return slots;
}

std::string encode_config(const VolumeConfig& c) {
  HF_ASSERT(c.members.size() <= kMaxMembers, "{}", c.members.size());
  HF_ASSERT(check_values(c).ok());
  std::string text(kFixedBytes + c.members.size() * kMemberBytes, '\0');
  const MutableByteSpan bytes(reinterpret_cast<std::byte*>(text.data()), text.size());
  ByteWriter out(bytes);
  out.put(kMagic);
  out.put(kVolumeConfigVersion);
  out.put(static_cast<uint32_t>(text.size()));
  out.put_zeros(4);  // CRC
  put_id(out, c.volume);
  put_id(out, c.lineage);
  put_id(out, c.coordinator);
  out.put(c.epoch);
  out.put(c.generation);
  out.put(c.instance);
  out.put(c.nonce);
  out.put(static_cast<uint8_t>(c.phase));
  out.put(c.in_sync);
  out.put(static_cast<uint8_t>(c.members.size()));
  out.put_zeros(5);
  for (const VolumeMember& member : c.members) {
    put_id(out, member.node);
    put_id(out, member.pool);
    put_id(out, member.replica);
    out.put(member.left_generation);
    out.put(member.slot);
    out.put(static_cast<uint8_t>(member.whole ? 1 : 0));
    out.put_zeros(6);
  }
  ByteWriter field(bytes.subspan(kCrcAt, 4));
  field.put(crc_without_field(bytes, kCrcAt));
  return text;
}

Result<VolumeConfig> decode_config(std::string_view text) {
  const ByteSpan bytes = as_bytes(text);
  ByteReader in(bytes);
  if (in.get<uint32_t>() != kMagic) return bad("magic");
  const uint32_t version = in.get<uint32_t>();
  const uint32_t size = in.get<uint32_t>();
  const uint32_t crc = in.get<uint32_t>();
  if (in.failed() || size != bytes.size()) return bad("size");
  if (crc_without_field(bytes, kCrcAt) != crc) return bad("checksum");
  if (version != kVolumeConfigVersion) {
    return make_error(ErrorCode::kNewerFormat,
                      "configuration of a volume: version {}, this program knows {}", version,
                      kVolumeConfigVersion);
  }
  VolumeConfig c;
  c.volume = get_id<VolumeId>(in);
  c.lineage = get_id<LineageId>(in);
  c.coordinator = get_id<NodeId>(in);
  c.epoch = in.get<uint64_t>();
  c.generation = in.get<uint64_t>();
  c.instance = in.get<uint64_t>();
  c.nonce = in.get<uint64_t>();
  c.phase = static_cast<VolumePhase>(in.get<uint8_t>());
  c.in_sync = in.get<uint8_t>();
  const uint8_t members = in.get<uint8_t>();
  in.skip(5);
  if (members > kMaxMembers) return bad("number of members");
  for (uint8_t i = 0; i < members; ++i) {
    VolumeMember member;
    member.node = get_id<NodeId>(in);
    member.pool = get_id<PoolId>(in);
    member.replica = get_id<ReplicaId>(in);
    member.left_generation = in.get<uint64_t>();
    member.slot = in.get<uint8_t>();
    member.whole = in.get<uint8_t>() != 0;
    in.skip(6);
    c.members.push_back(member);
  }
  if (in.failed() || in.remaining() != 0) return bad("length");
  HF_TRY(check_values(c));
  return c;
}

}  // namespace hf
