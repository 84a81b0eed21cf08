// ThreadPool: the real BlockingPool. Threads are made on demand up to a bound, and kept.
//
// The queue has no bound of its own: whoever submits bounds how much it submits (one per volume,
// per session …). A call runs to its end; there is no cancel. The destructor drops what has not
// begun and waits for what has; `done` of dropped calls never runs, so await your calls before you
// end the pool.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/process.h"

namespace hf {

class ThreadPool final : public BlockingPool {
 public:
  explicit ThreadPool(size_t max_threads);
  ~ThreadPool() override;
  // From a loop's thread: `done` is posted to that loop, which must live until the pool's end.
  void submit(std::function<void()> fn, std::function<void()> done) override;
  size_t threads() const;

 private:
  struct Call {
    std::function<void()> fn;
    std::function<void()> done;
    Loop* loop;
  };
  void work();

  const size_t max_threads_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Call> queue_;  // guarded by mutex_, as all below
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  bool closing_ = false;
};

}  // namespace hf
