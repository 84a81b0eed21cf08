#include "mount/freeze.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "mount/helper.h"
#include "uring/owned_fd.h"

namespace hf::mount {
namespace {

// Writing back what is dirty, before writers wait, takes as long as the pool takes.
constexpr Duration kWriteBackLimit = 60s;
constexpr Duration kThawLimit = 60s;
constexpr int kFrozenElsewhere = 3, kCannotFreeze = 4;
constexpr char kThawed[] = "thawed";

// Of the two programs. A failure's sentence goes to standard output, which the daemon reads.
int told(int status, const std::string& what) {
  std::printf("%s", what.c_str());
  std::fflush(stdout);
  return status;
}

// The root of a mounted file system; -1 with errno = EINVAL where `path` is none: the host's own is
// never touched.
OwnedFd open_root(const std::string& path, struct stat* info) {
  OwnedFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat parent {};
  if (!fd.valid() || ::fstat(fd.get(), info) != 0 || ::stat((path + "/..").c_str(), &parent) != 0)
    return OwnedFd();
  if (info->st_dev == parent.st_dev) {
    errno = EINVAL;
    return OwnedFd();
  }
  return fd;
}

// One guard per file system: an abstract socket, which goes with its process.
socklen_t guard_address(const struct stat& info, sockaddr_un* address) {
  address->sun_family = AF_UNIX;
  const std::string name =
      fmt::format("holdfast-freeze-{}:{}", major(info.st_dev), minor(info.st_dev));
  address->sun_path[0] = '\0';
  std::memcpy(address->sun_path + 1, name.data(), name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

bool is_root(int connection) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

// The guard itself: its session is its own, so that nothing aimed at its parent's group reaches it.
[[noreturn]] void guard(int root, int listener, int daemon, int report, int64_t limit_ms) {
  ::setsid();
  const int64_t began = now_ms();
  const int failed = ::ioctl(root, FIFREEZE, 0) == 0 ? 0 : errno;
  if (failed == 0 && now_ms() - began > limit_ms) ::ioctl(root, FITHAW, 0);
  const bool told = ::write(report, &failed, sizeof failed) == static_cast<ssize_t>(sizeof failed);
  if (failed != 0) ::_exit(1);
  pollfd waits[2] = {{listener, POLLIN, 0}, {daemon, POLLIN, 0}};
  int asked = -1;
  while (told && asked < 0) {
    const int64_t left = began + limit_ms - now_ms();
    if (left <= 0) break;
    const int ready = ::poll(waits, 2, static_cast<int>(left));
    if (ready < 0 && errno != EINTR) break;
    if (ready > 0 && waits[1].revents != 0) break;
    if (ready <= 0 || waits[0].revents == 0) continue;
    const int connection = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection >= 0 && is_root(connection))
      asked = connection;
    else if (connection >= 0)
      ::close(connection);
  }
  const bool until_now = ::ioctl(root, FITHAW, 0) == 0;
  if (asked >= 0 && until_now) (void)!::write(asked, kThawed, sizeof kThawed);
  ::_exit(0);
}

int run_freeze(const std::string& path, int64_t limit_ms) {
  ::signal(SIGPIPE, SIG_IGN);
  struct stat info {};
  const OwnedFd root = open_root(path, &info);
  if (!root.valid()) return told(1, "no file system is mounted at " + path);
  // The daemon is our parent; where it has ended already the guard is told at once.
  const OwnedFd daemon(static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0)));
  const OwnedFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  const socklen_t size = guard_address(info, &address);
  if (!daemon.valid() || !listener.valid())
    return told(1, std::string("no guard: ") + std::strerror(errno));
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener.get(), 1) != 0) {
    return told(kFrozenElsewhere, "an earlier freeze of it is still ending");
  }
  if (::syncfs(root.get()) != 0) return told(1, std::string("syncfs: ") + std::strerror(errno));
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) return told(1, std::string("pipe: ") + std::strerror(errno));
  const pid_t child = ::fork();
  if (child < 0) return told(1, std::string("fork: ") + std::strerror(errno));
  if (child == 0) {
    for (int fd = 0; fd < 3; ++fd) ::close(fd);
    ::close(report[0]);
    guard(root.get(), listener.get(), daemon.get(), report[1], limit_ms);
  }
  ::close(report[1]);
  int failed = EPIPE;
  const ssize_t n = ::read(report[0], &failed, sizeof failed);
  if (n != static_cast<ssize_t>(sizeof failed)) return told(1, "the guard has died");
  if (failed == EBUSY) return told(kFrozenElsewhere, "it is frozen already");
  if (failed == EOPNOTSUPP) return told(kCannotFreeze, "it cannot be frozen");
  return failed == 0 ? 0 : told(1, std::string("FIFREEZE: ") + std::strerror(failed));
}

