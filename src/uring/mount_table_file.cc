#include "uring/mount_table_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/units.h"
#include "uring/owned_fd.h"

namespace hf {
namespace {

constexpr size_t kMaxTableBytes = 64 * kMiB;

}  // namespace

// A file of /proc has no size: it is read to its end.
Result<std::string> read_mount_table(const std::string& path) {
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open " + path);
  std::string text;
  char buffer[64 * 1024];
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno(errno, "read " + path);
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > kMaxTableBytes) {
      return make_error(ErrorCode::kLimitExceeded, "{} is unreasonably long", path);
    }
  }
}

}  // namespace hf
