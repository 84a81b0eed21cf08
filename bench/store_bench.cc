// The store in process, and through an NBD socket, against the bare floor (rig.h), in alternating rounds.
// Results as JSON on standard output, progress on standard error. Needs root (loop, XFS).
//
//   store_bench --dir /var/tmp/bench --storage device --seconds 2 --rounds 5
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "load.h"
#include "rig.h"
#include "runtime/gate.h"
#include "runtime/random.h"

namespace hf::bench {
namespace {

using nlohmann::json;
using Steady = std::chrono::steady_clock;

struct Args {
  RigOptions rig;
  std::string storage = "device";
  std::string only;  // cases whose name contains this
  double seconds = 2;
  int rounds = 5;
  int snapshots = 100;
  double snapshot_every = 0.15;
  uint64_t pool_gib = 8, span_mib = 1024;
};

struct Case {
  const char* name;
  uint64_t block_bytes;
  uint64_t bare_block_bytes;
  uint32_t depth;
  bool write, sequential, nbd;
  bool fresh;  // each round fills a volume that has never been written, once
};

// The bare side of a durable 4 KiB write at depth 1 is one journal record: header block and data block.
constexpr Case kCases[] = {
    {"write_4k_qd1", 4096, 8192, 1, true, false, true, false},
    {"write_4k_qd32", 4096, 4096, 32, true, false, true, false},
    {"read_4k_qd1", 4096, 4096, 1, false, false, true, false},
    {"read_4k_qd32", 4096, 4096, 32, false, false, true, false},
    {"write_128k_seq_qd8", 131072, 131072, 8, true, true, false, false},
    {"write_128k_fresh_qd8", 131072, 131072, 8, true, true, false, true},
    {"read_128k_seq_qd8", 131072, 131072, 8, false, true, false, false},
};

// The rounds of one side.
struct Side {
  std::vector<double> rate, cpu, ratio;
  double worst_us = 0;

  void add(const Sample& sample, double floor_rate) {
    rate.push_back(sample.rate());
    cpu.push_back(sample.cpu_us_per_op());
    ratio.push_back(sample.rate() / floor_rate);
    worst_us = std::max(worst_us, sample.worst_us);
  }
  json to_json() const {
    return {{"per_second", median(rate)},
            {"cpu_us_per_op", median(cpu)},
            {"ratio", median(ratio)},
            {"ratio_low", *std::ranges::min_element(ratio)},
            {"ratio_high", *std::ranges::max_element(ratio)},
            {"worst_us", worst_us}};
  }
};

class Bench {
 public:
  Bench(UringWorld& real, Args args) : real_(real), args_(std::move(args)), rig_(real, args_.rig) {}

  Task<Status> run() {
    Status measured = co_await measure();
    Status down = co_await rig_.tear_down();
    // A mount namespace that somebody made meanwhile may hold our mounts: no reason to throw figures away.
    if (!down.ok()) std::fprintf(stderr, "left to be taken down: %s\n", down.error().to_string().c_str());
    if (measured.ok()) std::printf("%s\n", results_.dump(2).c_str());
    co_return measured;
  }

 private:
  bool chosen(const std::string& name) const { return name.find(args_.only) != std::string::npos; }

  Task<Status> measure() {
    std::fprintf(stderr, "%s: preparing\n", args_.storage.c_str());
    Status up = co_await rig_.set_up();
    HF_CO_TRY(up);
    results_["storage"] = args_.storage;
    results_["ring"] = real_.loop().mode();
    results_["rounds"] = args_.rounds;
    results_["seconds_per_round"] = args_.seconds;
    for (const Case& one : kCases) {
      if (!chosen(one.name)) continue;
      Status done = co_await run_case(one);
      HF_CO_TRY(done);
    }
    if (args_.snapshots > 0 && chosen("snapshots")) co_return co_await run_snapshots();
    co_return Status();
  }

  LoadJob job(const Case& one, int round) {
    LoadJob out;
    out.device = &rig_.device();
    out.span_bytes = args_.rig.span_bytes;
    out.block_bytes = one.block_bytes;
    out.depth = one.depth;
    out.write = one.write;
    out.sequential = one.sequential;
    out.seconds = args_.seconds;
    out.seed = static_cast<uint64_t>(round) + 1;
    return out;
  }

  BareJob bare_job(BareJob place, const Case& one, uint64_t block_bytes, int round) {
    place.block_bytes = block_bytes;
    place.depth = one.depth;
    place.write = one.write;
    place.sequential = one.sequential;
    place.seconds = args_.seconds;
    place.seed = static_cast<uint64_t>(round) + 1;
    return place;
  }