// Not frozen, and no freeze under way: one that a killed process began ends by itself, at any time.
// Only a freeze of our own that succeeds, and is thawed, proves that there was none.
int thaw_for_certain(int root) {
  for (;;) {
    if (::ioctl(root, FITHAW, 0) == 0) return 0;
    if (errno != EINVAL) return told(1, std::string("FITHAW: ") + std::strerror(errno));
    if (::ioctl(root, FIFREEZE, 0) == 0) continue;
    if (errno == EOPNOTSUPP) return 0;
    if (errno != EBUSY) return told(1, std::string("FIFREEZE: ") + std::strerror(errno));
    (void)::poll(nullptr, 0, 10);
  }
}

int run_thaw(const std::string& path) {
  struct stat info {};
  const OwnedFd root = open_root(path, &info);
  if (!root.valid()) return 0;
  const OwnedFd connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  const socklen_t size = guard_address(info, &address);
  if (connection.valid() &&
      ::connect(connection.get(), reinterpret_cast<sockaddr*>(&address), size) == 0) {
    char answer[sizeof kThawed] = {};
    const ssize_t n = ::read(connection.get(), answer, sizeof answer);
    if (n == static_cast<ssize_t>(sizeof answer)) return told(0, kThawed);
  }
  return thaw_for_certain(root.get());
}

}  // namespace

int freeze_main(int argc, char** argv) {
  const std::string verb = argv[1];
  if (verb == kFreezeGuard && argc == 4)
    return run_freeze(argv[2], std::strtoll(argv[3], nullptr, 10));
  if (verb == kThawGuard && argc == 3) return run_thaw(argv[2]);
  std::fprintf(stderr, "%s is for holdfastd itself\n", verb.c_str());
  return 2;
}

Task<Status> freeze(Process& process, std::string path, Duration limit) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
  std::vector<std::string> argv = {"/proc/self/exe", kFreezeGuard, path, std::to_string(ms)};
  Result<CommandResult> ran = co_await process.run(std::move(argv), kWriteBackLimit + limit);
  HF_CO_TRY(ran);
  if (ran->exit_status == 0) co_return Status();
  ErrorCode code = ErrorCode::kIo;
  if (ran->exit_status == kFrozenElsewhere) code = ErrorCode::kInUse;
  if (ran->exit_status == kCannotFreeze) code = ErrorCode::kNotSupported;
  co_return make_error(code, "the file system at {} was not frozen: {}", path,
                       ran->output.substr(0, 300));
}

Task<Result<bool>> thaw(Process& process, std::string path) {
  std::vector<std::string> argv = {"/proc/self/exe", kThawGuard, path};
  Result<CommandResult> ran = co_await process.run(std::move(argv), kThawLimit);
  HF_CO_TRY(ran);
  if (ran->exit_status == 0) co_return ran->output == kThawed;
  co_return make_error(ErrorCode::kIo, "the file system at {} was not thawed: {}", path,
                       ran->output.substr(0, 300));
}

}  // namespace hf::mount
