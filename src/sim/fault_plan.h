// SimFaultPlan: decides the fault points of product code by the seed, and counts its probes.
//
// Per seed each fault point is switched on or off as a whole (one in kSitesOneIn), and one that is
// on fires one time in kFiresOneIn: so that seeds differ in kind, not only in luck.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/prng.h"
#include "runtime/fault_point.h"

namespace hf::sim {

// How often each probe was passed; sums over seeds.
using ProbeCounts = std::map<std::string, uint64_t>;

class SimFaultPlan : public FaultPlan {
 public:
  static constexpr uint64_t kSitesOneIn = 4;
  static constexpr uint64_t kFiresOneIn = 4;

  // Takes the thread's t_fault_plan for its life.
  explicit SimFaultPlan(uint64_t seed);
  ~SimFaultPlan() override;
  SimFaultPlan(const SimFaultPlan&) = delete;
  SimFaultPlan& operator=(const SimFaultPlan&) = delete;

  bool fault(const char* name) override;
  void probe(const char* name) override;

  // Switches a fault point for a test, whatever the seed says.
  void force(const std::string& name, bool on) { sites_[name] = Site{on, true, 0}; }
  uint64_t fired(const std::string& name) const;
  // Called at each probe, on the stack of the code that passes it: to make a note of it, or to
  // order what shall happen soon.
  void on_probe(std::function<void(const char* name)> hook) { hook_ = std::move(hook); }
  const ProbeCounts& probes() const { return probes_; }
  // Adds this plan's counts to `total`, with each fault point that fired as "fault:<name>".
  void add_to(ProbeCounts* total) const;

 private:
  struct Site {
    bool on = false;
    bool forced = false;
    uint64_t fired = 0;
  };
  const uint64_t seed_;
  FaultPlan* const previous_;
  Prng prng_;
  std::map<std::string, Site, std::less<>> sites_;
  ProbeCounts probes_;
  std::function<void(const char* name)> hook_;
};

// "" when every name was passed at least `times`; otherwise a sentence naming those that were not.
std::string require_probes(const ProbeCounts& counts, const std::vector<std::string>& names,
                           uint64_t times = 1);

}  // namespace hf::sim
