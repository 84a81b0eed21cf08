#include "simulated_store.h"

#include <cstdlib>

#include "base/log.h"

namespace hf::store_sim {
namespace {

constexpr uint64_t kMaxLives = 4;
constexpr const char* kDirectory = "/pool";

sim::DiskConfig disk_config(Trouble trouble, Prng& prng) {
  sim::DiskConfig config;
  config.capacity_bytes = trouble == Trouble::kSpace ? prng.between(9, 12) * kMiB : 256 * kMiB;
  sim::DiskFaults& faults = config.faults;
  faults.crash.kept_percent = static_cast<uint32_t>(prng.below(101));
  faults.crash.torn_percent = static_cast<uint32_t>(prng.below(101 - faults.crash.kept_percent));
  if (prng.chance(1, 4)) {
    faults.hang_ppm = 200;
    faults.hang_max = 2s;
  }
  return config;
}

}  // namespace

SimulatedStore::SimulatedStore(uint64_t seed, Trouble trouble)
    : trouble_(trouble),
      sim_(seed),
      host_(sim_.add_host("node")),
      disk_(host_.add_disk("/", disk_config(trouble, sim_.prng()))),
      process_(host_),
      prng_(sim_.prng().fork()) {
  config_ = pool_config();
  alternate_ = prng_.chance(1, 2);
  many_snapshots_ = trouble == Trouble::kSpace && prng_.chance(1, 4);
}

PoolConfig SimulatedStore::pool_config() {
  PoolConfig config;
  config.journal_dir = kDirectory;
  config.data_dir = kDirectory;
  config.journal_bytes_min = kSmallestJournalBytes;
  config.journal_bytes = kSmallestJournalBytes + prng_.below(64) * kBlockSize;
  config.overlay_bytes = prng_.chance(1, 3) ? 1 * kMiB : 64 * kMiB;
  config.table_cache_bytes = prng_.chance(1, 3) ? 32 * kKiB : 64 * kMiB;
  config.open_files = prng_.chance(1, 3) ? 8 : 2048;
  config.reserve_bytes = trouble_ == Trouble::kSpace ? 2 * kMiB : 1 * kMiB;
  if (trouble_ == Trouble::kSpace) {
    const Duration patience[] = {0ms, 20ms, 300ms};
    config.full_patience = patience[prng_.below(3)];
  }
  const uint64_t large[] = {8 * kKiB, 8 * kKiB, 16 * kKiB, 64 * kKiB, 0};
  config.large_write_bytes = large[prng_.below(5)];
  const Duration delays[] = {1ms, 5ms, 20ms, 500ms};
  config.drain_delay = delays[prng_.below(4)];
  return config;
}

bool SimulatedStore::fail(std::string what) {
  if (failure_.empty()) failure_ = std::move(what);
  return false;
}

bool SimulatedStore::is_excused(const Error& error) {
  if (!alive()) return true;
  const auto happened = [&](sim::FaultKind kind) {
    return disk_.count(kind) > (kind == sim::FaultKind::kReadError ? blinded_ : 0);
  };
  using sim::FaultKind;
  switch (error.code()) {
    case ErrorCode::kIo:
    case ErrorCode::kFailedPool:
      return happened(FaultKind::kReadError) || happened(FaultKind::kWriteError) ||
             happened(FaultKind::kSyncError) || happened(FaultKind::kLatentSector) ||
             happened(FaultKind::kLostWrite) || happened(FaultKind::kMisdirectedWrite) ||
             happened(FaultKind::kBitRot) || happened(FaultKind::kMisdirectVictim) ||
             happened(FaultKind::kNoSpace);
    case ErrorCode::kCorruption:
      return happened(FaultKind::kBitRot) || happened(FaultKind::kLostWrite) ||
             happened(FaultKind::kMisdirectedWrite) || happened(FaultKind::kMisdirectVictim);
    case ErrorCode::kNoSpace: return trouble_ == Trouble::kSpace || happened(FaultKind::kNoSpace);
    default: return false;
  }
}

bool SimulatedStore::excuse(const Error& error, const std::string& what) {
  if (is_excused(error)) return true;
  return fail(fmt::format("{}: {}", what, error.to_string()));
}

// --- lives ------------------------------------------------------------------------------------------

void SimulatedStore::arrange_death() {
  const uint64_t life = ++life_;
  // In half of the seeds every kill is followed by a power loss: what the dead process left visible and
  // not stable then goes.
  const bool power = alternate_ ? ++deaths_ % 2 == 0 : prng_.chance(2, 3);
  const Duration delay = std::chrono::microseconds(prng_.below(prng_.chance(1, 4) ? 400'000 : 40'000));
  sim_.loop().after(delay, [this, life, power] {
    if (life != life_ || !alive()) return;
    if (power) {
      host_.power_loss();
    } else {
      process_.kill();
    }
  });
}

void SimulatedStore::revive() {
  if (!host_.is_up()) host_.power_on();
  if (!alive()) process_.restart();
}

Task<bool> SimulatedStore::create_pool() {
  FileSystem& fs = process_.world().fs;
  Status made = co_await fs.make_directory(kDirectory, 0700);
  if (!made.ok()) co_return fail("make directory: " + made.error().to_string());
  Status synced = co_await fs.sync_dir("/");
  if (!synced.ok()) co_return fail("sync: " + synced.error().to_string());
  Result<std::unique_ptr<Pool>> pool = co_await Pool::create(process_.world(), config_);
  if (!pool.ok()) co_return fail("create: " + pool.error().to_string());
  pool_ = std::move(*pool);
  co_return true;
}

// Opens it, now and then dying on the way; the faults that may hit a recovery pass.
Task<bool> SimulatedStore::open_pool() {
  for (int attempt = 0; attempt < 20; ++attempt) {
    revive();
    ++life_;
    if (attempt < 3 && prng_.chance(1, 3)) arrange_death();
    Result<std::unique_ptr<Pool>> pool = co_await Pool::open(process_.world(), config_);
    if (pool.ok()) {
      pool_ = std::move(*pool);
      ++result_.lives;
      co_return true;
    }
    if (!alive()) continue;
    if (!is_excused(pool.error())) {
      co_return fail(fmt::format("open: {}", pool.error().to_string()));
    }
    if (pool.code() == ErrorCode::kCorruption) break;  // told; the pool stays shut
  }
  HF_PROBE("sim.pool_refused");
  refused_ = true;
  co_return false;
}

Task<void> SimulatedStore::live() {
  if (prng_.chance(trouble_ == Trouble::kSpace ? 2 : 4, 5)) arrange_death();
  budget_ = prng_.between(20, 250);
  const uint64_t depths[] = {1, 2, 8, 32};
  const uint64_t depth = depths[prng_.below(4)];
  for (uint64_t i = 0; i < depth; ++i) spawn(clients_, client(prng_.next()));
  if (trouble_ == Trouble::kSpace) spawn(operators_, make_room_now_and_then());
  co_await clients_.wait_empty();
  co_await operators_.wait_empty();
}

Task<void> SimulatedStore::end_life() {
  ++life_;  // no death from now on, unless arranged anew
  if (alive() && prng_.chance(1, 3)) process_.kill();
  if (alive() && prng_.chance(1, 4)) arrange_death();  // in the middle of the stop
  Status stopped = co_await pool_->stop();
  ++life_;
  if (!stopped.ok()) excuse(stopped.error(), "stop");
  pool_.reset();
  if (alive()) process_.kill();
}

Task<void> SimulatedStore::last_checks() {
  disk_.faults().read_error_ppm = disk_.faults().write_error_ppm = 0;
  disk_.faults().sync_error_ppm = disk_.faults().no_space_ppm = disk_.faults().hang_ppm = 0;
  revive();
  ++life_;
  Result<std::unique_ptr<Pool>> pool = co_await Pool::open(process_.world(), config_);
  if (!pool.ok()) {
    excuse(pool.error(), "last open");
    co_return;
  }
  pool_ = std::move(*pool);
  ++result_.lives;
  co_await check_all();
  if (!over()) {
    Status drained = co_await pool_->wait_drained();
    if (!drained.ok()) excuse(drained.error(), "drain");
    if (drained.ok()) co_await check_all();
  }
  Status stopped = co_await pool_->stop();
  if (!stopped.ok()) excuse(stopped.error(), "last stop");
  pool_.reset();
  if (!over()) co_await check_offline();
}

Task<void> SimulatedStore::run() {
  bool created = co_await create_pool();
  if (!created) co_return;
  sim::DiskFaults& faults = disk_.faults();
  if (trouble_ == Trouble::kErrors) {
    const uint32_t rate = static_cast<uint32_t>(1) << prng_.below(14);
    faults.read_error_ppm = faults.write_error_ppm = faults.sync_error_ppm = rate;
    faults.no_space_ppm = rate * 10;  // fails no pool, so it may come more often than what does
  }
  if (trouble_ == Trouble::kDamage) {
    faults.applies_to = [](const std::string& path) {
      return path.find("/seg/") != std::string::npos || path.ends_with(".map");
    };
    faults.bit_rot_ppm = static_cast<uint32_t>(prng_.below(3000));
    for (uint64_t i = prng_.below(6); i > 0; --i) {
      sim::ScriptedFault fault;
      fault.fault = prng_.chance(1, 2) ? sim::FaultKind::kLostWrite : sim::FaultKind::kMisdirectedWrite;
      fault.on = IoKind::kWrite;
      fault.path_part = prng_.chance(1, 4) ? ".map" : "/seg/";
      fault.skip = static_cast<uint32_t>(prng_.below(fault.path_part == ".map" ? 20 : 200));
      disk_.script(fault);
    }
  }
  const uint64_t lives = prng_.between(1, kMaxLives);
  for (uint64_t i = 0; i < lives && !over(); ++i) {
    co_await live();
    co_await end_life();
    if (over()) break;
    if (prng_.chance(1, 5)) {
      revive();
      co_await check_offline();
      if (over()) break;
      process_.kill();
    }
    bool opened = co_await open_pool();
    if (!opened) break;
    co_await check_all();
    if (!alive() || over()) {
      co_await end_life();
      if (over()) break;
      opened = co_await open_pool();
      if (!opened) break;
    }
  }
  if (pool_ != nullptr) co_await end_life();
  if (!over()) co_await last_checks();
}

void SimulatedStore::finish(RunResult* result) {
  *result = result_;
  result->failure = failure_;
  if (!failure_.empty()) {
    for (const sim::FaultRecord& record : disk_.ledger()) {
      result->failure += fmt::format("\n  {} us: {} {} {}+{}", record.at / 1000,
                                     sim::fault_name(record.kind), record.path, record.offset,
                                     record.length);
    }
  }
  result->hash = sim_.history().hash();
  sim_.plan().add_to(&result->probes);
}

RunResult run_seed(uint64_t seed, Trouble trouble) {
  set_log_level(std::getenv("HF_STORE_LOG") != nullptr ? LogLevel::kDebug : LogLevel::kOff);
  RunResult result;
  SimulatedStore store(seed, trouble);
  Task<void> run = store.run();
  // A hang is a bug: the loop stops the process with the seed.
  store.drive(std::move(run));
  store.finish(&result);
  return result;
}

}  // namespace hf::store_sim
