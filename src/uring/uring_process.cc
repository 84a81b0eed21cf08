#include "uring/uring_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "runtime/gate.h"
#include "uring/uring_call.h"

namespace hf {
namespace {

constexpr size_t kReadBytes = 16 * 1024;
// A program that does not die of SIGKILL within this time hangs in the kernel.
constexpr Duration kKillPatience = 5s;

// The program's absolute path. kMissingFeature where it is not installed.
Result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    if (name[0] != '/') {
      return make_error(ErrorCode::kInvalidArgument, "program '{}': the path is not absolute",
                        name);
    }
    if (access(name.c_str(), X_OK) == 0) return name;
    return make_error(ErrorCode::kMissingFeature, "program {} is not installed", name);
  }
  std::string_view rest = kSafePath;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string_view dir = rest.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
    std::string path = fmt::format("{}/{}", dir, name);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return make_error(ErrorCode::kMissingFeature, "program {} is not installed (sought in {})", name,
                    kSafePath);
}

// posix_spawn's two objects, destroyed with their scope.
class SpawnPlan {
 public:
  explicit SpawnPlan(int output_fd) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    int err = posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    err |= posix_spawn_file_actions_adddup2(&actions_, output_fd, 1);
    err |= posix_spawn_file_actions_adddup2(&actions_, output_fd, 2);
    err |= posix_spawn_file_actions_addclosefrom_np(&actions_, 3);
    err |= posix_spawn_file_actions_addchdir_np(&actions_, "/");
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    err |= posix_spawnattr_setsigmask(&attributes_, &none);
    err |= posix_spawnattr_setsigdefault(&attributes_, &all);
    err |= posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    HF_ASSERT(err == 0, "posix_spawn attributes: {}", err);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

Result<pid_t> spawn_program(const std::string& program, std::vector<std::string>& argv,
                            int output_fd) {
  std::vector<char*> args;
  args.reserve(argv.size() + 1);
  for (std::string& arg : argv) args.push_back(arg.data());
  args.push_back(nullptr);
  std::string path = fmt::format("PATH={}", kSafePath);
  std::string locale = "LC_ALL=C";
  char* environment[] = {path.data(), locale.data(), nullptr};
  const SpawnPlan plan(output_fd);
  pid_t pid = -1;
  const int err = posix_spawn(&pid, program.c_str(), plan.actions(), plan.attributes(), args.data(),
                              environment);
  if (err != 0) return Error::from_errno(err, "start " + program);
  return pid;
}

// The last kMaxOutput bytes of what was added.
class Tail {
 public:
  void add(const char* data, size_t size) {
    text_.append(data, size);
    // Cut rarely, so that long output is not moved at every read.
    if (text_.size() > 2 * UringProcess::kMaxOutput) cut();
  }
  std::string take() {
    cut();
    return std::move(text_);
  }

 private:
  void cut() {
    if (text_.size() > UringProcess::kMaxOutput) {
      text_.erase(0, text_.size() - UringProcess::kMaxOutput);
    }
  }
  std::string text_;
};

// Reads the child's output until its end, or until `reading` is cancelled.
struct Reader {
  explicit Reader(UringLoop& l, int f) : loop(l), fd(f) {}
  UringLoop& loop;
  const int fd;
  Tail tail;
  UringCall* call = nullptr;
  bool stop = false;
  std::array<char, kReadBytes> buffer;
};

Task<void> read_output(Reader& reader) {
  while (!reader.stop) {
    UringCall call(reader.loop);
    // Waits by poll, so that a cancel never loses bytes that were read.
    io_uring_prep_poll_add(call.sqe(), reader.fd, POLLIN);
    reader.call = &call;
    const int result = co_await call;
    reader.call = nullptr;
    if (result < 0 && result != -EINTR) co_return;
    const ssize_t n = ::read(reader.fd, reader.buffer.data(), reader.buffer.size());
    if (n > 0) reader.tail.add(reader.buffer.data(), static_cast<size_t>(n));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) co_return;
  }
}

Task<bool> ended_within(UringLoop& loop, int pidfd, Duration time) {
  UringCall ended(loop);
  io_uring_prep_poll_add(ended.sqe(), pidfd, POLLIN);
  CallDeadline deadline(loop, ended, UringLoop::now() + time);
  const int result = co_await ended;
  HF_ASSERT(result >= 0 || deadline.expired(), "poll of a pidfd: {}", result);
  co_return result >= 0;
}

int exit_status_of(int pidfd) {
  siginfo_t info{};
  int result;
  do {
    result = waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED);
  } while (result != 0 && errno == EINTR);
  HF_ASSERT(result == 0, "waitid: {}", errno);
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

