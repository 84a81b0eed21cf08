// Fault points and probes.
//
// HF_FAULT_POINT("journal.small_batch") is false in production. In simulation it is true now and then, by
// the seed: it names, in product code, a place where the rare choice should be taken often (the habit
// of FoundationDB's BUGGIFY). It must never change what is promised, only what is usual.
//
// HF_PROBE("journal.wrapped") counts that a rare path was reached, so that a test can require that its
// seeds reached all of them. Names are string literals, unique per place.
//
// Cost when off: a thread-local load and a branch.
#pragma once

namespace hf {

class FaultPlan {
 public:
  virtual ~FaultPlan() = default;
  virtual bool fault(const char* name) = 0;
  virtual void probe(const char* name) = 0;
};

// Null outside of simulation. Set by the simulator for its thread.
inline thread_local FaultPlan* t_fault_plan = nullptr;

}  // namespace hf

#define HF_FAULT_POINT(name) \
  (::hf::t_fault_plan != nullptr && ::hf::t_fault_plan->fault(name))
#define HF_PROBE(name)                                                     \
  do {                                                                     \
    if (::hf::t_fault_plan != nullptr) ::hf::t_fault_plan->probe(name);    \
  } while (false)
