// VolumeConfig: who holds a volume's replicas, which of them are in sync, and who may write. One
// key per volume in the state store, changed by compare-and-set only; each replica keeps a copy.
// docs/formats/ replication.md has every offset.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/id.h"

namespace hf {

inline constexpr uint32_t kVolumeConfigVersion = 1;
inline constexpr size_t kMaxMembers = 8;  // slots of a volume, those being replaced counted

enum class VolumePhase : uint8_t {
  kDetached = 0,    // nobody serves; the last coordinator, if there was one, has ended in order
  kRecovering = 1,  // the coordinator reconciles the members and does not serve yet
  kActive = 2,
};

struct VolumeMember {
  NodeId node;
  PoolId pool;
  ReplicaId replica;
  uint8_t slot = 0;    // its bit in masks; whoever gets it after another one is `whole` first
  bool whole = false;  // no map covers what it lacks: a resync compares everything
  uint64_t left_generation = 0;  // when it left the in-sync set
};

struct VolumeConfig {
  VolumeConfig() = default;
  VolumeId volume;
  LineageId lineage;        // a new one where an operator has forced a promotion
  uint64_t epoch = 0;       // grows with every attach and takeover
  uint64_t generation = 0;  // grows with every change
  NodeId coordinator;
  uint64_t instance = 0;  // of the coordinator: another one on the same node is another one
  uint64_t nonce = 0;     // random per writing, so that a writer knows its own
  VolumePhase phase = VolumePhase::kDetached;
  uint8_t in_sync = 0;  // by slot; never empty
  std::vector<VolumeMember> members;

  const VolumeMember* member(uint8_t slot) const;
  uint8_t member_mask() const;
};

// The slots of a mask, ascending.
std::vector<uint8_t> slots_of(uint8_t mask);
constexpr uint8_t slot_bit(uint8_t slot) {
  return static_cast<uint8_t>(1u << slot);
}

std::string encode_config(const VolumeConfig& config);
// kCorruption, kNewerFormat. What it accepts is sound: slots are distinct, in_sync is part of them.
Result<VolumeConfig> decode_config(std::string_view bytes);

}  // namespace hf
