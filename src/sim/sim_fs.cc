#include "sim/sim_fs.h"

#include <algorithm>
#include <cerrno>

#include "sim/sim_file.h"

namespace hf::sim {

SimFs::Place SimFs::place_of(const std::string& path) const {
  HF_ASSERT(!path.empty() && path[0] == '/', "paths are absolute: {}", path);
  const Mount* best = nullptr;
  for (const Mount& mount : mounts_) {
    const bool inside = mount.at == "/" || path == mount.at || path.starts_with(mount.at + "/");
    if (inside && (best == nullptr || mount.at.size() > best->at.size())) best = &mount;
  }
  if (best == nullptr) return Place{};
  std::string rest = best->at == "/" ? path : path.substr(best->at.size());
  return Place{best->disk, rest.empty() ? "/" : rest};
}

Task<Status> SimFs::perform(SimDisk& disk, const char* what, const std::string& path, Duration base,
                            bool writes, std::function<int()> effect) {
  if (life_.is_dead()) co_return dead_error(what);
  const bool refused = writes && disk.config().read_only;
  const bool early = disk.prng().chance(1, 2);
  int error = refused ? EROFS : 0;
  if (early && error == 0) error = disk.is_offline() ? EIO : effect();
  Delay delay(life_, disk.answer_at(base, 0));
  bool came = co_await delay;
  if (!came) co_return dead_error(what);
  if (!early && error == 0) error = disk.is_offline() ? EIO : effect();
  disk.loop().record(what, static_cast<uint64_t>(error), disk.names().inodes().size());
  if (error == 0) co_return Status();
  const std::string text = fmt::format("{} {}", what, path);
  co_return Error::from_errno(error, text);
}

Task<Result<std::unique_ptr<File>>> SimFs::open(std::string path, OpenOptions options) {
  Place place = place_of(path);
  if (place.disk == nullptr) co_return Error::from_errno(ENOENT, "open " + path);
  SimDisk& disk = *place.disk;
  InodeRef inode;
  std::unique_ptr<File> file;
  std::function<int()> effect = [&] {
    int error = disk.names().find(place.path, &inode);
    if (error == 0 && options.create && options.exclusive) return EEXIST;
    if (error == ENOENT && options.create) {
      error = disk.names().create(place.path, FileType::kRegular, options.mode, &inode);
    } else if (error == 0 && inode->type == FileType::kDirectory) {
      return EISDIR;
    } else if (error == 0 && options.truncate && options.write) {
      inode->content.set_size(0, disk.prng().chance(1, 2));
    }
    if (error == 0) file = std::make_unique<SimFile>(life_, disk, inode, path, place.path, options);
    return error;
  };
  Status status = co_await perform(disk, "open", path, disk.config().latency.name, options.write,
                                   std::move(effect));
  HF_CO_TRY(status);
  co_return std::move(file);
}

Task<Result<FileInfo>> SimFs::stat(std::string path) {
  Place place = place_of(path);
  if (place.disk == nullptr) co_return Error::from_errno(ENOENT, "stat " + path);
  SimDisk& disk = *place.disk;
  FileInfo info;
  std::function<int()> effect = [&] {
    InodeRef inode;
    const int error = disk.names().find(place.path, &inode);
    if (error != 0) return error;
    info.type = inode->type;
    info.size = inode->content.size();
    info.allocated_bytes = inode->content.allocated_bytes();
    info.inode = inode->number;
    info.link_count = inode->links;
    info.mode = inode->mode;
    return 0;
  };
  Status status =
      co_await perform(disk, "stat", path, disk.config().latency.name, false, std::move(effect));
  HF_CO_TRY(status);
  co_return info;
}

Task<Result<std::vector<DirectoryEntry>>> SimFs::list(std::string path) {
  Place place = place_of(path);
  if (place.disk == nullptr) co_return Error::from_errno(ENOENT, "list " + path);
  SimDisk& disk = *place.disk;
  std::vector<DirectoryEntry> entries;
  std::function<int()> effect = [&] {
    InodeRef inode;
    const int error = disk.names().find(place.path, &inode);
    if (error != 0) return error;
    if (inode->type != FileType::kDirectory) return ENOTDIR;
    for (const auto& [name, child] : inode->names) {
      entries.push_back(DirectoryEntry{name, child->type});
    }
    return 0;
  };
  Status status =
      co_await perform(disk, "list", path, disk.config().latency.name, false, std::move(effect));
  HF_CO_TRY(status);
  if (entries.size() > kMaxDirectoryEntries) {
    co_return make_error(ErrorCode::kLimitExceeded, "list {}: more than {} entries", path,
                         kMaxDirectoryEntries);
  }
  co_return std::move(entries);
}

Task<Status> SimFs::make_directory(std::string path, mode_t mode) {
  Place place = place_of(path);
  if (place.disk == nullptr) co_return Error::from_errno(ENOENT, "make directory " + path);
  std::function<int()> effect = [&] {
    InodeRef inode;
    return place.disk->names().create(place.path, FileType::kDirectory, mode, &inode);
  };
  co_return co_await perform(*place.disk, "make directory", path, place.disk->config().latency.name,
                             true, std::move(effect));
}

Task<Status> SimFs::remove_directory(std::string path) {
  Place place = place_of(path);
  if (place.disk == nullptr) co_return Error::from_errno(ENOENT, "remove directory " + path);
  std::function<int()> effect = [&] { return place.disk->names().remove_directory(place.path); };
  co_return co_await perform(*place.disk, "remove directory", path,
                             place.disk->config().latency.name, true, std::move(effect));
}

Task<Status> SimFs::unlink(std::string path) {
  Place place = place_of(path);
  if (place.disk == nullptr) co_return Error::from_errno(ENOENT, "unlink " + path);
  std::function<int()> effect = [&] { return place.disk->names().unlink(place.path); };
  co_return co_await perform(*place.disk, "unlink", path, place.disk->config().latency.name, true,
                             std::move(effect));
}

Task<Status> SimFs::two_names(const char* what, std::string from, std::string to,
                              int (SimNames::*operation)(const std::string&, const std::string&)) {
  Place source = place_of(from);
  Place target = place_of(to);
  const std::string both = from + " to " + to;
  if (source.disk == nullptr || target.disk == nullptr) {
    co_return Error::from_errno(ENOENT, fmt::format("{} {}", what, both));
  }
  std::function<int()> effect = [&] {
    if (source.disk != target.disk) return EXDEV;
    return (source.disk->names().*operation)(source.path, target.path);
  };
  co_return co_await perform(*source.disk, what, both, source.disk->config().latency.name, true,
                             std::move(effect));
}

Task<Status> SimFs::rename(std::string from, std::string to) {
  co_return co_await two_names("rename", std::move(from), std::move(to), &SimNames::rename);
}

Task<Status> SimFs::link(std::string from, std::string to) {
  co_return co_await two_names("link", std::move(from), std::move(to), &SimNames::link);
}

Task<Status> SimFs::reflink(std::string from, std::string to) {
  Place source = place_of(from);
  Place target = place_of(to);
  const std::string both = from + " to " + to;
  if (source.disk == nullptr || target.disk == nullptr) {
    co_return Error::from_errno(ENOENT, "reflink " + both);
  }
  SimDisk& disk = *source.disk;
  std::function<int()> effect = [&] {
    if (source.disk != target.disk) return EXDEV;
    if (!disk.config().has_reflinks) return EOPNOTSUPP;
    InodeRef old, made;
    int error = disk.names().find(source.path, &old);
    if (error != 0) return error;
    if (old->type != FileType::kRegular) return EISDIR;
    error = disk.names().create(target.path, FileType::kRegular, old->mode, &made);
    if (error == 0) made->content.clone_from(old->content);
    return error;
  };
  co_return co_await perform(disk, "reflink", both, disk.config().latency.name * 5, true,
                             std::move(effect));
}

Task<Status> SimFs::sync_dir(std::string path) {
  Place place = place_of(path);
  if (place.disk == nullptr) co_return Error::from_errno(ENOENT, "sync directory " + path);
  SimDisk& disk = *place.disk;
  std::optional<FaultKind> fault = disk.draw(IoKind::kSyncData, place.path);
  const bool fails = fault == FaultKind::kSyncError;
  if (fails) disk.record_fault(*fault, place.path, 0, 0);
  std::function<int()> effect = [&disk, &place, fails] {
    return fails ? EIO : disk.names().sync_dir(place.path);
  };
  co_return co_await perform(disk, "sync directory", path, disk.config().latency.durable, true,
                             std::move(effect));
}

Task<Result<SpaceInfo>> SimFs::space(std::string path) {
  Place place = place_of(path);
  if (place.disk == nullptr) co_return Error::from_errno(ENOENT, "space of " + path);
  SimDisk& disk = *place.disk;
  SpaceInfo info;
  std::function<int()> effect = [&] {
    InodeRef inode;
    const int error = disk.names().find(place.path, &inode);
    if (error != 0) return error;
    info.total_bytes = disk.space().capacity() * kPageSize;
    info.free_bytes = disk.space().free() * kPageSize;
    info.total_inodes = disk.names().inode_limit();
    info.free_inodes =
        info.total_inodes - std::min(info.total_inodes, uint64_t{disk.names().inodes().size()});
    return 0;
  };
  Status status =
      co_await perform(disk, "space", path, disk.config().latency.name, false, std::move(effect));
  HF_CO_TRY(status);
  co_return info;
}

}  // namespace hf::sim
