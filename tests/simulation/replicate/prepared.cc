#include "prepared.h"

#include <map>

#include "replicate/mutants.h"
#include "sim/simulation.h"
#include "store/mutants.h"
#include "store/pool.h"

namespace hf::replicate_sim {
namespace {

// Sound, whatever the test that needs it is about.
class WithoutMutants {
 public:
  WithoutMutants() : replicate_(t_replicate_mutant), store_(t_store_mutant) {
    t_replicate_mutant = ReplicateMutant::kNone;
    t_store_mutant = StoreMutant::kNone;
  }
  ~WithoutMutants() {
    t_replicate_mutant = replicate_;
    t_store_mutant = store_;
  }

 private:
  const ReplicateMutant replicate_;
  const StoreMutant store_;
};

Task<void> make(World world, uint64_t slot, uint64_t blocks) {
  Status done = co_await world.fs.make_directory(kPoolDirectory, 0700);
  HF_ASSERT(done.ok());
  done = co_await world.fs.sync_dir("/");
  HF_ASSERT(done.ok());
  Result<std::unique_ptr<Pool>> pool = co_await Pool::create(world, prepared_pool());
  HF_ASSERT(pool.ok(), "{}", pool.error().to_string());
  ReplicaSpec spec;
  spec.replica = prepared_replica(slot);
  spec.volume = prepared_volume();
  spec.size_bytes = blocks * kBlockSize;
  Result<std::shared_ptr<Replica>> made = co_await (*pool)->create_replica(spec);
  HF_ASSERT(made.ok(), "{}", made.error().to_string());
  made = std::shared_ptr<Replica>();
  done = co_await (*pool)->stop();
  HF_ASSERT(done.ok(), "{}", done.error().to_string());
}

sim::DiskImage prepare(uint64_t slot, uint64_t blocks) {
  const WithoutMutants sound;
  sim::Simulation simulation(1000 + slot);
  sim::SimHost& host = simulation.add_host("preparing");
  sim::SimDisk& disk = host.add_disk("/");
  sim::SimProcess process(host);
  simulation.run(make(process.world(), slot, blocks));
  host.power_loss();  // what was not synced is settled
  return sim::DiskImage::of(disk);
}

}  // namespace

VolumeId prepared_volume() {
  return VolumeId::from_random(7, 7);
}

ReplicaId prepared_replica(uint64_t slot) {
  return ReplicaId::from_random(100 + slot, 100 + slot);
}

PoolConfig prepared_pool() {
  PoolConfig config;
  config.journal_dir = config.data_dir = kPoolDirectory;
  config.journal_bytes = config.journal_bytes_min = kSmallestJournalBytes;
  config.reserve_bytes = 1 * kMiB;
  return config;
}

const sim::DiskImage& prepared_disk(uint64_t slot, uint64_t blocks) {
  static std::map<std::pair<uint64_t, uint64_t>, sim::DiskImage> images;
  const auto at = images.find({slot, blocks});
  if (at != images.end()) return at->second;
  return images.emplace(std::pair(slot, blocks), prepare(slot, blocks)).first->second;
}

}  // namespace hf::replicate_sim
