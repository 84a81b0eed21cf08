// What can be seen only by asking the replicas themselves.
#include <algorithm>

#include "../store/model.h"
#include "cluster.h"
#include "replicate/decide.h"
#include "replicate/range_set.h"

namespace hf::replicate_sim {
namespace {

constexpr uint64_t kPiece = 16;  // blocks read at a time

}  // namespace

// False: some of it cannot be read. Nothing: garbage.
Task<bool> SimCluster::read_all(Replica& replica, std::vector<std::optional<uint64_t>>* values) {
  AlignedBuffer data(kPiece * kBlockSize);
  const uint64_t blocks = std::min(shape_.blocks, replica.size() / kBlockSize);
  for (uint64_t first = 0; first < blocks; first += kPiece) {
    const uint64_t count = std::min(kPiece, blocks - first);
    Status done = co_await replica.read(first * kBlockSize, data.span().first(count * kBlockSize));
    if (!done.ok()) co_return false;
    for (uint64_t i = 0; i < count; ++i) {
      values->push_back(
          store_sim::value_of_block(data.span().subspan(i * kBlockSize, kBlockSize), first + i));
    }
  }
  co_return true;
}

Task<void> SimCluster::read_everything() {
  Node* node = serving();
  if (node == nullptr) {
    fail("nobody serves");
    co_return;
  }
  const std::shared_ptr<Attachment> at = node->daemon->attachment;
  Gate::Pass pass(at->users);
  AlignedBuffer data(kPiece * kBlockSize);
  for (uint64_t first = 0; first < shape_.blocks; first += kPiece) {
    const uint64_t count = std::min(kPiece, shape_.blocks - first);
    const MutableByteSpan piece = data.span().first(count * kBlockSize);
    const Judge::Call call = judge_.read_begins(at->coordinator->epoch(), first);
    Status done = co_await at->coordinator->read(first * kBlockSize, piece);
    if (!done.ok()) {
      fail(fmt::format("last read of block {}: {}", first, done.error().to_string()));
      co_return;
    }
    std::vector<uint64_t> values;
    for (uint64_t i = 0; i < count; ++i) {
      const auto value =
          store_sim::value_of_block(piece.subspan(i * kBlockSize, kBlockSize), first + i);
      if (!value) fail(fmt::format("block {} is garbage", first + i));
      values.push_back(value.value_or(0));
    }
    judge_.read_ended(call, values);
  }
}

Task<void> SimCluster::compare_replicas() {
  std::optional<std::vector<std::optional<uint64_t>>> all;
  for (Node* node : members()) {
    std::vector<std::optional<uint64_t>> values;
    const std::shared_ptr<ReplicaService> service = node->daemon->service;
    bool whole = co_await read_all(service->replica(), &values);
    if (!whole) fail(fmt::format("at rest {} cannot be read", node->host.name()));
    for (uint64_t block = 0; block < values.size(); ++block) {
      if (values[block] && (!all || (*all)[block] == values[block])) continue;
      fail(fmt::format("I5: at rest {} has of block {} value {}, n1 has {}", node->host.name(),
                       block, values[block] ? fmt::format("{}", *values[block]) : "garbage",
                       all ? fmt::format("{}", (*all)[block].value_or(0)) : "garbage"));
    }
    if (!all) all = std::move(values);
  }
  for (const SnapshotId& id : cuts) co_await compare_snapshot(id);
}

// --- I7

Task<void> SimCluster::check_coverage() {
  checking_ = true;
  for (Node* away : members()) {
    for (Node* in_sync : members()) {
      if (away != in_sync) co_await check_pair(*in_sync, *away);
    }
  }
  checking_ = false;
}

// What differs now must be in the books as they are a moment later: as long as `away` does not
// join, they only grow.
Task<void> SimCluster::check_pair(Node& in_sync, Node& away) {
  judge_.look();
  const VolumeConfig config = judge_.config();
  const auto is_in_sync = [](const VolumeConfig& c, const Node& node) {
    const VolumeMember* member = find_member(c, node.replica);
    return member != nullptr && (c.in_sync & slot_bit(member->slot)) != 0;
  };
  const VolumeMember* member = find_member(config, away.replica);
  // Of a new one no map has to tell anything.
  if (member == nullptr || member->whole) co_return;
  const uint8_t slot = member->slot;
  if (config.phase != VolumePhase::kActive || is_in_sync(config, away)) co_return;
  if (!is_in_sync(config, in_sync) || !in_sync.is_up() || !away.is_up()) co_return;
  struct Difference {
    uint64_t block, here, there;
  };
  std::vector<Difference> differ;
  for (uint64_t block = 0; block < shape_.blocks; ++block) {
    const uint64_t here = in_sync.shadow.content(block), there = away.shadow.content(block);
    if (here != there && !judge_.is_written_now(block)) differ.push_back({block, here, there});
  }
  ++pairs_checked;
  if (differ.empty()) co_return;
  const uint64_t clears = in_sync.shadow.clears(slot);
  const std::shared_ptr<ReplicaService> one = in_sync.daemon->service, two = away.daemon->service;
  RangeSet known;
  for (const bool map : {true, false}) {
    uint64_t from = 0;
    while (true) {
      Result<std::vector<ByteRange>> page = std::vector<ByteRange>();
      if (map) {
        page = co_await one->replica().dirty(slot, from, 1024);
      } else {
        page = co_await two->replica().window(from, 1024);
      }
      if (!page.ok()) co_return;
      if (page->empty()) break;
      for (const ByteRange& range : *page) known.add(range.offset, range.length);
      from = page->back().end();
    }
  }
  judge_.look();
  if (in_sync.shadow.clears(slot) != clears || is_in_sync(judge_.config(), away)) co_return;
  const VolumeMember* still = find_member(judge_.config(), away.replica);
  if (still == nullptr || still->whole || still->slot != slot) co_return;
  ++coverage_checks;
  differing_blocks += differ.size();
  for (const auto& [block, here, there] : differ) {
    if (known.contains(block * kBlockSize, kBlockSize)) continue;
    fail(fmt::format(
        "I7: in epoch {} (in_sync {:03b}) {} had of block {} value {}, {}, which is "
        "away, had {}, and neither its window nor the map of the former tells",
        config.epoch, config.in_sync, in_sync.host.name(), block, here, away.host.name(), there));
  }
}

Task<void> SimCluster::compare_snapshot(SnapshotId id) {
  uint64_t having = 0;
  for (uint64_t block : lively_) {
    std::optional<uint64_t> first;
    having = 0;
    for (Node* node : holders()) {
      Replica& replica = node->daemon->service->replica();
      const std::vector<SnapshotInfo> all = replica.snapshots();
      if (std::none_of(all.begin(), all.end(),
                       [id](const SnapshotInfo& info) { return info.id == id; }))
        continue;
      ++having;
      AlignedBuffer data(kBlockSize);
      Status done = co_await replica.read_snapshot(id, block * kBlockSize, data.span());
      const auto value = done.ok() ? store_sim::value_of_block(data.span(), block) : std::nullopt;
      if (!value || (first && *first != *value)) {
        fail(fmt::format("snapshot {} differs at block {} on {}", id.to_string(), block,
                         node->host.name()));
        co_return;
      }
      first = value;
    }
  }
  if (having == 0) fail(fmt::format("snapshot {} was acknowledged and is nowhere", id.to_string()));
}

}  // namespace hf::replicate_sim
