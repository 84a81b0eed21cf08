#include "uring/blocking_pool.h"

#include <pthread.h>
#include <signal.h>

#include "base/assert.h"
#include "runtime/loop.h"

namespace hf {

ThreadPool::ThreadPool(size_t max_threads) : max_threads_(max_threads) {
  HF_ASSERT(max_threads > 0);
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    queue_.clear();
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

size_t ThreadPool::threads() const {
  const std::lock_guard lock(mutex_);
  return threads_.size();
}

void ThreadPool::submit(std::function<void()> fn, std::function<void()> done) {
  Call call{std::move(fn), std::move(done), &Loop::current()};
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(call));
    if (queue_.size() > idle_ && threads_.size() < max_threads_) {
      threads_.emplace_back([this] { work(); });
    }
  }
  wake_.notify_one();
}

void ThreadPool::work() {
  // Signals belong to the loop's thread.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "hf-blocking");
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    --idle_;
    if (closing_) return;
    Call call = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    call.fn();
    call.fn = nullptr;  // its captures end here, before the caller goes on
    call.loop->post(std::move(call.done));
    call.done = nullptr;
    lock.lock();
  }
}

}  // namespace hf
