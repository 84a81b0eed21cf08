// The blocking halves of UringFileSystem: plain system calls, run on a pool thread. Paths as in
// runtime/file.h; errors name them.
#pragma once

#include <string>
#include <vector>

#include "runtime/file.h"

namespace hf::fs_calls {

// "open /x: No such file or directory", with a code and, where it helps, a way out.
Error path_error(int sys_errno, std::string_view verb, const std::string& path);
Error path_error(int sys_errno, std::string_view verb, const std::string& from,
                 const std::string& to);

FileType type_of_mode(mode_t mode);
Result<FileInfo> stat(const std::string& path);
Result<std::vector<DirectoryEntry>> list(const std::string& path);
Status reflink(const std::string& from, const std::string& to);
Status sync_dir(const std::string& path);
Result<SpaceInfo> space(const std::string& path);

}  // namespace hf::fs_calls