  Task<Status> run_case(const Case& one) {
    Side bare, xfs, checked, ours, nbd;
    for (int round = 0; round < args_.rounds; ++round) {
      const Sample floor = run_bare(bare_job(rig_.bare(), one, one.bare_block_bytes, round));
      bare.add(floor, floor.rate());
      if (!one.fresh) {
        xfs.add(run_bare(bare_job(rig_.bare_xfs(), one, one.bare_block_bytes, round)), floor.rate());
      }
      if (!one.write) {
        BareJob reads = bare_job(rig_.bare_segments(), one, one.block_bytes, round);
        reads.check = true;
        checked.add(run_bare(reads), floor.rate());
      }
      Sample in_process;
      if (one.fresh) {
        Status filled = co_await run_fresh(job(one, round), &in_process);
        HF_CO_TRY(filled);
      } else {
        in_process = co_await run_load(job(one, round));
      }
      ours.add(in_process, floor.rate());
      Status drained = co_await rig_.pool().wait_drained();
      HF_CO_TRY(drained);
      if (!one.nbd) continue;
      const Sample by_socket =
          co_await run_nbd_load(real_.loop(), rig_.nbd_socket(), "bench", job(one, round));
      nbd.add(by_socket, floor.rate());
      drained = co_await rig_.pool().wait_drained();
      HF_CO_TRY(drained);
    }
    json& row = results_["cases"][one.name];
    row["bare"] = bare.to_json();
    row["in_process"] = ours.to_json();
    if (!one.fresh) row["bare_xfs"] = xfs.to_json();
    if (!one.write) row["bare_checked"] = checked.to_json();
    if (one.nbd) row["nbd"] = nbd.to_json();
    tell(one, bare, xfs, checked, ours, nbd);
    co_return Status();
  }

  void tell(const Case& one, const Side& bare, const Side& xfs, const Side& checked, const Side& ours,
            const Side& nbd) {
    const auto ratio = [](const Side& side, bool there) {
      return there ? fmt::format("{:.2f} ({:.1f} us)", median(side.ratio), median(side.cpu)) : "-";
    };
    std::fprintf(stderr, "%s: %-20s bare %8.0f/s (%.1f us cpu)  xfs %s  checked %s  in process %8.0f/s = %s  nbd %s\n",
                 args_.storage.c_str(), one.name, median(bare.rate), median(bare.cpu),
                 ratio(xfs, !one.fresh).c_str(), ratio(checked, !one.write).c_str(), median(ours.rate), ratio(ours, true).c_str(),
                 ratio(nbd, one.nbd).c_str());
  }

  // At most the span once, so that nothing is overwritten.
  Task<Status> run_fresh(LoadJob load, Sample* out) {
    const ReplicaId id = new_id<ReplicaId>(real_.world().random);
    Result<std::shared_ptr<VolumeDevice>> fresh = co_await rig_.make_volume(id);
    HF_CO_TRY(fresh);
    load.device = fresh->get();
    load.operations_max = load.span_bytes / load.block_bytes;
    *out = co_await run_load(load);
    co_return co_await rig_.delete_volume(id, std::move(*fresh));
  }

  // Behind the span of the other cases, which was filled in long runs: what is written there at random in 4 KiB
  // pieces lies in as many pieces.
  LoadJob random_writes(uint32_t depth, uint64_t seed) {
    LoadJob out;
    out.device = &rig_.device();
    out.start_bytes = args_.rig.span_bytes;
    out.span_bytes = args_.rig.span_bytes;
    out.depth = depth;
    out.write = true;
    out.seed = seed;
    return out;
  }

  // The load of one snapshot, and of one round without.
  LoadJob slice(int i) {
    LoadJob out = random_writes(8, static_cast<uint64_t>(i) + 100);
    out.seconds = args_.snapshot_every;
    return out;
  }

  struct Slices {
    double worst_us = 0, seconds = 0;
    uint64_t operations = 0, slow = 0;
    void add(const Sample& sample) {
      worst_us = std::max(worst_us, sample.worst_us);
      seconds += sample.seconds;
      operations += sample.operations;
      slow += sample.slow;
    }
    json to_json() const {
      return {{"worst_ms", worst_us / 1e3}, {"over_20_ms", slow}, {"writes", operations}, {"seconds", seconds}};
    }
  };

  // As long as the snapshots will take, and nothing but the load: the machine's own noise.
  Task<Slices> reference() {
    Slices all;
    for (int i = 0; i < args_.snapshots; ++i) {
      const Sample sample = co_await run_load(slice(i));
      all.add(sample);
    }
    co_return all;
  }

