#include "sim/fault_plan.h"

#include <fmt/format.h>

namespace hf::sim {

SimFaultPlan::SimFaultPlan(uint64_t seed)
    : seed_(seed), previous_(t_fault_plan), prng_(seed ^ 0x706c616e) {
  t_fault_plan = this;
}

SimFaultPlan::~SimFaultPlan() {
  t_fault_plan = previous_;
}

bool SimFaultPlan::fault(const char* name) {
  auto it = sites_.find(std::string_view(name));
  if (it == sites_.end()) {
    // By seed and name alone: not by which fault point happens to be reached first.
    uint64_t hash = seed_;
    for (const char* p = name; *p != 0; ++p)
      hash = (hash ^ static_cast<uint8_t>(*p)) * 0x100000001b3;
    Site site;
    site.on = Prng(hash).chance(1, kSitesOneIn);
    it = sites_.emplace(name, site).first;
  }
  Site& site = it->second;
  if (!site.on || (!site.forced && !prng_.chance(1, kFiresOneIn))) return false;
  ++site.fired;
  return true;
}

void SimFaultPlan::probe(const char* name) {
  ++probes_[name];
  if (hook_) hook_(name);
}

uint64_t SimFaultPlan::fired(const std::string& name) const {
  auto it = sites_.find(name);
  return it == sites_.end() ? 0 : it->second.fired;
}

void SimFaultPlan::add_to(ProbeCounts* total) const {
  for (const auto& [name, count] : probes_) (*total)[name] += count;
  for (const auto& [name, site] : sites_) {
    if (site.fired > 0) (*total)["fault:" + name] += site.fired;
  }
}

std::string require_probes(const ProbeCounts& counts, const std::vector<std::string>& names,
                           uint64_t times) {
  std::string missing;
  for (const std::string& name : names) {
    auto it = counts.find(name);
    const uint64_t count = it == counts.end() ? 0 : it->second;
    if (count < times) missing += fmt::format(" {} ({})", name, count);
  }
  if (missing.empty()) return missing;
  return fmt::format("probes passed fewer than {} times:{}", times, missing);
}

}  // namespace hf::sim
