// What the simulator's own tests stand on: one host, one disk at "/", one process. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "runtime/contract/contract_support.h"
#include "sim/simulation.h"

namespace hf::sim {

inline DiskConfig small_disk(uint64_t capacity = 64 * kMiB) {
  DiskConfig config;
  config.capacity_bytes = capacity;
  return config;
}

struct DiskBench {
  explicit DiskBench(uint64_t seed, DiskConfig config = small_disk())
      : sim(seed),
        host(sim.add_host("a")),
        disk(host.add_disk("/", std::move(config))),
        process(host) {}
  FileSystem& fs() { return process.world().fs; }
  void power_cycle() {
    host.power_loss();
    host.power_on();
    process.restart();
  }
  void kill_and_restart() {
    process.kill();
    process.restart();
  }

  Simulation sim;
  SimHost& host;
  SimDisk& disk;
  SimProcess process;
};

// A file of `blocks` blocks, direct, block i full of the letter `letter`, durable with its name.
inline Task<Result<std::unique_ptr<File>>> make_file(DiskBench& bench, std::string path, int blocks,
                                                     char letter) {
  OpenOptions options;
  options.write = options.create = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await bench.fs().open(path, options);
  HF_CO_TRY(file);
  AlignedBuffer data(static_cast<size_t>(blocks) * kBlockSize);
  std::memset(data.data(), letter, data.size());
  Result<size_t> n = co_await (*file)->write_durable_at(0, data.span());
  HF_CO_TRY(n);
  Status named = co_await bench.fs().sync_dir("/");
  HF_CO_TRY(named);
  co_return std::move(file);
}

// A file with the content "data", synced, its name not.
inline Task<Result<std::unique_ptr<File>>> make_synced(DiskBench& bench, std::string path) {
  OpenOptions options;
  options.write = options.create = true;
  Result<std::unique_ptr<File>> file = co_await bench.fs().open(path, options);
  HF_CO_TRY(file);
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes("data"));
  HF_CO_TRY(n);
  n = co_await (*file)->sync_data();
  HF_CO_TRY(n);
  co_return std::move(file);
}

inline Task<Result<std::unique_ptr<File>>> reopen(DiskBench& bench, std::string path, bool direct) {
  OpenOptions options;
  options.write = true;
  options.direct = direct;
  co_return co_await bench.fs().open(path, options);
}

inline AlignedBuffer block_of(char letter, size_t blocks = 1) {
  AlignedBuffer data(blocks * kBlockSize);
  std::memset(data.data(), letter, data.size());
  return data;
}

// How many of the bytes are `letter`.
inline size_t count_of(ByteSpan bytes, char letter) {
  size_t count = 0;
  for (const std::byte b : bytes) count += b == static_cast<std::byte>(letter);
  return count;
}

}  // namespace hf::sim
