#include "sim/sim_names.h"

#include <algorithm>
#include <cerrno>

namespace hf::sim {
namespace {

CrashOdds varied(Prng& prng, CrashOdds odds) {
  switch (prng.below(8)) {
    case 0:
    case 1:
      odds.kept_percent = odds.torn_percent = 0;
      break;
    case 2:
      odds.kept_percent = 100;
      break;
    case 3:
      odds.kept_percent = std::min(odds.kept_percent, 5u);
      break;
    case 4:
      odds.kept_percent = std::max(odds.kept_percent, 90u);
      break;
    default:
      break;
  }
  return odds;
}

}  // namespace

SimInode::SimInode(SimNames& names_owner, uint64_t n, FileType t, mode_t m)
    : owner(names_owner), number(n), type(t), mode(m), content(names_owner.space_) {
  owner.inodes_[number] = this;
}

SimInode::~SimInode() {
  owner.inodes_.erase(number);
}

SimNames::SimNames(PageSpace& space, Prng prng, uint64_t inode_limit)
    : space_(space), prng_(prng), inode_limit_(inode_limit) {
  root_ = std::make_shared<SimInode>(*this, next_number_++, FileType::kDirectory, 0755);
  root_->links = 1;
}

SimNames::~SimNames() {
  // Names and stable names together may form a circle (a directory moved into its former child).
  std::vector<InodeRef> released;
  for (auto& [number, inode] : inodes_) let_go(*inode, &released);
  log_.clear();
  root_.reset();
}

void SimNames::let_go(SimInode& inode, std::vector<InodeRef>* released) {
  for (auto* names : {&inode.names, &inode.stable_names}) {
    for (auto& [name, child] : *names) released->push_back(std::move(child));
    names->clear();
  }
}

int SimNames::find(const std::string& path, InodeRef* inode) const {
  HF_ASSERT(!path.empty() && path[0] == '/', "{}", path);
  InodeRef at = root_;
  for (size_t from = 1; from < path.size();) {
    const size_t to = std::min(path.find('/', from), path.size());
    if (to > from) {
      if (at->type != FileType::kDirectory) return ENOTDIR;
      auto it = at->names.find(path.substr(from, to - from));
      if (it == at->names.end()) return ENOENT;
      at = it->second;
    }
    from = to + 1;
  }
  *inode = at;
  return 0;
}

int SimNames::parent_of(const std::string& path, InodeRef* directory, std::string* name) const {
  const size_t slash = path.rfind('/');
  *name = path.substr(slash + 1);
  if (name->empty() || name->size() > 255) return name->empty() ? EEXIST : ENAMETOOLONG;
  const int error = find(slash == 0 ? "/" : path.substr(0, slash), directory);
  if (error != 0) return error;
  return (*directory)->type == FileType::kDirectory ? 0 : ENOTDIR;
}

void SimNames::apply(Change change) {
  for (const Entry& entry : change) {
    if (entry.before) {
      --entry.before->links;
      entry.before->update_charge();
    }
    if (entry.after) {
      ++entry.after->links;
      entry.after->update_charge();
      entry.directory->names[entry.name] = entry.after;
    } else {
      entry.directory->names.erase(entry.name);
    }
  }
  log_.push_back(std::move(change));
  // The journal's own time: now and then, and when it is full.
  if (prng_.chance(1, 64)) commit_oldest(log_.size());
  if (log_.size() > kLogLimit) commit_oldest(kLogLimit / 2);
}

void SimNames::commit(const Change& change) {
  for (const Entry& entry : change) {
    if (entry.after) {
      entry.directory->stable_names[entry.name] = entry.after;
    } else {
      entry.directory->stable_names.erase(entry.name);
    }
  }
}

void SimNames::commit_oldest(size_t count) {
  for (; count > 0; --count) {
    commit(log_.front());
    log_.pop_front();
  }
}

int SimNames::create(const std::string& path, FileType type, mode_t mode, InodeRef* inode) {
  Entry entry;
  if (int error = parent_of(path, &entry.directory, &entry.name); error != 0) return error;
  if (entry.directory->names.contains(entry.name)) return EEXIST;
  if (inodes_.size() >= inode_limit_ || space_.free() == 0) return ENOSPC;
  entry.after = std::make_shared<SimInode>(*this, next_number_++, type, mode);
  *inode = entry.after;
  Change change;
  change.push_back(std::move(entry));
  apply(std::move(change));
  return 0;
}

int SimNames::unlink(const std::string& path) {
  Entry entry;
  if (int error = parent_of(path, &entry.directory, &entry.name); error != 0) return error;
  auto it = entry.directory->names.find(entry.name);
  if (it == entry.directory->names.end()) return ENOENT;
  if (it->second->type == FileType::kDirectory) return EISDIR;
  entry.before = it->second;
  Change change;
  change.push_back(std::move(entry));
  apply(std::move(change));
  return 0;
}

int SimNames::remove_directory(const std::string& path) {
  Entry entry;
  if (int error = parent_of(path, &entry.directory, &entry.name); error != 0) return error;
  auto it = entry.directory->names.find(entry.name);
  if (it == entry.directory->names.end()) return ENOENT;
  if (it->second->type != FileType::kDirectory) return ENOTDIR;
  if (!it->second->names.empty()) return ENOTEMPTY;
  entry.before = it->second;
  Change change;
  change.push_back(std::move(entry));
  apply(std::move(change));
  return 0;
}

int SimNames::rename(const std::string& from, const std::string& to) {
  Entry source, target;
  if (int error = parent_of(from, &source.directory, &source.name); error != 0) return error;
  if (int error = parent_of(to, &target.directory, &target.name); error != 0) return error;
  auto it = source.directory->names.find(source.name);
  if (it == source.directory->names.end()) return ENOENT;
  source.before = target.after = it->second;
  const bool moves_directory = source.before->type == FileType::kDirectory;
  if (moves_directory && to.starts_with(from + "/")) return EINVAL;
  auto old = target.directory->names.find(target.name);
  if (old != target.directory->names.end()) {
    if (old->second == source.before) return 0;
    const bool onto_directory = old->second->type == FileType::kDirectory;
    if (onto_directory && !moves_directory) return EISDIR;
    if (!onto_directory && moves_directory) return ENOTDIR;
    if (onto_directory && !old->second->names.empty()) return ENOTEMPTY;
    target.before = old->second;
  }
  Change change;
  change.push_back(std::move(target));  // first, so that the file is never without a link
  change.push_back(std::move(source));
  apply(std::move(change));
  return 0;
}

int SimNames::link(const std::string& from, const std::string& to) {
  InodeRef inode;
  if (int error = find(from, &inode); error != 0) return error;
  if (inode->type != FileType::kRegular) return EPERM;
  Entry entry;
  if (int error = parent_of(to, &entry.directory, &entry.name); error != 0) return error;
  if (entry.directory->names.contains(entry.name)) return EEXIST;
  entry.after = inode;
  Change change;
  change.push_back(std::move(entry));
  apply(std::move(change));
  return 0;
}

// What a change depends on, and what depends on it: its directories and its files.
void SimNames::touched(const Change& change, std::vector<uint64_t>* numbers) {
  numbers->clear();
  for (const Entry& entry : change) {
    numbers->push_back(entry.directory->number);
    if (entry.before) numbers->push_back(entry.before->number);
    if (entry.after) numbers->push_back(entry.after->number);
  }
}

int SimNames::sync_dir(const std::string& path) {
  InodeRef directory;
  if (int error = find(path, &directory); error != 0) return error;
  if (directory->type != FileType::kDirectory) return ENOTDIR;
  // Backwards: the changes of this directory, and those before them on the same directories and
  // files. That a directory was made is not among them: its name belongs to its parent.
  std::set<uint64_t> directories{directory->number}, files;
  std::vector<bool> take(log_.size(), false);
  for (size_t i = log_.size(); i-- > 0;) {
    for (const Entry& e : log_[i]) {
      take[i] = take[i] || directories.contains(e.directory->number) ||
                (e.before && files.contains(e.before->number)) ||
                (e.after && files.contains(e.after->number));
    }
    if (!take[i]) continue;
    for (const Entry& e : log_[i]) {
      directories.insert(e.directory->number);
      if (e.before) files.insert(e.before->number);
      if (e.after) files.insert(e.after->number);
    }
  }
  std::deque<Change> rest;
  for (size_t i = 0; i < take.size(); ++i) {
    if (take[i]) {
      commit(log_[i]);
    } else {
      rest.push_back(std::move(log_[i]));
    }
  }
  log_ = std::move(rest);
  return 0;
}

void SimNames::crash_log() {
  static constexpr uint32_t kLossPercents[] = {0, 10, 50, 100};
  const uint32_t loss = kLossPercents[prng_.below(std::size(kLossPercents))];
  std::set<uint64_t> cut;
  std::vector<uint64_t> numbers;
  for (const Change& change : log_) {
    touched(change, &numbers);
    const bool lost =
        std::any_of(numbers.begin(), numbers.end(), [&](uint64_t n) { return cut.contains(n); }) ||
        prng_.chance(loss, 100);
    if (lost) {
      cut.insert(numbers.begin(), numbers.end());
    } else {
      commit(change);
    }
  }
  log_.clear();
}

void SimNames::reset_to_stable(const InodeRef& directory, std::set<uint64_t>* reached) {
  directory->names = directory->stable_names;
  for (const auto& [name, inode] : directory->names) {
    ++inode->links;
    reached->insert(inode->number);
    if (inode->type == FileType::kDirectory) reset_to_stable(inode, reached);
  }
}

void SimNames::crash(const CrashOdds& odds, const Betrayal& on_betrayal) {
  crash_log();
  for (auto& [number, inode] : inodes_) inode->links = 0;
  root_->links = 1;
  std::set<uint64_t> reached{root_->number};
  reset_to_stable(root_, &reached);
  std::vector<SimInode*> lost;
  for (auto& [number, inode] : inodes_) {
    if (!reached.contains(number)) lost.push_back(inode);
    inode->update_charge();
    const CrashOdds own = odds.vary_by_file ? varied(prng_, odds) : odds;
    for (const uint64_t offset : inode->content.crash(prng_, own)) on_betrayal(*inode, offset);
  }
  // Directories that nothing leads to any more let go of what they held.
  std::vector<InodeRef> released;
  for (SimInode* inode : lost) let_go(*inode, &released);
}

std::string SimNames::path_of(const SimInode& wanted) const {
  std::vector<std::pair<const SimInode*, std::string>> open{{root_.get(), ""}};
  while (!open.empty()) {
    auto [directory, prefix] = std::move(open.back());
    open.pop_back();
    if (directory == &wanted) return prefix.empty() ? "/" : prefix;
    for (const auto& [name, inode] : directory->names) {
      open.emplace_back(inode.get(), prefix + "/" + name);
    }
  }
  return "";
}

}  // namespace hf::sim
