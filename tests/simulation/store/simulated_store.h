// One seed of the store's simulation: a pool on a simulated disk, concurrent clients, crashes and faults,
// and the model as the judge. See testing/README.md.
#pragma once

#include <memory>
#include <string>

#include "sim/simulation.h"
#include "store/offline.h"
#include "store/pool.h"
#include "model.h"

namespace hf::store_sim {

// What the world may do to the pool in a run.
enum class Trouble : uint8_t {
  kCrashes,   // power loss, kills: nothing may ever fail or be lost
  kErrors,    // and EIO on reads, writes, syncs; ENOSPC; hangs: calls may fail, nothing may be lost
  kDamage,    // and rot, lost and misdirected writes in segment files: reads may fail, never lie
  kSpace,     // and a disk that is nearly full
};

struct RunResult {
  RunResult() = default;
  std::string failure;  // empty: all is well
  uint64_t hash = 0;
  uint64_t operations = 0, blocks_checked = 0, corrupt_reads = 0;
  uint64_t lives = 0;
  sim::ProbeCounts probes;
};

RunResult run_seed(uint64_t seed, Trouble trouble);

class SimulatedStore {
 public:
  SimulatedStore(uint64_t seed, Trouble trouble);
  Task<void> run();
  void drive(Task<void> task) { sim_.run(std::move(task)); }
  void finish(RunResult* result);

 private:
  // --- simulated_store.cc: lives and deaths
  PoolConfig pool_config();
  Task<bool> create_pool();
  Task<bool> open_pool();
  Task<void> live();
  Task<void> end_life();
  void arrange_death();
  void revive();
  Task<void> last_checks();
  bool fail(std::string what);
  bool over() const { return !failure_.empty() || refused_; }
  bool alive() { return process_.is_alive(); }
  // Does what the world has done excuse this error? If not, the seed has failed.
  bool excuse(const Error& error, const std::string& what);
  bool is_excused(const Error& error);

  // --- store_clients.cc: operations
  Task<void> client(uint64_t number);
  Task<void> make_room_now_and_then();
  Task<void> one_operation(Prng& prng);
  Task<void> io_operation(Prng& prng, ReplicaPtr replica, uint64_t draw);
  Task<void> write(Prng& prng, ReplicaPtr replica);
  Task<void> zero(Prng& prng, ReplicaPtr replica);
  Task<void> read(Prng& prng, ReplicaPtr replica);
  Task<void> snapshot(ReplicaPtr replica);
  Task<void> delete_snapshot(Prng& prng, ReplicaPtr replica);
  Task<void> promise(Prng& prng, ReplicaPtr replica);
  Task<void> grow(Prng& prng, ReplicaPtr replica);
  Task<void> shrink(Prng& prng, ReplicaPtr replica);
  Task<void> restore(Prng& prng, ReplicaPtr replica);
  Task<void> create(Prng& prng);
  Task<void> clone(Prng& prng, ReplicaPtr source);
  Task<void> remove(ReplicaPtr replica);
  ReplicaPtr pick(Prng& prng);
  // The stamp of the next write, which is now in flight in the model's books as well.
  WriteHeader header_for(ModelReplica& replica);
  WriteHeader header_for(ModelReplica& replica, uint64_t order, uint64_t first, uint64_t count);
  ReplicaSpec spec_for(const ModelReplica& replica, uint64_t blocks, Prng& prng);
  struct Range {
    uint64_t first = 0, count = 0;
  };
  Range pick_range(Prng& prng, const ModelReplica& replica);

  // --- store_books.cc: what replication asks of it
  WriteHeader unstamped_header(ModelReplica& replica);
  void ended(ModelReplica& replica, uint64_t order, const WriteHeader& header, const Status& status);
  Task<void> books_operation(Prng& prng, ReplicaPtr replica);
  Task<void> settle(ReplicaPtr replica);
  Task<void> mark(Prng& prng, ReplicaPtr replica);
  Task<void> clear(Prng& prng, ReplicaPtr replica);
  Task<void> clear_range(Prng& prng, ReplicaPtr replica);
  Task<void> check_books(ReplicaPtr replica, size_t at_once);
  Task<void> check_window(ReplicaPtr replica, std::shared_ptr<Replica> target, size_t at_once);
  Task<void> check_dirty(ReplicaPtr replica, std::shared_ptr<Replica> target, uint32_t slot,
                         size_t at_once);
  bool books_error(const Error& error, const WriteHeader& header, const ModelReplica& replica,
                   const char* what);

  // --- store_oracle.cc: what must hold after a recovery
  Task<void> check_all();
  bool settle_catalog();
  bool settle_replica(ModelReplica& model, Replica& replica);
  Task<void> check_replica(ReplicaPtr model);
  Task<void> check_snapshot(ReplicaPtr model, size_t index);
  // The value that the block has, if it may be one of these; else the seed has failed.
  std::optional<uint64_t> judge(const std::string& what, ByteSpan block, uint64_t number,
                                const Possible& possible, const std::string& expected);
  Task<void> check_offline();
  Task<void> check_without_journal();
  Task<void> check_export(ReplicaPtr model, SnapshotId snapshot);

  const Trouble trouble_;
  sim::Simulation sim_;
  sim::SimHost& host_;
  sim::SimDisk& disk_;
  sim::SimProcess process_;
  Prng prng_;
  PoolConfig config_;
  std::unique_ptr<Pool> pool_;
  Model model_;
  Gate clients_;
  Gate operators_;
  uint64_t blinded_ = 0;   // read errors that the oracle ordered
  uint64_t budget_ = 0;    // operations left in this life
  uint64_t deaths_ = 0;
  bool alternate_ = false;
  bool many_snapshots_ = false;
  uint64_t life_ = 0;      // so that a late death does not hit the next life
  std::vector<ReplicaPtr> deleted_;  // ids to be used again
  bool refused_ = false;   // the pool does not open any more, excused
  std::string failure_;
  RunResult result_;
};

}  // namespace hf::store_sim
