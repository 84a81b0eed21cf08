// SimDisk: one simulated device with one file system on it. Survives the death of processes and,
// with losses, that of its host. README.md has the fault model.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/fault_config.h"
#include "sim/page.h"
#include "sim/sim_loop.h"
#include "sim/sim_names.h"

namespace hf::sim {

// One line of the fault ledger: what was done to which place, and when.
struct FaultRecord {
  SimTime at = 0;
  FaultKind kind = FaultKind::kCount;
  std::string path;  // at that time
  uint64_t offset = 0;
  uint64_t length = 0;
};

class SimDisk {
 public:
  SimDisk(SimLoop& loop, std::string name, DiskConfig config);

  const std::string& name() const { return name_; }
  SimLoop& loop() { return loop_; }
  Prng& prng() { return prng_; }
  DiskConfig& config() { return config_; }
  // May be changed at any time.
  DiskFaults& faults() { return config_.faults; }
  SimNames& names() { return names_; }
  const SimNames& names() const { return names_; }
  PageSpace& space() { return space_; }

  // --- what tests and plans order
  // ---------------------------------------------------------------------
  void script(ScriptedFault fault) { scripted_.push_back(std::move(fault)); }
  bool scripts_done() const { return scripted_.empty(); }
  void forget_scripts() { scripted_.clear(); }
  // Nothing is answered for that long from now.
  void hang_for(Duration d);
  // All latencies times `factor`, from now on.
  void set_slow(uint32_t factor) { slow_factor_ = factor; }
  // Pulled out: every operation fails with kIo until it is put back.
  void set_offline(bool offline) { offline_ = offline; }
  void set_capacity(uint64_t bytes) { space_.set_capacity(bytes / kPageSize); }
  // Damages at rest. False (and nothing done) where no medium is: a hole, or no such file. All
  // paths here are the disk's own: what is mounted at "/pool" has its "/pool/f" as "/f".
  bool rot(const std::string& path, uint64_t offset);
  bool make_unreadable(const std::string& path, uint64_t offset);

  // --- for oracles
  // -------------------------------------------------------------------------------------- What has
  // hit this range and has not been overwritten durably since. A superset: a sector that was
  // overwritten in a cache still counts.
  FaultMask hits(const std::string& path, uint64_t offset, uint64_t length) const;
  // Everything that was ever done, in order; at most kLedgerLimit records are kept, all are
  // counted.
  const std::vector<FaultRecord>& ledger() const { return ledger_; }
  uint64_t count(FaultKind kind) const { return counts_[static_cast<size_t>(kind)]; }

  // --- for SimFile, SimFs and SimHost
  // ------------------------------------------------------------------- The fault that hits this
  // operation, if any.
  std::optional<FaultKind> draw(IoKind kind, const std::string& path);
  void record_fault(FaultKind kind, const std::string& path, uint64_t offset, uint64_t length);
  // When an operation that starts now is answered.
  SimTime answer_at(Duration base, uint64_t bytes);
  SimTime hangs_until() const { return hangs_until_; }
  bool is_offline() const { return offline_; }
  bool rot_inode(SimInode& inode, uint64_t offset);
  bool make_inode_unreadable(SimInode& inode, uint64_t offset);
  // Rot on a written page anywhere, the choice by the seed.
  void rot_somewhere();
  // `data` (at most a page) lands on some written page other than `except`'s at `except_offset`.
  void misdirect(ByteSpan data, const SimInode& except, uint64_t except_offset);
  void power_loss();

 private:
  static constexpr size_t kLedgerLimit = 100'000;
  struct Place {
    SimInode* inode = nullptr;
    uint64_t offset = 0;
  };
  bool take_scripted(IoKind kind, const std::string& path, FaultKind* fault);
  bool random_place(Place* place);
  void taint_sharers(const Page* page, uint64_t from, uint64_t length, FaultKind kind);

  SimLoop& loop_;
  const std::string name_;
  DiskConfig config_;
  Prng prng_;
  PageSpace space_;
  SimNames names_;
  std::vector<ScriptedFault> scripted_;
  std::vector<FaultRecord> ledger_;
  std::array<uint64_t, kFaultKinds> counts_{};
  SimTime hangs_until_ = 0;
  uint32_t slow_factor_ = 1;
  bool offline_ = false;
};

}  // namespace hf::sim
