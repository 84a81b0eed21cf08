// LoopBridge: from an API thread to the loop and back.
//
//   Result<VolumeInfo> r = bridge.call<VolumeInfo>([&] { return control.inspect_volume(name); });
//
// The callable runs on the loop and returns a task (it is no coroutine itself, R4); what it captures by
// reference may be gone if the caller timed out, so capture requests by value.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <utility>

#include "base/error.h"
#include "runtime/gate.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace hf::api {

inline constexpr std::chrono::seconds kApiTimeout{90};

class LoopBridge {
 public:
  // `gate` is closed by the composition root before the control plane stops; calls then get kClosed.
  LoopBridge(Loop& loop, Gate& gate, std::chrono::milliseconds timeout = kApiTimeout)
      : loop_(loop), gate_(gate), timeout_(timeout) {}

  // Any thread but the loop's. kTimeout: the operation goes on. kClosed: the daemon is stopping.
  template <typename T>
  Result<T> call(std::function<Task<Result<T>>()> start) {
    auto shared = std::make_shared<Call<T>>(std::move(start));
    std::future<Result<T>> answer = shared->answer.get_future();
    Gate& gate = gate_;
    loop_.post([shared = std::move(shared), &gate] {
      if (!spawn(gate, run<T>(shared))) {
        shared->answer.set_value(make_error(ErrorCode::kClosed, "the daemon is stopping"));
      }
    });
    if (answer.wait_for(timeout_) != std::future_status::ready) {
      return make_error(ErrorCode::kTimeout,
                        "no answer after {} s; the operation goes on: ask again to see its result",
                        std::chrono::duration_cast<std::chrono::seconds>(timeout_).count());
    }
    try {
      return answer.get();
    } catch (const std::future_error&) {  // the loop dropped the post
      return make_error(ErrorCode::kClosed, "the daemon is stopping");
    }
  }

 private:
  template <typename T>
  struct Call {
    explicit Call(std::function<Task<Result<T>>()> s) : start(std::move(s)) {}
    std::function<Task<Result<T>>()> start;
    std::promise<Result<T>> answer;
  };
  template <typename T>
  static Task<void> run(std::shared_ptr<Call<T>> call) {
    Result<T> value = co_await call->start();
    call->answer.set_value(std::move(value));
  }

  Loop& loop_;
  Gate& gate_;
  std::chrono::milliseconds timeout_;
};

}  // namespace hf::api
