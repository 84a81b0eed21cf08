// Decisions and argument vectors around mkfs and fsck. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "mount/probe.h"
#include "volume/filesystem_spec.h"

namespace hf::mount {

// What a device must carry that was formatted before: a file system of the spec's type, of whatever UUID (a person may
// have changed it). kNotEmpty: something else. kCorruption: it lost what it should carry.
Status check_formatted(const std::string& device, const Content& content, const FilesystemSpec& spec);

// mkfs without a discard storm (the store reads never-written blocks as zeroes already). Formats over whatever is there:
// what an mkfs left that was cut short may look like anything. Touches no other device. ext4 and xfs get spec.uuid, btrfs
// one by chance.
std::vector<std::string> mkfs_argv(const std::string& device, const FilesystemSpec& spec);
// Takes away what mkfs puts into the root: databases refuse a data directory that is not empty, and Docker copies an image's
// files into a volume only while that is. Empty where mkfs puts nothing there. (e2fsck makes lost+found again when it needs it.)
std::vector<std::string> empty_root_argv(const std::string& device, spec::FsType fs);
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
