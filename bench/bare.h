// The floor: the same operations on a plain file, without any code of ours in between.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hf::bench {

struct Sample {
  double seconds = 0;
  uint64_t operations = 0;
  double cpu_seconds = 0;  // of the whole process, user and system
  double worst_us = 0;     // the longest single operation
  double rate() const { return static_cast<double>(operations) / seconds; }
  double cpu_us_per_op() const { return cpu_seconds * 1e6 / static_cast<double>(operations); }
};

struct BareJob {
  std::string path;         // preallocated and written with zeroes
  uint64_t file_bytes = 0;
  uint64_t block_bytes = 0;
  uint32_t depth = 1;       // 1: pwrite/pread; more: one io_uring
  bool write = false;       // O_DIRECT|O_DSYNC, else O_DIRECT reads
  bool sequential = false;
  double seconds = 1;
  uint64_t seed = 1;
};

// Creates the file written with `fill` bytes; durable.
void make_bare_file(const std::string& path, uint64_t bytes);
Sample run_bare(const BareJob& job);

double cpu_seconds_now();
double median(std::vector<double> values);

}  // namespace hf::bench