  // A span has been written at random in 4 KiB pieces; then snapshots under a random write load.
  Task<Status> run_snapshots() {
    LoadJob scatter = random_writes(32, 7);
    scatter.operations_max = args_.rig.span_bytes / 4096;
    (void)co_await run_load(scatter);
    Status drained = co_await rig_.pool().wait_drained();
    HF_CO_TRY(drained);
    Slices without = co_await reference();
    drained = co_await rig_.pool().wait_drained();
    HF_CO_TRY(drained);
    LoadJob before_job = random_writes(8, 99);
    before_job.seconds = 1.5 * args_.seconds;
    const Sample before = co_await run_load(before_job);
    std::vector<double> took_ms;
    Slices with;
    Sample after_first;
    for (int i = 0; i < args_.snapshots; ++i) {
      LoadJob load = slice(i);
      if (i == 0) load.seconds = before_job.seconds;
      Gate gate;
      Sample sample;
      double ms = 0;
      Status cut;
      spawn(gate, run_into(load, &sample));
      spawn(gate, cut_one(&ms, &cut));
      co_await gate.close();
      HF_CO_TRY(cut);
      took_ms.push_back(ms);
      with.add(sample);
      if (i == 0) after_first = sample;
    }
    drained = co_await rig_.pool().wait_drained();
    HF_CO_TRY(drained);
    const Slices again = co_await reference();
    results_["snapshots"] = {{"count", args_.snapshots},
                             {"every_seconds", args_.snapshot_every},
                             {"written_bytes_before", args_.rig.span_bytes},
                             {"volume_bytes", args_.rig.volume_bytes},
                             {"first_ms", took_ms.front()},
                             {"last_ms", took_ms.back()},
                             {"median_ms", median(took_ms)},
                             {"worst_ms", *std::ranges::max_element(took_ms)},
                             {"longest_write_stall_ms", with.worst_us / 1e3},
                             {"longest_write_before_ms", std::max(without.worst_us, again.worst_us) / 1e3},
                             {"load_with", with.to_json()},
                             {"load_without", {without.to_json(), again.to_json()}},
                             {"write_rate_before", before.rate()},
                             {"write_rate_after_first", after_first.rate()},
                             {"ratio_after", after_first.rate() / before.rate()}};
    std::fprintf(stderr,
                 "%s: snapshots first %.1f ms, last %.1f, median %.1f, worst %.1f; longest write %.1f ms, %llu of %llu over "
                 "20 ms (without: %.1f and %.1f ms, %llu and %llu over); writes after/before %.2f\n",
                 args_.storage.c_str(), took_ms.front(), took_ms.back(), median(took_ms),
                 *std::ranges::max_element(took_ms), with.worst_us / 1e3,
                 static_cast<unsigned long long>(with.slow), static_cast<unsigned long long>(with.operations),
                 without.worst_us / 1e3, again.worst_us / 1e3, static_cast<unsigned long long>(without.slow),
                 static_cast<unsigned long long>(again.slow), after_first.rate() / before.rate());
    co_return Status();
  }

  Task<void> run_into(LoadJob load, Sample* out) { *out = co_await run_load(load); }

  // A moment into the load.
  Task<void> cut_one(double* ms, Status* out) {
    *out = co_await real_.world().clock.sleep_for(20ms, CancelToken());
    if (!out->ok()) co_return;
    const Steady::time_point cut = Steady::now();
    Result<SnapshotInfo> made =
        co_await rig_.device().coordinator().snapshot(new_id<SnapshotId>(real_.world().random));
    *ms = std::chrono::duration<double, std::milli>(Steady::now() - cut).count();
    if (!made.ok()) *out = made.error();
  }

  UringWorld& real_;
  Args args_;
  Rig rig_;
  json results_ = json::object();
};

Task<void> run_all(Bench& bench, Status* result) { *result = co_await bench.run(); }

int main_with(int argc, char** argv) {
  Args args;
  CLI::App app("The store against the bare device that it lies on.", "store_bench");
  app.add_option("--dir", args.rig.dir, "an empty directory on a disk, made if absent")->required();
  app.add_option("--storage", args.storage, "device or directory")
      ->check(CLI::IsMember({"device", "directory"}));
  app.add_option("--only", args.only, "cases whose name contains this; snapshots is one");
  app.add_option("--seconds", args.seconds, "of each measured run");
  app.add_option("--rounds", args.rounds, "alternating rounds")->check(CLI::Range(1, 100));
  app.add_option("--snapshots", args.snapshots, "how many; 0: none")->check(CLI::Range(0, 1000));
  app.add_option("--snapshot-every", args.snapshot_every, "seconds of load for each")->check(CLI::Range(0.05, 60.0));
  app.add_option("--pool-gib", args.pool_gib, "size of the pool")->check(CLI::Range(2, 1024));
  app.add_option("--span-mib", args.span_mib, "bytes that are filled and used")->check(CLI::Range(64, 65536));
  app.add_option("--large-write-bytes", args.rig.large_write_bytes,
                 "writes of so many bytes go straight into the image; 0: none");
  CLI11_PARSE(app, argc, argv);
  args.rig.on_device = args.storage == "device";
  args.rig.pool_bytes = args.pool_gib * kGiB;
  args.rig.span_bytes = args.span_mib * kMiB;
  set_log_level(LogLevel::kWarn);
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  HF_ASSERT(real.ok(), "{}", real.error().to_string());
  Status result;
  {
    Bench bench(**real, args);
    (*real)->loop().run_until(run_all(bench, &result));
  }
  if (result.ok()) return 0;
  std::fprintf(stderr, "store_bench: %s\n", result.error().to_string().c_str());
  return 1;
}

}  // namespace
}  // namespace hf::bench

int main(int argc, char** argv) { return hf::bench::main_with(argc, argv); }
