#include "runtime/loop.h"

#include "base/assert.h"

namespace hf {
namespace {

thread_local Loop* t_current = nullptr;

}  // namespace

Loop& Loop::current() {
  HF_ASSERT(t_current != nullptr, "no loop runs on this thread");
  return *t_current;
}

Loop* Loop::current_or_null() { return t_current; }

Loop::Enter::Enter(Loop& loop) : previous_(t_current) { t_current = &loop; }
Loop::Enter::~Enter() { t_current = previous_; }

bool Loop::run_ready(size_t limit) {
  for (size_t i = 0; i < limit && !ready_.empty(); ++i) {
    const std::coroutine_handle<> handle = ready_.pop_front().handle;
    handle.resume();
  }
  return !ready_.empty();
}

}  // namespace hf
