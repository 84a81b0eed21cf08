// SimFile: an open file of a simulated process. Its operations take time, complete in any order,
// and meet the disk's faults.
#pragma once

#include <memory>
#include <string>

#include "runtime/file.h"
#include "sim/incarnation.h"
#include "sim/sim_disk.h"

namespace hf::sim {

class IoOp;

class SimFile : public File, public Held {
 public:
  // `disk_path` is the path within the disk.
  SimFile(Incarnation& life, SimDisk& disk, InodeRef inode, std::string path, std::string disk_path,
          OpenOptions options);
  ~SimFile() override;

  Result<uint64_t> size() const override;
  Task<Status> set_size(uint64_t size) override;
  Status try_lock() override;
  void drop_cache() override;
  void submit(IoRequest& request) override;

  // What the kernel does to the files of a process that dies: locks end, the handle is gone.
  void sever(Death death) override;

 private:
  friend class IoOp;
  bool is_writable() const { return writable_; }

  Incarnation& life_;
  SimDisk& disk_;
  InodeRef inode_;
  const std::string disk_path_;
  const bool writable_;
  bool severed_ = false;
  uint32_t in_flight_ = 0;
};

}  // namespace hf::sim
