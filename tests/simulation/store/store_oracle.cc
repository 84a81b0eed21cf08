// What must hold after every recovery: the catalog, each block of each replica and of each snapshot.
#include <algorithm>

#include "format/journal_format.h"
#include "simulated_store.h"

namespace hf::store_sim {

std::optional<uint64_t> SimulatedStore::judge(const std::string& what, ByteSpan block, uint64_t number,
                                              const Possible& possible,
                                              const std::string& expected) {
  ++result_.blocks_checked;
  const std::optional<uint64_t> value = model_.mixtures.value_of(block, number);
  if (value && possible.values.contains(*value)) return value;
  if (possible.torn && model_.mixtures.made_of(block, number, possible.values)) {
    HF_PROBE("sim.mixture");
    return value ? *value : model_.mixtures.add(block);
  }
  // Damage to a large write that no batch behind it calls settled cannot be told from one in flight.
  if (trouble_ == Trouble::kDamage && possible.large) {
    HF_PROBE("sim.damage_in_open_intent");
    return value ? *value : model_.mixtures.add(block);
  }
  if (!value) {
    fail(fmt::format("{}: garbage returned as good; history{}", what, expected));
  } else {
    fail(fmt::format("{}: value {} is not allowed; history{}", what, *value, expected));
  }
  return std::nullopt;
}

// Which of the unfinished operations have happened?
bool SimulatedStore::settle_catalog() {
  for (auto it = model_.replicas.begin(); it != model_.replicas.end();) {
    ModelReplica& model = *it->second;
    const std::shared_ptr<Replica> replica = pool_->find(model.id);
    if (replica == nullptr) {
      if (model.certain) return fail(fmt::format("replica {} is lost", model.id.to_string()));
      it = model_.replicas.erase(it);
      continue;
    }
    model.certain = true;
    if (!settle_replica(model, *replica)) return false;
    ++it;
  }
  for (const ReplicaInfo& info : pool_->list()) {
    if (!model_.replicas.contains(info.replica)) {
      return fail(fmt::format("replica {} has come back", info.replica.to_string()));
    }
  }
  return true;
}

bool SimulatedStore::settle_replica(ModelReplica& model, Replica& replica) {
  const uint64_t size = replica.size() / kBlockSize;
  if (size != model.blocks.size() && size != model.other_size) {
    // A restore that did not end may have lengthened the model before it was known.
    const bool longer = model.other_size && size < model.blocks.size();
    if (!longer) {
      return fail(fmt::format("replica {} has {} blocks, not {}", model.id.to_string(), size,
                              model.blocks.size()));
    }
  }
  model.blocks.resize(size);
  model.other_size.reset();
  model.settled = true;
  if (replica.promised_epoch() < model.promised || replica.promised_epoch() > model.asked) {
    return fail(fmt::format("replica {} promises {}, acknowledged was {}, asked for {}",
                            model.id.to_string(), replica.promised_epoch(), model.promised,
                            model.asked));
  }
  model.promised = model.asked = replica.promised_epoch();
  const std::vector<SnapshotInfo> there = replica.snapshots();
  const auto is_there = [&](const SnapshotId& id) {
    return std::any_of(there.begin(), there.end(),
                       [&](const SnapshotInfo& info) { return info.id == id; });
  };
  for (ModelSnapshot& snapshot : model.snapshots) {
    if (snapshot.certain && !is_there(snapshot.id)) {
      return fail(fmt::format("snapshot {} is lost", snapshot.id.to_string()));
    }
  }
  std::erase_if(model.snapshots, [&](const ModelSnapshot& s) { return !is_there(s.id); });
  for (ModelSnapshot& snapshot : model.snapshots) snapshot.certain = true;
  if (there.size() != model.snapshots.size()) return fail("a snapshot has come back");
  return true;
}

Task<void> SimulatedStore::check_all() {
  if (!settle_catalog()) co_return;
  std::vector<ReplicaPtr> all;
  for (const auto& [id, replica] : model_.replicas) all.push_back(replica);
  for (const ReplicaPtr& replica : all) {
    co_await check_replica(replica);
    if (alive() && !over()) co_await check_books(replica, 7);
    if (alive() && !over()) replica->books.crashed();
    for (size_t i = 0; i < replica->snapshots.size() && alive() && !over(); ++i) {
      co_await check_snapshot(replica, i);
    }
    if (!alive() || over()) co_return;
  }
}

Task<void> SimulatedStore::check_replica(ReplicaPtr model) {
  const std::shared_ptr<Replica> replica = pool_->find(model->id);
  constexpr uint64_t kPiece = 32;
  AlignedBuffer memory(kPiece * kBlockSize);
  for (uint64_t first = 0; first < model->blocks.size(); first += kPiece) {
    const uint64_t count = std::min<uint64_t>(kPiece, model->blocks.size() - first);
    const MutableByteSpan out = memory.span().first(count * kBlockSize);
    Status got = co_await replica->read(first * kBlockSize, out);
    if (!got.ok()) {
      if (alive() && got.code() == ErrorCode::kCorruption) ++result_.corrupt_reads;
      if (!excuse(got.error(), "read after recovery") || !alive()) co_return;
      continue;
    }
    for (uint64_t i = 0; i < count; ++i) {
      BlockHistory& history = model->blocks[first + i];
      const auto value =
          judge(fmt::format("{} block {} after recovery", model->id.to_string(), first + i),
                out.subspan(i * kBlockSize, kBlockSize), first + i, history.possible(),
                history.to_string());
      if (!value) co_return;
      // What the crash left of a write in flight is in the books too.
      if (*value != 0) model->books.seen(history.order_of(*value), first + i);
      history.settle(model_.next_order++, *value);
    }
  }
}

Task<void> SimulatedStore::check_snapshot(ReplicaPtr model, size_t index) {
  const std::shared_ptr<Replica> replica = pool_->find(model->id);
  ModelSnapshot& snapshot = model->snapshots[index];
  constexpr uint64_t kPiece = 64;
  AlignedBuffer memory(kPiece * kBlockSize);
  for (uint64_t first = 0; first < snapshot.blocks.size(); first += kPiece) {
    const uint64_t count = std::min<uint64_t>(kPiece, snapshot.blocks.size() - first);
    const MutableByteSpan out = memory.span().first(count * kBlockSize);
    Status got = co_await replica->read_snapshot(snapshot.id, first * kBlockSize, out);
    if (!got.ok()) {
      if (alive() && got.code() == ErrorCode::kCorruption) ++result_.corrupt_reads;
      if (!excuse(got.error(), "read of a snapshot") || !alive()) co_return;
      continue;
    }
    for (uint64_t i = 0; i < count; ++i) {
      Possible& possible = snapshot.blocks[first + i];
      std::string expected;
      for (const uint64_t v : possible.values) expected += fmt::format(" {}", v);
      const auto value = judge(fmt::format("snapshot {} of {} block {}", snapshot.id.to_string(),
                                           model->id.to_string(), first + i),
                               out.subspan(i * kBlockSize, kBlockSize), first + i, possible, expected);
      if (!value) co_return;
      possible = Possible();
      possible.values.insert(*value);
    }
  }
}

namespace {

class CollectingSink : public ExportSink {
 public:
  explicit CollectingSink(uint64_t bytes) : image(AlignedBuffer::zeroed(bytes)) {}
  Task<Status> data(uint64_t offset, ByteSpan bytes) override {
    HF_ASSERT(offset + bytes.size() <= image.size());
    std::memcpy(image.data() + offset, bytes.data(), bytes.size());
    co_return Status();
  }
  AlignedBuffer image;
};

}  // namespace

// The tools on a pool that nobody serves. What is not broken must be found whole; what they export must
// be what a recovery would serve (a write in flight at the crash either way).
Task<void> SimulatedStore::check_offline() {
  World& world = process_.world();
  Result<PoolInspection> inspection = co_await inspect_pool(world, config_);
  if (!inspection.ok()) {
    excuse(inspection.error(), "inspect");
    co_return;
  }
  Result<VerifyReport> report = co_await verify_pool(world, config_);
  if (!report.ok()) {
    excuse(report.error(), "verify");
    co_return;
  }
  for (const VerifyFinding& finding : report->findings) {
    if (!excuse(Error(finding.code, finding.what), "verify found")) co_return;
  }
  if (trouble_ == Trouble::kCrashes || trouble_ == Trouble::kSpace) {
    co_await check_without_journal();
    if (over()) co_return;
  }
  for (const auto& [id, model] : model_.replicas) {
    if (!model->usable() || model->other_size) continue;
    co_await check_export(model, SnapshotId());
    for (size_t i = 0; i < model->snapshots.size() && !over(); ++i) {
      if (model->snapshots[i].certain) co_await check_export(model, model->snapshots[i].id);
    }
    if (over()) co_return;
  }
}

// Nothing has been damaged: blocks that a drain left half written may not be called so, only
// because the journal that would write them anew cannot be read.
Task<void> SimulatedStore::check_without_journal() {
  for (uint64_t slot = 0; slot < kCheckpointSlots; ++slot) {
    sim::ScriptedFault fault;
    fault.fault = sim::FaultKind::kReadError;
    fault.on = IoKind::kRead;
    fault.path_part = "/journal";
    disk_.script(fault);
  }
  blinded_ += kCheckpointSlots;
  Result<VerifyReport> report = co_await verify_pool(process_.world(), config_);
  if (!report.ok()) {
    excuse(report.error(), "verify without the journal");
    co_return;
  }
  HF_ASSERT(disk_.scripts_done());
  if (report->unjudged_blocks > 0) HF_PROBE("sim.block_not_judged");
  if (report->findings_total != 1 || report->findings[0].code != ErrorCode::kIo) {
    std::string all;
    for (const VerifyFinding& finding : report->findings) all += "\n  " + finding.what;
    fail("verify without the journal calls whole blocks broken:" + all);
  }
}

Task<void> SimulatedStore::check_export(ReplicaPtr model, SnapshotId snapshot) {
  const ModelSnapshot* row = nullptr;
  for (const ModelSnapshot& s : model->snapshots) {
    if (s.id == snapshot) row = &s;
  }
  const uint64_t blocks = row != nullptr ? row->blocks.size() : model->blocks.size();
  CollectingSink sink(blocks * kBlockSize);
  Result<uint64_t> size =
      co_await export_replica(process_.world(), config_, model->id, snapshot, sink);
  if (!size.ok()) {
    excuse(size.error(), "export");
    co_return;
  }
  HF_PROBE("sim.exported");
  for (uint64_t b = 0; b < blocks; ++b) {
    const BlockHistory& head = model->blocks[std::min<uint64_t>(b, model->blocks.size() - 1)];
    const auto value =
        judge(fmt::format("export of {} block {}", model->id.to_string(), b),
              sink.image.span().subspan(b * kBlockSize, kBlockSize), b,
              row != nullptr ? row->blocks[b] : head.possible(), head.to_string());
    if (!value) co_return;
  }
}

}  // namespace hf::store_sim
