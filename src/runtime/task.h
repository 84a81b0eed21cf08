// Task<T>: a lazy coroutine. Starts when awaited, is awaited at most once, owns its frame.
//
//   Task<Result<size_t>> read_header(File& file) {
//     Result<size_t> n = co_await file.read_at(0, buffer);   // rule R1: one of five shapes
//     if (!n.ok()) co_return n.error();
//     …
//   }
//
// gcc 12.2 miscompiles several shapes of coroutine silently (docs/style.md, R1–R9). Two of the rules are
// checked here at compile time, the others by tools/tidy.py:
//   R3  a parameter taken by value is trivially destructible or not an aggregate;
//   R4  a lambda is never a coroutine.
//
// Awaiting a task runs it on the caller's stack until its first real suspension; if it finishes without
// one, the caller goes on without a turn of the loop. A task that suspended queues its awaiter on the
// loop when it ends (R5: no symmetric transfer).
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/assert.h"
#include "base/error.h"
#include "runtime/loop.h"

namespace hf {

template <typename T>
class Task;

namespace task_detail {

template <typename T>
consteval bool is_lambda() {
  const std::string_view name = __PRETTY_FUNCTION__;
  return name.find("<lambda") != std::string_view::npos ||
         name.find("(lambda") != std::string_view::npos;
}

template <typename P>
consteval bool parameter_is_safe() {
  if constexpr (std::is_reference_v<P>) {
    return !is_lambda<std::remove_cvref_t<P>>();
  } else {
    return (std::is_trivially_destructible_v<P> || !std::is_aggregate_v<P>) && !is_lambda<P>();
  }
}

class PromiseBase {
 public:
  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
      PromiseBase& promise = self.promise();
      if (promise.continuation_.handle) Loop::current().ready(promise.continuation_);
    }
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  // We do not throw; third-party exceptions are caught at their edge. One that gets here is a bug.
  void unhandled_exception() noexcept { std::terminate(); }
  void set_continuation(std::coroutine_handle<> handle) { continuation_.handle = handle; }

 private:
  ReadyItem continuation_;
};

template <typename T>
class Promise : public PromiseBase {
 public:
  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() {
    HF_ASSERT(value_.has_value());
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
 public:
  Task<void> get_return_object();
  void return_void() const {}
  void take() const {}
};

}  // namespace task_detail

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = task_detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { destroy(); }

  class Awaiter {
   public:
    explicit Awaiter(Handle handle) : handle_(handle) {}
    // Runs the child to its first suspension on this stack.
    bool await_ready() const {
      HF_ASSERT(handle_ && !handle_.done(), "a task is awaited once");
      handle_.resume();
      return handle_.done();
    }
    void await_suspend(std::coroutine_handle<> parent) const {
      handle_.promise().set_continuation(parent);
    }
    T await_resume() const { return handle_.promise().take(); }

   private:
    Handle handle_;
  };
  // `co_await f()` keeps the temporary Task (and so the frame) alive until the statement ends.
  Awaiter operator co_await() && { return Awaiter(handle_); }

 private:
  void destroy() {
    if (handle_) handle_.destroy();
    handle_ = {};
  }
  Handle handle_;
};

namespace task_detail {
template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}
}  // namespace task_detail

}  // namespace hf

template <typename T, typename... Args>
struct std::coroutine_traits<hf::Task<T>, Args...> {
  static_assert((hf::task_detail::parameter_is_safe<Args>() && ...),
                "coroutine parameter: an aggregate with a destructor (R3) or a lambda (R4)");
  using promise_type = typename hf::Task<T>::promise_type;
};

// In coroutines that return a Task<Result<…>>: awaits nothing itself, tests a Result in hand.
//   Status s = co_await file.sync_data();
//   HF_CO_TRY(s);
#define HF_CO_TRY(result) \
  do {                    \
    if (!(result).ok()) co_return (result).error(); \
  } while (false)
