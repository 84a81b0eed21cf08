// Disks with a pool and an empty replica, made once per process and laid onto the disks of each
// seed: to make a pool is most of what a short seed would cost.
#pragma once

#include "sim/disk_image.h"
#include "store/types.h"

namespace hf::replicate_sim {

inline constexpr const char* kPoolDirectory = "/pool";

VolumeId prepared_volume();
// Of the member in this slot.
ReplicaId prepared_replica(uint64_t slot);
PoolConfig prepared_pool();

// Made on first use, in a simulation of its own: to be asked for before the seed's simulation
// begins.
const sim::DiskImage& prepared_disk(uint64_t slot, uint64_t blocks);

}  // namespace hf::replicate_sim
