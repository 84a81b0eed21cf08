// 128-bit random ids with one strong type per kind, so that a pool id never passes for a volume id.
// Text form: 32 lower-case hexadecimal digits in the UUID grouping 8-4-4-4-12.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace hf {

using IdBytes = std::array<uint8_t, 16>;

std::string id_to_string(const IdBytes& bytes);
// Accepts the grouped form and 32 bare digits, either case; nothing else.
std::optional<IdBytes> id_from_string(std::string_view text);

template <typename Tag>
struct Id {
  IdBytes bytes{};

  Id() = default;
  explicit Id(const IdBytes& b) : bytes(b) {}
  // From two random words (see runtime's Random): marked as a version 4 UUID.
  static Id from_random(uint64_t high, uint64_t low) {
    Id id;
    std::memcpy(id.bytes.data(), &high, 8);
    std::memcpy(id.bytes.data() + 8, &low, 8);
    id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x40);
    id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
    return id;
  }
  static std::optional<Id> parse(std::string_view text) {
    auto b = id_from_string(text);
    if (!b) return std::nullopt;
    return Id(*b);
  }
  bool is_nil() const { return bytes == IdBytes{}; }
  std::string to_string() const { return id_to_string(bytes); }
  auto operator<=>(const Id&) const = default;
};

using VolumeId = Id<struct VolumeIdTag>;
using ReplicaId = Id<struct ReplicaIdTag>;
using SnapshotId = Id<struct SnapshotIdTag>;
using PoolId = Id<struct PoolIdTag>;
using NodeId = Id<struct NodeIdTag>;
using ClusterId = Id<struct ClusterIdTag>;
using LineageId = Id<struct LineageIdTag>;

}  // namespace hf

template <typename Tag>
struct std::hash<hf::Id<Tag>> {
  size_t operator()(const hf::Id<Tag>& id) const noexcept {
    uint64_t low;
    std::memcpy(&low, id.bytes.data() + 8, 8);
    return static_cast<size_t>(low);
  }
};
