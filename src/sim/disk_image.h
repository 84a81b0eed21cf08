// DiskImage: what a disk at rest holds, to be laid onto fresh disks: what takes long to prepare is
// prepared once.
//
// At rest: everything is synced, nothing is damaged, no file has two names. What was written with
// zeroes only is laid down as reserved space: it reads the same, and a disk has less to hold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/sim_disk.h"

namespace hf::sim {

class DiskImage {
 public:
  static DiskImage of(const SimDisk& disk);
  // The disk must be empty.
  void lay_onto(SimDisk& disk) const;

 private:
  struct Piece {
    uint64_t offset = 0;
    uint64_t length = 0;
    std::vector<std::byte> bytes;  // empty: zeroes
  };
  struct Entry {
    std::string path;
    FileType type = FileType::kRegular;
    mode_t mode = 0;
    uint64_t size = 0;
    std::vector<Piece> pieces;
  };
  std::vector<Entry> entries_;  // parents first
};

}  // namespace hf::sim
