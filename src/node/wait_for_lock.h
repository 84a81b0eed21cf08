// A lock that a process held which was just killed is free only when the kernel is done with that process and the
// writes it left behind: measured, up to some seconds. So a lock that is held is asked for again for a while.
#pragma once

#include <functional>

#include "base/error.h"
#include "runtime/cancel.h"
#include "runtime/clock.h"
#include "runtime/task.h"

namespace hf::node {

inline constexpr Duration kLockPause = 100ms;

// The answer of `attempt`, asked again while it is kLocked, until `patience` is over.
template <typename T>
Task<Result<T>> wait_for_lock(Clock& clock, Duration patience, std::function<Task<Result<T>>()> attempt) {
  for (Duration waited{};; waited += kLockPause) {
    Result<T> result = co_await attempt();
    if (result.code() != ErrorCode::kLocked || waited >= patience) co_return std::move(result);
    Status slept = co_await clock.sleep_for(kLockPause, CancelToken());
    HF_CO_TRY(slept);
  }
}

}  // namespace hf::node
