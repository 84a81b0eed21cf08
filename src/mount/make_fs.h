// Decisions and argument vectors around mkfs and fsck. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "mount/probe.h"
#include "volume/spec/volume_spec.h"

namespace hf::mount {

// The same fields as cluster::FilesystemSpec, which says what they mean.
struct FilesystemSpec {
  FilesystemSpec() = default;
  spec::FsType fs = spec::FsType::kExt4;
  uint32_t block_size = 4096;
  bool journal_data = false;
  bool discard = true;
  std::vector<std::string> mount_options;
  bool may_format = false;
  std::string uuid, inherited_uuid, label;
};

enum class Prepare : uint8_t {
  kFormat,
  kAccept,
  kRestamp,  // ours, with the UUID of the volume it was cloned from: give it its own
};

// kNotEmpty: it carries something that is not ours. kCorruption: it lost what it should carry.
Result<Prepare> decide_prepare(const std::string& device, const Content& content,
                               const FilesystemSpec& spec);

// mkfs without a discard storm (the store reads never-written blocks as zeroes already).
std::vector<std::string> mkfs_argv(const std::string& device, const FilesystemSpec& spec);
// Takes away what mkfs puts into the root: databases refuse a data directory that is not empty, and Docker copies an image's
// files into a volume only while that is. Empty where mkfs puts nothing there. (e2fsck makes lost+found again when it needs it.)
std::vector<std::string> empty_root_argv(const std::string& device, spec::FsType fs);
// Empty where a new UUID is not needed (ext4; xfs is mounted with nouuid).
std::vector<std::string> restamp_argv(const std::string& device, const FilesystemSpec& spec);
// Grows to the device's size. xfs and btrfs are grown by mount point.
std::vector<std::string> grow_argv(const std::string& device, const std::string& path, spec::FsType fs);

// From `dumpe2fs -h`: does the superblock say that a check is due (errors, or not clean without a journal to
// replay)? A dirty journal alone is replayed by the mount.
bool ext4_needs_check(std::string_view dumpe2fs_output);
// The size in bytes that the superblock gives, 0 when it is not in the output.
uint64_t ext4_size_bytes(std::string_view dumpe2fs_output);
// e2fsck's exit status (e2fsck(8)): 0 to 3 mean mended.
Status judge_e2fsck(const std::string& device, int exit_status, std::string_view output);

}  // namespace hf::mount
