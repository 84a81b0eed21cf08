#include "runtime/gate.h"

namespace hf {
namespace gate_detail {

Detached run_detached(Gate& gate, Task<void> task) {
  co_await std::move(task);
  // The task's frame goes before the gate opens: what waits for the gate may destroy what the frame
  // refers to.
  {
    Task<void> done = std::move(task);
  }
  gate.leave();
}

}  // namespace gate_detail

bool spawn(Gate& gate, Task<void> task) {
  if (!gate.try_enter()) return false;
  gate_detail::run_detached(gate, std::move(task));
  return true;
}

}  // namespace hf
