// SimNames: the directories of one simulated disk, twice: as they are, and as a power loss would
// leave them. In between stands a log of changes not yet durable, as in a journaling file system.
//
//   create, rename, unlink … ──► names ──sync_dir, or the journal in its own time──► stable names
//
// Power loss keeps some of the log: each change whole (a rename never leaves both or neither), and
// never a change without those before it on the same directory or the same file. The contract
// (runtime/file.h) promises no order between unrelated changes, so none is kept here, though real
// journals often do.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/prng.h"
#include "runtime/file.h"
#include "sim/sim_content.h"

namespace hf::sim {

class SimFile;
class SimNames;

struct SimInode {
  SimInode(SimNames& names, uint64_t number, FileType type, mode_t mode);
  ~SimInode();

  using Names = std::map<std::string, std::shared_ptr<SimInode>>;
  SimNames& owner;
  const uint64_t number;
  const FileType type;
  mode_t mode;
  uint32_t links = 0;
  uint32_t handles = 0;  // files that have it open
  const SimFile* locked_by = nullptr;
  SimContent content;  // of regular files
  Names names;         // of directories
  Names stable_names;

  // Its space is free once nobody can reach it.
  void update_charge() { content.set_charged(links > 0 || handles > 0); }
};
using InodeRef = std::shared_ptr<SimInode>;

class SimNames {
 public:
  SimNames(PageSpace& space, Prng prng, uint64_t inode_limit);
  ~SimNames();

  // All paths are relative to the disk's root: "/a/b". Errors are errno values, 0 is success.
  int find(const std::string& path, InodeRef* inode) const;
  int create(const std::string& path, FileType type, mode_t mode, InodeRef* inode);
  int unlink(const std::string& path);
  int remove_directory(const std::string& path);
  int rename(const std::string& from, const std::string& to);
  int link(const std::string& from, const std::string& to);
  int sync_dir(const std::string& path);

  // Power loss: names as decided from the log, content as decided by `odds`. Calls back for each
  // sector that a lying device lost.
  using Betrayal = std::function<void(const SimInode& inode, uint64_t offset)>;
  void crash(const CrashOdds& odds, const Betrayal& on_betrayal);

  // All inodes that exist, by number.
  const std::map<uint64_t, SimInode*>& inodes() const { return inodes_; }
  uint64_t inode_limit() const { return inode_limit_; }
  // A path that leads to the inode now; "" if none does.
  std::string path_of(const SimInode& inode) const;
  size_t pending_changes() const { return log_.size(); }

 private:
  friend struct SimInode;
  struct Entry {
    InodeRef directory;
    std::string name;
    InodeRef before, after;  // null: no such name
  };
  using Change = std::vector<Entry>;  // takes effect whole
  static constexpr size_t kLogLimit = 512;

  int parent_of(const std::string& path, InodeRef* directory, std::string* name) const;
  void apply(Change change);
  static void commit(const Change& change);
  void commit_oldest(size_t count);
  static void touched(const Change& change, std::vector<uint64_t>* numbers);
  void crash_log();
  static void let_go(SimInode& inode, std::vector<InodeRef>* released);
  void reset_to_stable(const InodeRef& directory, std::set<uint64_t>* reached);

  PageSpace& space_;
  Prng prng_;
  const uint64_t inode_limit_;
  uint64_t next_number_ = 1;
  std::map<uint64_t, SimInode*> inodes_;  // outlives root_ and log_
  InodeRef root_;
  std::deque<Change> log_;
};

}  // namespace hf::sim
