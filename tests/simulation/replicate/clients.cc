// What clients of a coordinator do, and are told.
#include <algorithm>
#include <cstring>

#include "../store/model.h"
#include "cluster.h"

namespace hf::replicate_sim {

Task<void> SimCluster::client(Node& node, std::shared_ptr<Attachment> at, uint64_t seed,
                              uint64_t writes_percent) {
  Prng prng(seed);
  Clock& clock = node.daemon->world.clock;
  while (clients_run_ && !at->ending && failure().empty()) {
    if (at->credits == 0) {
      co_await at->go.wait();
      continue;
    }
    --at->credits;
    const Duration think = Duration(prng.below(static_cast<uint64_t>(shape_.think.count()) + 1));
    Status slept = co_await clock.sleep_for(think + 1ns, CancelToken());
    if (!slept.ok() || at->ending) co_return;
    Status done;
    const uint64_t draw = prng.below(1000);
    if (shape_.snapshots && writes_percent > 0 && draw < 4 && cuts.size() < 4) {
      done = co_await cut_one(node, *at);
    } else if (draw < writes_percent * 10) {
      done = co_await write_some(node, *at, prng);
    } else {
      done = co_await read_some(node, *at, prng);
    }
    ++(done.ok() ? acknowledged : refused);
    if (done.code() == ErrorCode::kFenced || done.code() == ErrorCode::kClosed) co_return;
  }
}

Task<Status> SimCluster::write_some(Node&, Attachment& at, Prng& prng) {
  const uint64_t first = lively_[prng.below(lively_.size())];
  const uint64_t count = std::min(prng.between(1, shape_.widest), shape_.blocks - first);
  AlignedBuffer data(count * kBlockSize);
  const Judge::Call call = judge_.write_begins(at.coordinator->epoch(), first, count);
  for (uint64_t i = 0; i < count; ++i) {
    store_sim::fill_block(data.span().subspan(i * kBlockSize, kBlockSize), call.values[i],
                          first + i);
  }
  Status done = co_await at.coordinator->write(first * kBlockSize, data.span());
  // The memory is the caller's again: whoever still looks at it finds garbage.
  std::memset(data.data(), 0xee, data.size());
  judge_.write_ended(call, done);
  if (done.ok()) sim_.loop().record("write", first, call.values[0]);
  co_return done;
}

Task<Status> SimCluster::read_some(Node& node, Attachment& at, Prng& prng) {
  const uint64_t first = lively_[prng.below(lively_.size())];
  const uint64_t count = std::min(prng.between(1, shape_.widest), shape_.blocks - first);
  AlignedBuffer data(count * kBlockSize);
  const Judge::Call call = judge_.read_begins(at.coordinator->epoch(), first);
  Status done = co_await at.coordinator->read(first * kBlockSize, data.span());
  if (!done.ok()) co_return done;
  std::vector<uint64_t> values;
  for (uint64_t i = 0; i < count; ++i) {
    const auto value =
        store_sim::value_of_block(data.span().subspan(i * kBlockSize, kBlockSize), first + i);
    if (!value) {
      fail(fmt::format("block {} was read as garbage on {}", first + i, node.host.name()));
      co_return Status();
    }
    values.push_back(*value);
    sim_.loop().record("read", first + i, *value);
  }
  judge_.read_ended(call, values);
  co_return Status();
}

Task<Status> SimCluster::cut_one(Node&, Attachment& at) {
  const SnapshotId id = new_id<SnapshotId>(sim_.driver().random);
  Result<SnapshotInfo> cut = co_await at.coordinator->snapshot(id);
  HF_CO_TRY(cut);
  cuts.push_back(id);
  co_return Status();
}

Task<void> SimCluster::probe_write(Node& node, std::shared_ptr<bool> done) {
  const std::shared_ptr<Attachment> at = node.daemon->attachment;
  Gate::Pass pass(at->users);
  if (!pass) co_return;
  Prng prng(1);
  Status written = co_await write_some(node, *at, prng);
  if (written.ok()) *done = true;
}

Task<bool> SimCluster::progresses(Duration within) {
  const auto done = std::make_shared<bool>(false);
  Node* node = serving();
  if (node != nullptr) (void)spawn(checks_, probe_write(*node, done));
  const MonoTime end = sim_.driver().clock.now() + within;
  while (!*done && sim_.driver().clock.now() < end) co_await pause_for(5ms);
  co_return *done;
}

}  // namespace hf::replicate_sim