class UringChild final : public Child {
 public:
  UringChild(UringLoop& loop, pid_t pid, OwnedFd pidfd)
      : loop_(loop), pid_(pid), pidfd_(std::move(pidfd)) {}
  ~UringChild() override {
    HF_ASSERT(ended_, "the handle of child {} goes before the child", pid_);
  }
  int pid() const override { return pid_; }
  void signal(int number) override {
    if (!ended_) (void)syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
  }
  Task<int> wait() override {
    UringCall ended(loop_);
    io_uring_prep_poll_add(ended.sqe(), pidfd_.get(), POLLIN);
    const int result = co_await ended;
    HF_ASSERT(result >= 0, "poll of a pidfd: {}", result);
    ended_ = true;
    co_return exit_status_of(pidfd_.get());
  }

 private:
  UringLoop& loop_;
  const pid_t pid_;
  OwnedFd pidfd_;
  bool ended_ = false;
};

// What ran, for a person: a program of another's name (flock, sh) tells too little.
std::string command_line(const std::vector<std::string>& argv) {
  constexpr size_t kLongest = 200;
  std::string line;
  for (const std::string& word : argv) {
    if (!line.empty()) line += ' ';
    line += word;
    if (line.size() > kLongest) return line.substr(0, kLongest) + "...";
  }
  return line;
}

}  // namespace

Result<std::unique_ptr<Child>> UringProcess::start(std::vector<std::string> argv,
                                                   std::string log_file) {
  HF_ASSERT(!argv.empty());
  Result<std::string> program = find_program(argv[0]);
  HF_TRY(program);
  const Result<std::string> setpriv = find_program("setpriv");
  HF_TRY(setpriv);
  argv[0] = *program;
  // A daemon that died before the signal was asked for is noticed by who the parent is then.
  argv.insert(argv.begin(), {*setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c",
                             "[ $PPID = \"$0\" ] && exec \"$@\"", std::to_string(::getpid())});
  OwnedFd log(open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) return Error::from_errno(errno, "open " + log_file);
  const Result<pid_t> pid = spawn_program(*setpriv, argv, log.get());
  HF_TRY(pid);
  // The child cannot be gone: nobody but us reaps it.
  OwnedFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  HF_ASSERT(pidfd.valid(), "pidfd_open: {}", errno);
  return std::unique_ptr<Child>(new UringChild(loop_, *pid, std::move(pidfd)));
}

void UringProcess::reap_stuck() {
  std::erase_if(stuck_, [](const OwnedFd& pidfd) {
    siginfo_t info{};
    return waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG) == 0 &&
           info.si_pid != 0;
  });
}

Task<Result<CommandResult>> UringProcess::run(std::vector<std::string> argv, Duration timeout) {
  HF_ASSERT(!argv.empty());
  co_await running_.acquire(1);
  SemaphoreUnits slot(running_, 1);
  reap_stuck();
  Result<std::string> program = find_program(argv[0]);
  HF_CO_TRY(program);
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) co_return Error::from_errno(errno, "pipe");
  OwnedFd read_end(pipe_fds[0]);
  OwnedFd write_end(pipe_fds[1]);
  // Only our end: the open file description of the child's end is another one.
  (void)fcntl(read_end.get(), F_SETFL, O_NONBLOCK);
  const Result<pid_t> pid = spawn_program(*program, argv, write_end.get());
  write_end.reset();
  HF_CO_TRY(pid);
  // The child cannot be gone: nobody but us reaps it.
  OwnedFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  HF_ASSERT(pidfd.valid(), "pidfd_open: {}", errno);

  Gate gate;
  Reader reader(loop_, read_end.get());
  spawn(gate, read_output(reader));
  const bool in_time = co_await ended_within(loop_, pidfd.get(), timeout);
  bool ended = in_time;
  if (!in_time) {
    (void)kill(-*pid, SIGKILL);
    ended = co_await ended_within(loop_, pidfd.get(), kKillPatience);
  }
  CommandResult result;
  if (ended) result.exit_status = exit_status_of(pidfd.get());
  // What it wrote before its end is in the pipe; a grandchild that keeps the pipe open is not
  // waited for.
  reader.stop = true;
  if (reader.call != nullptr) reader.call->cancel();
  co_await gate.close();
  ssize_t n;
  while ((n = ::read(read_end.get(), reader.buffer.data(), reader.buffer.size())) > 0) {
    reader.tail.add(reader.buffer.data(), static_cast<size_t>(n));
  }
  result.output = reader.tail.take();
  if (!ended) stuck_.push_back(std::move(pidfd));
  if (!in_time) {
    co_return make_error(
        ErrorCode::kTimeout, "\"{}\" did not end within {} ms and was killed{}; it wrote: {}",
        command_line(argv), std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count(),
        ended ? "" : " (it is stuck in the kernel and has not died yet)",
        result.output.empty() ? "nothing" : result.output);
  }
  co_return result;
}

}  // namespace hf
