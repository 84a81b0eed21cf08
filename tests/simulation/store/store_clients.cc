// The clients of a simulated pool: each does one random operation after the other and tells the model.
#include <algorithm>

#include "format/segment_format.h"
#include "simulated_store.h"
#include "store/space.h"

namespace hf::store_sim {
namespace {

constexpr uint64_t kMaxReplicas = 5;
constexpr uint64_t kMaxBlocks = 512;
constexpr uint64_t kMaxModelSnapshots = 6;
constexpr uint64_t kManySnapshots = 150;  // past what the superblock's first blocks hold, twice

}  // namespace

Task<void> SimulatedStore::client(uint64_t number) {
  Prng prng(number);
  while (budget_ > 0 && alive() && !over() && !pool_->stats().failed) {
    --budget_;
    co_await one_operation(prng);
    ++result_.operations;
  }
}

// Somebody who is alarmed by a full pool, at once or late, and makes much room or little. Without him those that
// a file system must never see refused would wait for ever; with him all must go on.
Task<void> SimulatedStore::make_room_now_and_then() {
  const Duration sees = prng_.chance(1, 2) ? 100ms : 2s;
  const uint64_t at_once = prng_.chance(1, 2) ? 2 * kMiB : 512 * kKiB;
  while (clients_.inside() > 0 && alive()) {
    Status slept = co_await process_.world().clock.sleep_for(50ms, CancelToken());
    if (!slept.ok() || !alive() || pool_->stats().full_for < config_.full_patience + sees) continue;
    HF_PROBE("sim.room_made");
    disk_.set_capacity(disk_.space().used() * kBlockSize + config_.reserve_bytes + at_once);
  }
}

ReplicaPtr SimulatedStore::pick(Prng& prng) {
  std::vector<ReplicaPtr> certain;
  for (const auto& [id, replica] : model_.replicas) {
    if (replica->usable()) certain.push_back(replica);
  }
  if (certain.empty()) return nullptr;
  return certain[prng.below(certain.size())];
}

SimulatedStore::Range SimulatedStore::pick_range(Prng& prng, const ModelReplica& replica) {
  const uint64_t size = replica.blocks.size();
  Range range;
  const uint64_t most = std::min<uint64_t>(size, prng.chance(1, 40) ? 400 : prng.chance(1, 3) ? 64 : 6);
  range.count = prng.between(1, most);
  // Often the same few places, so that records overlap.
  const uint64_t room = size - range.count;
  range.first = prng.chance(1, 2) ? std::min(room, prng.below(12)) : prng.below(room + 1);
  return range;
}

Task<void> SimulatedStore::one_operation(Prng& prng) {
  uint64_t draw = prng.below(1000);
  if (model_.replicas.size() < 2 || draw < 8) {
    if (model_.replicas.size() < kMaxReplicas) co_await create(prng);
    co_return;
  }
  ReplicaPtr replica = pick(prng);
  if (replica == nullptr) co_return;
  if (draw < 20) {
    if (model_.replicas.size() < kMaxReplicas) co_await clone(prng, replica);
  } else if (draw < 28) {
    co_await remove(replica);
  } else if (draw < 40) {
    co_await restore(prng, replica);
  } else if (draw < 50) {
    co_await shrink(prng, replica);
  } else if (draw < 60) {
    co_await grow(prng, replica);
  } else if (draw < 70) {
    Status drained = co_await pool_->wait_drained();
    if (!drained.ok()) excuse(drained.error(), "drain");
  } else {
    // Most of them of one replica, so that its superblock grows.
    if (many_snapshots_ && prng.chance(1, 2)) {
      draw = 70;
      replica = model_.replicas.begin()->second;
    }
    co_await replica->users.acquire();
    SemaphoreUnits held(replica->users, 1);
    if (replica->usable() && alive() && pool_->find(replica->id) != nullptr) {
      co_await io_operation(prng, replica, draw);
    }
  }
}

Task<void> SimulatedStore::io_operation(Prng& prng, ReplicaPtr replica, uint64_t draw) {
  if (draw < 110) {
    co_await snapshot(replica);
  } else if (draw < 130) {
    co_await delete_snapshot(prng, replica);
  } else if (draw < 140) {
    co_await promise(prng, replica);
  } else if (draw < 190) {
    co_await books_operation(prng, replica);
  } else if (draw < 250) {
    co_await zero(prng, replica);
  } else if (draw < 420) {
    co_await read(prng, replica);
  } else {
    co_await write(prng, replica);
  }
}

Task<void> SimulatedStore::write(Prng& prng, ReplicaPtr replica) {
  const Range range = pick_range(prng, *replica);
  const uint64_t order = model_.next_order++;
  const bool unaligned = prng.chance(1, 8);
  const bool large = config_.large_write_bytes != 0 &&
                     range.count * kBlockSize >= config_.large_write_bytes;
  AlignedBuffer memory((range.count + 1) * kBlockSize);
  const MutableByteSpan data =
      memory.span().subspan(unaligned ? 512 : 0, range.count * kBlockSize);
  for (uint64_t i = 0; i < range.count; ++i) {
    const uint64_t value = prng.chance(1, 16) ? 0 : model_.next_value++;
    fill_block(data.subspan(i * kBlockSize, kBlockSize), value, range.first + i);
    replica->begin(range.first + i, order, value, large);
  }
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  const WriteHeader header = header_for(*replica, order, range.first, range.count);
  const uint64_t promises = replica->promises;
  Status written = co_await target->write(header, range.first * kBlockSize, data);
  ended(*replica, order, header, written);
  if (written.ok()) {
    for (uint64_t i = 0; i < range.count; ++i) replica->blocks[range.first + i].acknowledge(order);
    co_return;
  }
  if (written.code() == ErrorCode::kFenced && header.epoch < replica->asked) co_return;
  if (written.code() == ErrorCode::kConflict && promises != replica->promises) co_return;
  if (written.code() == ErrorCode::kNoSpace && data.size() <= kSmallWriteBytes && trouble_ == Trouble::kSpace) {
    fail("a small write was refused: " + written.error().to_string());
  }
  excuse(written.error(), "write");
}

Task<void> SimulatedStore::zero(Prng& prng, ReplicaPtr replica) {
  const Range range = pick_range(prng, *replica);
  const uint64_t order = model_.next_order++;
  for (uint64_t i = 0; i < range.count; ++i) replica->begin(range.first + i, order, 0);
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  const WriteHeader header = header_for(*replica, order, range.first, range.count);
  const uint64_t offset = range.first * kBlockSize, length = range.count * kBlockSize;
  const uint64_t promises = replica->promises;
  Status written;
  if (prng.chance(1, 2)) {
    written = co_await target->discard(header, offset, length);
  } else {
    written = co_await target->write_zeroes(header, offset, length);
  }
  ended(*replica, order, header, written);
  if (written.ok()) {
    for (uint64_t i = 0; i < range.count; ++i) replica->blocks[range.first + i].acknowledge(order);
    co_return;
  }
  if (written.code() == ErrorCode::kFenced && header.epoch < replica->asked) co_return;
  if (written.code() == ErrorCode::kConflict && promises != replica->promises) co_return;
  excuse(written.error(), "zero");
}

Task<void> SimulatedStore::read(Prng& prng, ReplicaPtr replica) {
  const Range range = pick_range(prng, *replica);
  std::vector<uint64_t> floors(range.count);
  for (uint64_t i = 0; i < range.count; ++i) floors[i] = replica->blocks[range.first + i].floor();
  AlignedBuffer memory((range.count + 1) * kBlockSize);
  const MutableByteSpan out =
      memory.span().subspan(prng.chance(1, 8) ? 512 : 0, range.count * kBlockSize);
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  Status got = co_await target->read(range.first * kBlockSize, out);
  if (!got.ok()) {
    if (alive() && got.code() == ErrorCode::kCorruption) ++result_.corrupt_reads;
    excuse(got.error(), "read");
    co_return;
  }
  for (uint64_t i = 0; i < range.count; ++i) {
    const uint64_t block = range.first + i;
    const BlockHistory& history = replica->blocks[block];
    // What was in flight when we called is there wholly or not at all.
    Possible possible = history.since(floors[i]);
    possible.torn = history.torn_source();
    const auto value = judge(fmt::format("read of {} block {}", replica->id.to_string(), block),
                             out.subspan(i * kBlockSize, kBlockSize), block, possible,
                             history.to_string());
    if (!value) co_return;
  }
}

// --- snapshots --------------------------------------------------------------------------------------

Task<void> SimulatedStore::snapshot(ReplicaPtr replica) {
  if (replica->snapshots.size() >= (many_snapshots_ ? kManySnapshots : kMaxModelSnapshots))
    co_return;
  ModelSnapshot snapshot;
  snapshot.id = new_id<SnapshotId>(process_.world().random);
  snapshot.certain = false;
  for (const BlockHistory& block : replica->blocks) snapshot.blocks.push_back(block.possible());
  const SnapshotId id = snapshot.id;
  replica->snapshots.push_back(std::move(snapshot));
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  const WriteHeader header = header_for(*replica);
  Result<SnapshotInfo> cut = co_await target->snapshot(header, id);
  const bool fenced = cut.code() == ErrorCode::kFenced && header.epoch < replica->asked;
  if (!cut.ok() && !fenced) {
    excuse(cut.error(), "snapshot");
    // Refused before anything has changed: it must never show.
    if (cut.code() == ErrorCode::kNoSpace) {
      std::erase_if(replica->snapshots, [&](const ModelSnapshot& s) { return s.id == id; });
    }
    co_return;
  }
  for (ModelSnapshot& row : replica->snapshots) {
    if (row.id == id && cut.ok()) row.certain = true;
  }
}

Task<void> SimulatedStore::delete_snapshot(Prng& prng, ReplicaPtr replica) {
  if (replica->snapshots.empty()) co_return;
  ModelSnapshot& row = replica->snapshots[prng.below(replica->snapshots.size())];
  if (!row.certain) co_return;
  row.certain = false;
  const SnapshotId id = row.id;
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  Status gone = co_await target->delete_snapshot(id);
  if (!gone.ok()) {
    excuse(gone.error(), "delete snapshot");
    co_return;
  }
  std::erase_if(replica->snapshots, [&](const ModelSnapshot& s) { return s.id == id; });
}

Task<void> SimulatedStore::promise(Prng& prng, ReplicaPtr replica) {
  const uint64_t epoch = replica->asked + prng.below(3);
  replica->asked = std::max(replica->asked, epoch);
  ++replica->promises;
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  Status promised = co_await target->promise(epoch);
  if (promised.ok()) {
    replica->promised = std::max(replica->promised, epoch);
  } else if (promised.code() != ErrorCode::kFenced || epoch >= replica->asked) {
    excuse(promised.error(), "promise");
  }
}

Task<void> SimulatedStore::restore(Prng& prng, ReplicaPtr replica) {
  co_await replica->users.acquire(ModelReplica::kUsers);
  SemaphoreUnits held(replica->users, ModelReplica::kUsers);
  if (!replica->usable() || !alive() || replica->snapshots.empty()) co_return;
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  const size_t index = prng.below(replica->snapshots.size());
  if (target == nullptr || !replica->snapshots[index].certain) co_return;
  const uint64_t order = model_.next_order++;
  const std::vector<Possible> blocks = replica->snapshots[index].blocks;
  for (size_t b = 0; b < blocks.size(); ++b) {
    if (b == replica->blocks.size()) replica->blocks.emplace_back();
    for (const uint64_t value : blocks[b].values) replica->blocks[b].add(order, value, false);
    if (blocks[b].torn) replica->blocks[b].set_torn_source();
  }
  const uint64_t old_size = target->size() / kBlockSize;
  if (old_size != blocks.size()) replica->other_size = blocks.size();
  const WriteHeader header =
      header_for(*replica, order, 0, std::max<uint64_t>(old_size, blocks.size()));
  Status restored = co_await target->restore(header, replica->snapshots[index].id);
  ended(*replica, order, header, restored);
  if (!restored.ok()) {
    excuse(restored.error(), "restore");
    replica->settled = false;
    co_return;
  }
  replica->other_size.reset();
  replica->blocks.resize(blocks.size());
  for (size_t b = 0; b < blocks.size(); ++b) replica->blocks[b].become(order, blocks[b]);
}

// --- sizes ------------------------------------------------------------------------------------------

Task<void> SimulatedStore::grow(Prng& prng, ReplicaPtr replica) {
  co_await replica->users.acquire(ModelReplica::kUsers);
  SemaphoreUnits held(replica->users, ModelReplica::kUsers);
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  if (!replica->usable() || !alive() || target == nullptr) co_return;
  const uint64_t blocks = replica->blocks.size() + prng.between(1, 64);
  if (blocks > kMaxBlocks) co_return;
  replica->other_size = blocks;
  Status resized = co_await target->resize(unstamped_header(*replica), blocks * kBlockSize);
  if (!resized.ok()) {
    excuse(resized.error(), "grow");
    replica->settled = false;
    co_return;
  }
  replica->other_size.reset();
  replica->blocks.resize(blocks);
}

Task<void> SimulatedStore::shrink(Prng& prng, ReplicaPtr replica) {
  co_await replica->users.acquire(ModelReplica::kUsers);
  SemaphoreUnits held(replica->users, ModelReplica::kUsers);
  const std::shared_ptr<Replica> target = pool_->find(replica->id);
  if (!replica->usable() || !alive() || target == nullptr || replica->blocks.size() < 40) co_return;
  const uint64_t blocks = prng.between(20, replica->blocks.size() - 1);
  const uint64_t order = model_.next_order++;
  for (uint64_t b = blocks; b < replica->blocks.size(); ++b) replica->blocks[b].add(order, 0, false);
  replica->other_size = blocks;
  const WriteHeader header =
      header_for(*replica, order, blocks, replica->blocks.size() - blocks);
  Status resized = co_await target->resize(header, blocks * kBlockSize);
  ended(*replica, order, header, resized);
  if (!resized.ok()) {
    excuse(resized.error(), "shrink");
    replica->settled = false;
    co_return;
  }
  replica->other_size.reset();
  replica->blocks.resize(blocks);
}

// --- replicas ---------------------------------------------------------------------------------------

ReplicaSpec SimulatedStore::spec_for(const ModelReplica& replica, uint64_t blocks, Prng& prng) {
  ReplicaSpec spec;
  spec.replica = replica.id;
  spec.volume = replica.volume;
  spec.size_bytes = blocks * kBlockSize;
  spec.segment_bytes = kMinSegmentBytes << prng.below(4);
  spec.config = "config";
  return spec;
}

Task<void> SimulatedStore::create(Prng& prng) {
  Random& random = process_.world().random;
  ReplicaPtr replica =
      std::make_shared<ModelReplica>(new_id<ReplicaId>(random), new_id<VolumeId>(random));
  if (!deleted_.empty() && prng.chance(1, 2)) {
    // An id may come back, as another volume: nothing of its former life may show.
    const ReplicaPtr former = deleted_.back();
    deleted_.pop_back();
    HF_PROBE("sim.id_used_again");
    replica = std::make_shared<ModelReplica>(former->id, new_id<VolumeId>(random));
  }
  replica->certain = false;
  replica->blocks.resize(prng.between(20, 300));
  model_.replicas[replica->id] = replica;
  ReplicaSpec spec = spec_for(*replica, replica->blocks.size(), prng);
  Result<std::shared_ptr<Replica>> made = co_await pool_->create_replica(spec);
  if (made.ok() && prng.chance(1, 4)) made = co_await pool_->create_replica(spec);  // idempotent
  if (!made.ok()) {
    excuse(made.error(), "create replica");
    co_return;
  }
  replica->certain = true;
}

Task<void> SimulatedStore::clone(Prng& prng, ReplicaPtr source) {
  co_await source->users.acquire();
  SemaphoreUnits held(source->users, 1);
  if (!source->usable() || !alive() || pool_->find(source->id) == nullptr) co_return;
  Random& random = process_.world().random;
  ReplicaPtr replica =
      std::make_shared<ModelReplica>(new_id<ReplicaId>(random), new_id<VolumeId>(random));
  replica->certain = false;
  SnapshotId snapshot;
  std::vector<Possible> blocks;
  if (!source->snapshots.empty() && prng.chance(1, 2)) {
    const ModelSnapshot& row = source->snapshots[prng.below(source->snapshots.size())];
    if (!row.certain) co_return;
    snapshot = row.id;
    blocks = row.blocks;
  } else {
    for (const BlockHistory& block : source->blocks) blocks.push_back(block.possible());
  }
  replica->blocks.resize(blocks.size());
  for (size_t b = 0; b < blocks.size(); ++b) replica->blocks[b].become(1, blocks[b]);
  model_.replicas[replica->id] = replica;
  ReplicaSpec spec = spec_for(*replica, 0, prng);
  if (snapshot.is_nil()) source->clones.push_back(replica);
  Result<std::shared_ptr<Replica>> made =
      co_await pool_->clone_replica(source->id, snapshot, std::move(spec));
  std::erase(source->clones, replica);
  if (made.code() == ErrorCode::kNotFound || made.code() == ErrorCode::kClosed) {
    // The snapshot or the source went while we queued; then there is no clone.
    if (pool_->find(replica->id) == nullptr && alive()) {
      model_.replicas.erase(replica->id);
      co_return;
    }
  }
  if (!made.ok()) {
    excuse(made.error(), "clone");
    co_return;
  }
  replica->certain = true;
}

Task<void> SimulatedStore::remove(ReplicaPtr replica) {
  co_await replica->users.acquire(ModelReplica::kUsers);
  SemaphoreUnits held(replica->users, ModelReplica::kUsers);
  if (!replica->usable() || !alive()) co_return;
  replica->certain = false;
  Status gone = co_await pool_->delete_replica(replica->id);
  if (!gone.ok()) {
    excuse(gone.error(), "delete replica");
    co_return;
  }
  model_.replicas.erase(replica->id);
  deleted_.push_back(replica);
}

}  // namespace hf::store_sim
