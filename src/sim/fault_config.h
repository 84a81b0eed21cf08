// What may go wrong, and how often. All zero: a perfect world. Chances are per million operations
// that they apply to; the seed decides which.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/clock.h"
#include "runtime/file.h"
#include "sim/fault_kind.h"
#include "sim/sim_content.h"

namespace hf::sim {

struct DiskFaults {
  uint32_t read_error_ppm = 0;         // per read
  uint32_t latent_sector_ppm = 0;      // per read: one of its sectors goes bad for good
  uint32_t bit_rot_ppm = 0;            // per read: in its range; per write: anywhere on the disk
  uint32_t write_error_ppm = 0;        // per write
  uint32_t sync_error_ppm = 0;         // per sync and per durable write
  uint32_t no_space_ppm = 0;           // per write
  uint32_t lost_write_ppm = 0;         // per durable write
  uint32_t misdirected_write_ppm = 0;  // per durable write
  uint32_t lying_flush_ppm = 0;        // per sync and per durable write
  uint32_t hang_ppm = 0;               // per operation: the whole disk answers nothing for a while
  Duration hang_max = 60s;
  CrashOdds crash;  // what power loss does to sectors that were not stable
  // By the path within the disk. Where it says no, none of the above happens (power loss spares
  // nobody). Empty: everywhere.
  std::function<bool(const std::string& path)> applies_to;

  // A disk that fails in every way now and then, at rates that a run of some thousand operations
  // meets.
  static DiskFaults all(uint32_t ppm);
};

// How long operations take: a base, a share per byte, and a random part with a long tail.
struct DiskLatency {
  Duration read = 80us;
  Duration write = 15us;
  Duration durable = 120us;  // added by a durable write or a sync
  Duration name = 20us;      // open, rename, …
  uint32_t ns_per_kib = 500;
  uint32_t tail_per_mille = 5;  // of operations take up to tail_factor times as long
  uint32_t tail_factor = 50;
};

struct DiskConfig {
  uint64_t capacity_bytes = kGiB;
  uint64_t inodes = 1'000'000;
  bool has_reflinks = true;
  bool read_only = false;
  DiskLatency latency;
  DiskFaults faults;
};

// A fault that a test orders: the (skip+1)-th operation of that kind on a path that contains
// `path_part`.
struct ScriptedFault {
  FaultKind fault;
  IoKind on = IoKind::kWriteDurable;
  std::string path_part;
  uint32_t skip = 0;
};

}  // namespace hf::sim
