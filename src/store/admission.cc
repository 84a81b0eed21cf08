// What a pool lets in, what it holds back and what it refuses when it is full.
//
//   fits above the watermark ──────────────────────────► goes on
//   small, overwrite, journal … fits in its part of the reserve ─► goes on, else waits as long as
//   it takes data ─► waits, at most full_patience for all of an episode together ─► no_space until
//   there is room
//
// An episode begins when a write has found no room although everything acknowledged before it has
// been drained; it ends when nobody waits any more and there is room for a large write. Until then
// the pool looks at its file system once a second. Who waits does so outside of the admission:
// deletions, discards, overwrites and other volumes go on, and make the room.
#include <algorithm>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/mutants.h"
#include "store/pool_impl.h"

namespace hf {
namespace {

// How often a full pool looks whether there is room that nobody told of: other files of the same
// file system, space that it frees in the background. Every tenth of a second at first, since a
// drain mostly makes some.
constexpr Duration kFirstLooks = 100ms;
constexpr Duration kLaterLooks = 1s;
constexpr uint64_t kFirstLooksMax = 10;

// So much above the watermark ends an episode. Less would end it with each small write that still
// finds room between large ones that find none, and each of those would wait its 30 s anew.
constexpr uint64_t kRoomAgain = 1 * kMiB;

}  // namespace

Task<Status> PoolImpl::refresh_space() {
  const uint64_t ended = direct_ended_, before = space_.free;
  Result<SpaceInfo> info = co_await world_.fs.space(config_.data_dir);
  HF_CO_TRY(info);
  space_.total = info->total_bytes;
  data_free_ = space_.free = info->free_bytes;
  if (!config_.image.empty()) {
    Result<SpaceInfo> below = co_await world_.fs.space(config_.journal_dir);
    HF_CO_TRY(below);
    Result<FileInfo> image = co_await world_.fs.stat(config_.image);
    HF_CO_TRY(image);
    space_.free = writable_in_image(image->size, image->allocated_bytes, info->total_bytes,
                                    info->free_bytes, below->free_bytes);
  }
  direct_ended_known_ = std::max(direct_ended_known_, ended);
  space_.reserve =
      config_.reserve_bytes != 0 ? config_.reserve_bytes : default_reserve(info->total_bytes);
  if (space_.free > before) room_changed_.notify_all();
  end_episode_if_over();
  co_return Status();
}

bool PoolImpl::fits(uint64_t worst_case, uint64_t reserve) const {
  SpaceState space = space_;
  space.pending = worst_case_bytes(overlay_payload_, touched_.size()) + writer_->queued_bytes() +
                  worst_case_bytes(direct_in_flight_ + direct_ended_ - direct_ended_known_, 0);
  space.reserve = reserve;
  return admits(space, worst_case);
}

namespace {

uint64_t worst_of(const ReplicaImpl& replica, uint64_t first_block, uint64_t blocks) {
  const uint64_t per_segment = replica.blocks_per_segment();
  const uint64_t segments =
      (first_block + blocks - 1) / per_segment - first_block / per_segment + 1;
  return worst_case_bytes(blocks * kBlockSize, segments);
}

}  // namespace

bool PoolImpl::has_room(const ReplicaImpl& replica, uint64_t first_block, uint64_t blocks) const {
  return fits(worst_of(replica, first_block, blocks), space_.reserve);
}

// With what is known, then with what the file system says now, then after what waits has found its
// place.
Task<Result<bool>> PoolImpl::find_room(uint64_t worst_case) {
  for (int attempt = 0; !fits(worst_case, space_.reserve); ++attempt) {
    if (attempt == 2) co_return false;
    if (attempt == 1) {
      HF_PROBE("store.watermark");
      Status drained = co_await drain_->try_for(last_durable_sequence());
      HF_CO_TRY(drained);
    }
    Status refreshed = co_await refresh_space();
    HF_CO_TRY(refreshed);
  }
  co_return true;
}

Error PoolImpl::no_space() const {
  HF_PROBE("store.no_space");
  if (space_.free < data_free_) {
    return make_error(ErrorCode::kNoSpace,
                      "the file system of {}, where pool {} lies, has {} left for it, {} of them "
                      "kept in reserve; make "
                      "room there, or delete volumes or snapshots",
                      config_.journal_dir, id().to_string(), format_size(space_.free),
                      format_size(space_.reserve));
  }
  return make_error(
      ErrorCode::kNoSpace,
      "pool {} in {} is at its watermark: {} free, {} kept in reserve; delete volumes or "
      "snapshots, or grow the pool",
      id().to_string(), config_.data_dir, format_size(space_.free), format_size(space_.reserve));
}

Task<Status> PoolImpl::admit_metadata(uint64_t bytes) {
  Result<bool> room = co_await find_room(bytes);
  HF_CO_TRY(room);
  if (!*room) co_return no_space();
  co_return Status();
}

Task<Result<Admit>> PoolImpl::admit(ReplicaImpl& replica, uint64_t first_block, ByteSpan data,
                                    const HeldWrite* held) {
  const uint64_t worst = worst_of(replica, first_block, data.size() / kBlockSize);
  if (!fits(worst, space_.reserve) && held == nullptr) {
    Status refreshed = co_await refresh_space();
    HF_CO_TRY(refreshed);
  }
  if (fits(worst, space_.reserve)) co_return Admit::kYes;
  const bool all_data = mutant(StoreMutant::kVitalRefused);
  WriteKind kind =
      data.size() <= kSmallWriteBytes && !all_data ? WriteKind::kSmall : WriteKind::kData;
  if (kind == WriteKind::kSmall && fits(worst, reserve_for(kind, space_.reserve))) {
    HF_PROBE("store.small_in_reserve");
    co_return Admit::kYes;
  }
  Result<bool> vital = co_await replica.is_vital(first_block, data);
  HF_CO_TRY(vital);
  if (*vital && !all_data) kind = WriteKind::kVital;
  if (fits(worst, reserve_for(kind, space_.reserve))) {
    HF_PROBE("store.vital_in_reserve");
    co_return Admit::kYes;
  }
  if (releasing_) co_return make_error(ErrorCode::kClosed, "pool {} is closing", id().to_string());
  if (kind != WriteKind::kData || mutant(StoreMutant::kHeldForEver)) co_return Admit::kWait;
  // Before it is refused, what waits for its drain has had the time to make room.
  const bool has_waited = held != nullptr && (has_settled(held->sequence) ||
                                              looks_ - held->first_look >= kFirstLooksMax);
  const bool refused = refusing_ && has_waited;
  co_return refused ? Admit::kNo : Admit::kWait;
}

// --- held back --------------------------------------------------------------------------------------

bool PoolImpl::has_settled(uint64_t sequence) const {
  return batches_.empty() || batches_.front()->sequence > sequence;
}

void PoolImpl::hold(HeldWrite& held) {
  HF_PROBE("store.write_held_back");
  held.for_room = true;
  held.sequence = last_durable_sequence();
  held.first_look = looks_;
  ++held_writes_;
  drain_->request(held.sequence);
  if (!watching_) spawn(tasks_, watch_for_room());
}

void PoolImpl::let_go(HeldWrite& held) {
  held.for_room = false;
  --held_writes_;
  end_episode_if_over();
}

void PoolImpl::release_held() {
  releasing_ = true;
  wake_held();
}

void PoolImpl::begin_episode() {
  if (full_since_) return;
  full_since_ = world_.clock.now();
  HF_LOG(kError, "store",
         "pool_full pool={} path={} free={} reserve={} held_writes={} new data waits up to {} s "
         "for room: delete "
         "volumes or snapshots, or grow the pool",
         id().to_string(), config_.data_dir, format_size(space_.free), format_size(space_.reserve),
         held_writes_, config_.full_patience / 1s);
}

void PoolImpl::end_episode_if_over() {
  if (!full_since_ || held_writes_ > 0 || !fits(kRoomAgain, space_.reserve)) return;
  HF_PROBE("store.room_again");
  HF_LOG(kInfo, "store", "pool_has_room_again pool={} free={} was_full_for_ms={} refused={}",
         id().to_string(), format_size(space_.free), (world_.clock.now() - *full_since_) / 1ms,
         refusing_);
  full_since_.reset();
  refusing_ = false;
}

// While anybody waits for room, or an episode lasts.
Task<void> PoolImpl::watch_for_room() {
  watching_ = true;
  const uint64_t began = last_durable_sequence();
  for (uint64_t look = 0; (held_writes_ > 0 || full_since_) && !failure_ && !releasing_; ++look) {
    Duration pause = look < kFirstLooksMax ? kFirstLooks : kLaterLooks;
    if (full_since_ && !refusing_) {
      pause = std::clamp(*full_since_ + config_.full_patience - world_.clock.now(), Duration(1ms),
                         pause);
    }
    Status slept = co_await world_.clock.sleep_for(pause, cancel_watch_);
    if (!slept.ok()) {
      if (!cancel_watch_.is_cancelled()) fail(slept.error());
      break;
    }
    if (failure_) break;
    ++looks_;
    if (held_writes_ > 0) {
      drain_->request(last_durable_sequence());
      if (has_settled(began) || look >= kFirstLooksMax) begin_episode();
    }
    if (full_since_ && !refusing_ && world_.clock.now() - *full_since_ >= config_.full_patience) {
      HF_PROBE("store.patience_over");
      HF_LOG(kError, "store", "pool_refuses_data pool={} held_writes={}", id().to_string(),
             held_writes_);
      refusing_ = true;
    }
    Status refreshed = co_await refresh_space();
    if (!refreshed.ok()) fail(refreshed.error());
    wake_held();
  }
  watching_ = false;
  wake_held();
}

}  // namespace hf
