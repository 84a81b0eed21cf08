// SimFs: the file systems of a simulated host as one of its processes sees them. Each operation
// takes time and has its effect at the beginning or at the end of it, by the seed.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/file.h"
#include "sim/incarnation.h"
#include "sim/sim_disk.h"

namespace hf::sim {

struct Mount {
  std::string at;  // "/" or "/pool0"
  SimDisk* disk = nullptr;
};

class SimFs : public FileSystem {
 public:
  // `mounts` belongs to the host.
  SimFs(Incarnation& life, const std::vector<Mount>& mounts) : life_(life), mounts_(mounts) {}

  Task<Result<std::unique_ptr<File>>> open(std::string path, OpenOptions options) override;
  Task<Result<FileInfo>> stat(std::string path) override;
  Task<Result<std::vector<DirectoryEntry>>> list(std::string path) override;
  Task<Status> make_directory(std::string path, mode_t mode) override;
  Task<Status> remove_directory(std::string path) override;
  Task<Status> unlink(std::string path) override;
  Task<Status> rename(std::string from, std::string to) override;
  Task<Status> link(std::string from, std::string to) override;
  Task<Status> reflink(std::string from, std::string to) override;
  Task<Status> sync_dir(std::string path) override;
  Task<Result<SpaceInfo>> space(std::string path) override;

 private:
  struct Place {
    SimDisk* disk = nullptr;
    std::string path;  // within the disk
  };
  Place place_of(const std::string& path) const;
  // Runs `effect` (an errno value, 0 for success) at one end of the time that the operation takes.
  // Named by `what` in errors and in the history.
  Task<Status> perform(SimDisk& disk, const char* what, const std::string& path, Duration base,
                       bool writes, std::function<int()> effect);
  Task<Status> two_names(const char* what, std::string from, std::string to,
                         int (SimNames::*operation)(const std::string&, const std::string&));

  Incarnation& life_;
  const std::vector<Mount>& mounts_;
};

}  // namespace hf::sim
