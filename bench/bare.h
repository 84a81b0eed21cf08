// The floor: the same operations on a plain file, without any code of ours in between.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hf::bench {

inline constexpr double kSlowUs = 20'000;

struct Sample {
  double seconds = 0;
  uint64_t operations = 0;
  double cpu_seconds = 0;  // of the whole process, user and system
  double worst_us = 0;     // the longest single operation
  uint64_t slow = 0;       // operations over kSlowUs; of our own load only
  uint32_t crcs = 0;       // of BareJob::check, so that they are not optimised away
  double rate() const { return static_cast<double>(operations) / seconds; }
  double cpu_us_per_op() const { return cpu_seconds * 1e6 / static_cast<double>(operations); }
};

struct BareJob {
  std::string path;          // a file or device, preallocated and written
  std::vector<std::string> pieces;  // instead of path: files that hold the span one behind the other,
  uint64_t piece_bytes = 0;         // so many bytes in each
  uint64_t start_bytes = 0;  // where the span begins
  uint64_t span_bytes = 0;
  uint64_t block_bytes = 0;
  uint32_t depth = 1;       // 1: pwrite/pread; more: one io_uring
  bool write = false;       // O_DIRECT|O_DSYNC, else O_DIRECT reads
  bool sequential = false;
  bool check = false;  // what was read goes through CRC32C, block by block, as every read of ours does
  double seconds = 1;
  uint64_t seed = 1;
};

// Writes a file from `from` to `to` bytes, made if need be; durable. All of it allocated and written.
void fill_bare_file(const std::string& path, uint64_t from, uint64_t to);
Sample run_bare(const BareJob& job);

double cpu_seconds_now();         // of the process
double thread_cpu_seconds_now();  // of the calling thread
double median(std::vector<double> values);

}  // namespace hf::bench
