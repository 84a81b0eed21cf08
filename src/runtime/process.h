// Running helper programs, and calls that block.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "runtime/clock.h"
#include "runtime/sync.h"
#include "runtime/task.h"

namespace hf {

struct CommandResult {
  int exit_status = 0;  // 128 + signal when killed
  std::string output;   // standard output and error, interleaved, the last 64 KiB
};

// A program that runs until it ends or is told to. Destroy only after wait() has ended.
class Child {
 public:
  virtual ~Child() = default;
  virtual int pid() const = 0;
  // Nothing happens to a program that has ended.
  virtual void signal(int number) = 0;
  // Its end: the exit status, 128 + signal when killed. Once.
  virtual Task<int> wait() = 0;
};

// Runs programs without a shell: argv[0] is an absolute path or a name sought in a fixed, safe
// PATH; the environment is minimal; standard input is empty; no descriptor of ours is inherited.
class Process {
 public:
  virtual ~Process() = default;
  // kTimeout (killed, with its whole process group) after `timeout`; kMissingFeature where the
  // program is not installed. A non-zero exit is not an error here.
  virtual Task<Result<CommandResult>> run(std::vector<std::string> argv, Duration timeout) = 0;
  // Starts one that stays, in the same way. What it writes is added to `log_file` (mode 0600). It
  // is killed when the thread of the loop ends, by whatever cause. kNotSupported in simulation.
  virtual Result<std::unique_ptr<Child>> start(std::vector<std::string> argv,
                                               std::string log_file) {
    return make_error(ErrorCode::kNotSupported, "{} > {}: no programs that stay run here", argv[0],
                      log_file);
  }
};

// A bounded number of threads for calls that block (SQLite, mount(2), libblkid). In simulation `fn`
// runs at once on the loop.
class BlockingPool {
 public:
  virtual ~BlockingPool() = default;
  // Runs `fn` on a pool thread, then `done` on the loop that called. `fn` must touch nothing that
  // the loop owns. Calls of one caller may run at the same time.
  virtual void submit(std::function<void()> fn, std::function<void()> done) = 0;
};

namespace process_detail {
template <typename T>
struct BlockingCall {
  explicit BlockingCall(std::function<T()> f) : fn(std::move(f)) {}
  std::function<T()> fn;
  std::optional<T> value;
  Event done;
};
}  // namespace process_detail

// Result<int> r = co_await run_blocking<Result<int>>(pool, std::move(named_function));
template <typename T>
Task<T> run_blocking(BlockingPool& pool, std::function<T()> fn) {
  process_detail::BlockingCall<T> call(std::move(fn));
  process_detail::BlockingCall<T>* raw = &call;
  std::function<void()> work = [raw] { raw->value.emplace(raw->fn()); };
  std::function<void()> finish = [raw] { raw->done.set(); };
  pool.submit(std::move(work), std::move(finish));
  co_await call.done.wait();
  co_return std::move(*call.value);
}

}  // namespace hf
