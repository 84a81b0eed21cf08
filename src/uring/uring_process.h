// UringProcess: helper programs. See runtime/process.h.
//
// posix_spawn (vfork inside: no copy of the address space), a session of its own (so a Ctrl-C at
// the daemon's terminal does not hit a running mkfs), every descriptor above 2 closed, signals at
// their defaults. Reaped by its pidfd in the ring: no SIGCHLD handler. At most kMaxAtOnce run, more
// wait.
#pragma once

#include "runtime/process.h"
#include "runtime/sync.h"
#include "uring/owned_fd.h"
#include "uring/uring_loop.h"

namespace hf {

inline constexpr char kSafePath[] = "/usr/sbin:/usr/bin:/sbin:/bin";

class UringProcess final : public Process {
 public:
  static constexpr uint64_t kMaxAtOnce = 32;
  static constexpr size_t kMaxOutput = 64 * 1024;

  explicit UringProcess(UringLoop& loop) : loop_(loop), running_(kMaxAtOnce) {}
  // Output that grandchildren write after the program's own end is not waited for.
  Task<Result<CommandResult>> run(std::vector<std::string> argv, Duration timeout) override;
  // By setpriv (util-linux), which asks the kernel for the death signal, and a shell that then looks
  // whether we are still there.
  Result<std::unique_ptr<Child>> start(std::vector<std::string> argv,
                                       std::string log_file) override;

 private:
  void reap_stuck();

  UringLoop& loop_;
  Semaphore running_;
  std::vector<OwnedFd> stuck_;  // pidfds of programs that SIGKILL has not ended yet
};

}  // namespace hf
