// Load on a block device of ours: in process, on the loop's thread; or through an NBD socket, by a bare client
// in a thread of its own.
#pragma once

#include <string>

#include "bare.h"
#include "runtime/task.h"
#include "uring/uring_loop.h"
#include "volume/block_device.h"

namespace hf::bench {

struct LoadJob {
  LoadJob() = default;
  BlockDevice* device = nullptr;
  uint64_t start_bytes = 0;  // where the span begins; in process only
  uint64_t span_bytes = 0;
  uint64_t block_bytes = 4096;
  uint32_t depth = 1;
  bool write = false;
  bool sequential = false;
  double seconds = 1;
  uint64_t operations_max = 0;  // 0: as many as the time allows
  uint64_t seed = 1;
};

// Asserts on an I/O error. cpu_seconds: of the whole process.
Task<Sample> run_load(LoadJob job);

// The same as a client of the Unix socket's export `name` (job.device unused). Writes carry FUA.
// cpu_seconds: of the process without the client's thread.
Task<Sample> run_nbd_load(UringLoop& loop, std::string socket_path, std::string name, LoadJob job);

}  // namespace hf::bench
