#include "mount/make_fs.h"

#include <cstdlib>

#include "mount/helper.h"

namespace hf::mount {
using spec::FsType;

Status check_formatted(const std::string& device, const Content& content, const FilesystemSpec& spec) {
  const std::string_view wanted = spec::to_string(spec.fs);
  if (content.empty()) {
    return make_error(ErrorCode::kCorruption,
                      "{} should carry the volume's {} file system and carries nothing; the volume is left "
                      "alone: restore a snapshot, or look with \"holdfast pool verify\"",
                      device, wanted);
  }
  if (content.type == wanted) return {};
  return make_error(ErrorCode::kNotEmpty, "{} carries {}, where the volume's {} file system should be", device,
                    content.describe(), wanted);
}

std::vector<std::string> mkfs_argv(const std::string& device, const FilesystemSpec& spec) {
  const std::string block = std::to_string(spec.block_size);
  switch (spec.fs) {
    case FsType::kExt4:
      return {"mkfs.ext4", "-q", "-F", "-b", block, "-U", spec.uuid, "-L", spec.label, "-m", "0", "-E",
              "nodiscard,lazy_itable_init=1,lazy_journal_init=1", device};
    case FsType::kXfs:
      return {"mkfs.xfs", "-q", "-f", "-K", "-b", "size=" + block, "-m", "uuid=" + spec.uuid, "-L",
              spec.label, device};
    case FsType::kBtrfs:
      // Without -U: to see that the UUID is nowhere else, mkfs.btrfs would read every block device of the machine, and
      // wait for the one that does not answer.
      return {"mkfs.btrfs", "-q", "-f", "-K", "-L", spec.label, device};
    case FsType::kNone: break;
  }
  HF_UNREACHABLE("fs=none is not formatted");
}

std::vector<std::string> empty_root_argv(const std::string& device, FsType fs) {
  if (fs == FsType::kExt4) return {"debugfs", "-w", "-R", "rmdir lost+found", device};
  return {};
}

std::vector<std::string> grow_argv(const std::string& device, const std::string& path, FsType fs) {
  switch (fs) {
    case FsType::kExt4: return {"resize2fs", device};
    case FsType::kXfs: return {"xfs_growfs", path};
    case FsType::kBtrfs: return {"btrfs", "filesystem", "resize", "max", path};
    case FsType::kNone: return {};
  }
  HF_UNREACHABLE();
}

bool ext4_needs_check(std::string_view output) {
  const size_t at = output.find("Filesystem state:");
  if (at == std::string_view::npos) return true;
  const std::string_view state = output.substr(at, output.find('\n', at) - at);
  if (state.find("with errors") != std::string_view::npos) return true;
  if (state.find("not clean") == std::string_view::npos) return false;
  return output.find("needs_recovery") == std::string_view::npos;
}

uint64_t ext4_size_bytes(std::string_view output) {
  const auto number = [output](std::string_view key) -> uint64_t {
    const size_t at = output.find(key);
    if (at == std::string_view::npos) return 0;
    return std::strtoull(std::string(output.substr(at + key.size(), 32)).c_str(), nullptr, 10);
  };
  return number("\nBlock count:") * number("\nBlock size:");
}

Status judge_e2fsck(const std::string& device, int exit_status, std::string_view output) {
  if (exit_status >= 0 && exit_status <= 3) return {};
  return make_error(ErrorCode::kCorruption,
                    "the ext4 file system on {} has damage that e2fsck -p does not mend by itself (exit {}): "
                    "{}. Attach the volume without mounting (holdfast volume attach), take a snapshot, and run "
                    "e2fsck -f on the device",
                    device, exit_status, in_one_line(std::string(output)));
}

}  // namespace hf::mount
