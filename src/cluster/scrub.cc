// Scrubs: all copies of a volume compared from time to time, in the background, by the node that has it or is
// responsible for it. A round that is cut short (a daemon that ends, a volume taken over) goes on where it was.
#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "base/utc.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

constexpr Duration kSaveEvery = std::chrono::minutes(5);    // so much of a round a crash may cost
constexpr Duration kLookEvery = std::chrono::minutes(5);    // for what is due
constexpr Duration kRestAfterError = std::chrono::minutes(15);
constexpr int kKeepTries = 5;

ScrubFindings sum(const ScrubFindings& before, const ScrubFindings& now) {
  ScrubFindings all = now;
  all.compared_bytes += before.compared_bytes;
  all.mended_bytes += before.mended_bytes;
  all.undecided_bytes += before.undecided_bytes;
  all.lost_bytes += before.lost_bytes;
  all.all_members = all.all_members && before.all_members;
  return all;
}

}  // namespace

WallTime scrub_due(const VolumeRecord& volume, const ScrubRecord* scrub, Duration every) {
  if (every <= Duration::zero()) return WallTime{INT64_MAX};
  if (scrub != nullptr && scrub->begun.ns != 0) return scrub->begun;
  const WallTime last = scrub != nullptr && scrub->ended.ns != 0 ? scrub->ended : volume.created;
  return WallTime{last.ns + every.count()};
}

// Who scrubs it: who has it, else who does so already, else the first of its members' nodes that is there.
Result<NodeId> Plane::scrubs_at(const VolumeRecord& record, const AttachmentRecord* attachment) const {
  if (attachment != nullptr) return attachment->node;
  if (scrubs_.contains(record.id)) return options_.node;
  for (const MemberRecord& member : record.members) {
    if (is_online(member.node)) return member.node;
  }
  return make_error(ErrorCode::kUnavailable, "no node that has a replica of volume {} answers", record.name);
}

Task<Result<ScrubInfo>> Plane::scrub(const ScrubVolume& request) {
  const uint64_t rate = request.bytes_per_second;
  const bool only_look = request.only_look;
  Result<std::string> name = co_await name_of(request.name);
  HF_CO_TRY(name);
  Result<std::optional<View>> view = co_await load(name.value());
  HF_CO_TRY(view);
  if (!view.value()) co_return not_found(name.value());
  const AttachmentRecord* attachment = view.value()->attachment ? &view.value()->attachment->record : nullptr;
  const VolumeId volume = view.value()->volume->id;
  const Result<NodeId> where = scrubs_at(view.value()->volume.record, attachment);
  HF_CO_TRY(where);
  if (*where == options_.node) co_return co_await scrub_here(volume, rate, only_look);
  Result<ScrubInfo> told = co_await ports_.peers->node(*where).scrub(volume, rate, only_look);
  if (!told.ok()) co_return told.error().with_context("node " + node_name(*where));
  co_return std::move(told);
}

Task<Result<ScrubInfo>> Plane::scrub_here(VolumeId volume, uint64_t bytes_per_second, bool only_look) {
  Result<std::optional<KeptVolume>> kept = co_await catalog_.volume(volume);
  HF_CO_TRY(kept);
  if (!kept.value()) co_return make_error(ErrorCode::kNotFound, "there is no volume {}", volume.to_string());
  const VolumeRecord& record = kept.value()->record;
  if (!only_look && !scrubs_.contains(volume)) {
    const auto lost = lost_.find(volume);
    if (lost != lost_.end()) co_return Error(ErrorCode::kFailedPrecondition, lost->second);
    if (record.state != LifeState::kReady) {
      co_return make_error(ErrorCode::kFailedPrecondition, "volume {} is being made or deleted", record.name);
    }
    begin_scrub(record, bytes_per_second);
  }
  Result<std::optional<KeptScrub>> scrub = co_await catalog_.scrub(volume);
  HF_CO_TRY(scrub);
  co_return scrub_info(record, scrub.value() ? &scrub.value()->record : nullptr);
}

ScrubInfo Plane::scrub_info(const VolumeRecord& record, const ScrubRecord* scrub) const {
  ScrubInfo info;
  info.volume = record.name;
  info.size_bytes = record.size_bytes;
  if (scrub != nullptr) {
    info.begun = scrub->begun;
    info.so_far = scrub->so_far;
    info.ended = scrub->ended;
    info.last = scrub->last;
    info.message = scrub->message;
  }
  const auto job = scrubs_.find(record.id);
  if (job == scrubs_.end()) return info;
  info.running = true;
  info.begun = job->second->begun;
  info.so_far = job->second->so_far;
  info.message.clear();
  return info;
}

void Plane::begin_scrub(const VolumeRecord& record, uint64_t bytes_per_second) {
  std::shared_ptr<ScrubJob> job = std::make_shared<ScrubJob>();
  job->name = record.name;
  job->bytes_per_second = bytes_per_second;
  job->begun = now();
  job->saved = ports_.clock.now();
  scrubs_[record.id] = job;
  if (!spawn(scrubbing_, run_scrub(record.id, job))) scrubs_.erase(record.id);
}

Task<void> Plane::run_scrub(VolumeId volume, std::shared_ptr<ScrubJob> job) {
  HF_PROBE("cluster.scrub");
  Status done = co_await scrub_round(volume, job);
  if (done.ok()) {
    HF_LOG(kInfo, "cluster", "scrubbed volume={} compared={} mended={} undecided={} lost={}", job->name,
           job->so_far.compared_bytes, job->so_far.mended_bytes, job->so_far.undecided_bytes, job->so_far.lost_bytes);
  } else {
    HF_LOG(kInfo, "cluster", "scrub_cut_short volume={} at={} why=\"{}\"", job->name, job->so_far.done_to,
           done.error().to_string());
    scrub_rests_[volume] = ports_.clock.now() + kRestAfterError;
  }
  job->over = true;
  const bool ended = done.ok() || done.code() == ErrorCode::kCancelled || done.code() == ErrorCode::kClosed;
  const std::string why = ended ? std::string() : done.error().message();
  Status kept = co_await keep_scrub(volume, job, done.ok() ? ScrubStep::kWhole : ScrubStep::kCutShort, why);
  if (!kept.ok()) HF_LOG(kWarn, "cluster", "scrub_not_recorded volume={} why=\"{}\"", job->name, kept.error().to_string());
  scrubs_.erase(volume);
}

Task<Status> Plane::scrub_round(VolumeId volume, std::shared_ptr<ScrubJob> job) {
  Result<std::optional<KeptScrub>> before = co_await catalog_.scrub(volume);
  HF_CO_TRY(before);
  ScrubFindings earlier;
  if (before.value() && before.value()->record.begun.ns != 0) {
    HF_PROBE("cluster.scrub_goes_on");
    job->begun = before.value()->record.begun;
    earlier = job->so_far = before.value()->record.so_far;
  }
  Status recorded = co_await keep_scrub(volume, job, ScrubStep::kGoesOn, "");
  HF_CO_TRY(recorded);
  ScrubWork work;
  work.bytes_per_second = job->bytes_per_second;
  work.from = earlier.done_to;
  work.cancel = CancelToken(job->cancel);
  work.tell = [this, volume, job, earlier](const ScrubFindings& seen) {
    job->so_far = sum(earlier, seen);
    if (ports_.clock.now() - job->saved < kSaveEvery || job->saving) return;
    job->saving = true;
    (void)spawn(scrubbing_, save_scrub(volume, job));
  };
  MemberRecord member;
  bool replicated = false;
  {
    // Not for as long as it takes: only until it is served.
    Section section;
    Result<std::optional<View>> view = co_await enter_by_id(volume, &section);
    HF_CO_TRY(view);
    if (!view.value()) co_return Error(ErrorCode::kNotFound, "it was deleted meanwhile");
    if (is_elsewhere(*view.value())) co_return Error(ErrorCode::kConflict, "another node has it now");
    replicated = view.value()->volume->replicated;
    if (replicated) {
      Status served = co_await care_for(*view.value());
      HF_CO_TRY(served);
    } else {
      const Result<MemberRecord> local = local_member(view.value()->volume.record);
      HF_CO_TRY(local);
      member = *local;
    }
  }
  if (replicated) co_return co_await ports_.volumes->scrub(volume, std::move(work));
  co_return co_await ports_.host.verify_replica(member.pool, member.replica, std::move(work));
}

Task<void> Plane::save_scrub(VolumeId volume, std::shared_ptr<ScrubJob> job) {
  Status kept = co_await keep_scrub(volume, job, ScrubStep::kGoesOn, "");
  if (kept.ok()) HF_PROBE("cluster.scrub_saved");
  job->saved = ports_.clock.now();
  job->saving = false;
}

// Of a volume that is there, and is not being deleted: its record goes with it.
Task<Status> Plane::keep_scrub(VolumeId volume, std::shared_ptr<ScrubJob> job, ScrubStep step, std::string message) {
  Status kept;
  for (int i = 0; i < kKeepTries; ++i) {
    Result<std::optional<KeptVolume>> owner = co_await catalog_.volume(volume);
    HF_CO_TRY(owner);
    if (!owner.value() || owner.value()->record.state != LifeState::kReady) co_return Status();
    Result<std::optional<KeptScrub>> there = co_await catalog_.scrub(volume);
    HF_CO_TRY(there);
    if (step == ScrubStep::kGoesOn && job->over) co_return Status();
    KeptScrub scrub;
    if (there.value()) scrub = std::move(*there.value());
    scrub->volume = volume;
    scrub->message = message;
    if (step == ScrubStep::kWhole) {
      scrub->ended = now();
      scrub->last = job->so_far;
      scrub->begun = WallTime();
      scrub->so_far = ScrubFindings();
    } else {
      scrub->begun = job->begun;
      scrub->so_far = job->so_far;
    }
    Batch batch(catalog_);
    batch.put(scrub);
    batch.require(*owner.value());
    kept = co_await catalog_.commit(std::move(batch));
    if (kept.code() != ErrorCode::kConflict) co_return kept;
  }
  co_return kept;
}

// The one that is most overdue of those that this node is responsible for; one at a time.
Task<void> Plane::scrub_what_is_due() {
  if (options_.scrub_every <= Duration::zero() || !scrubs_.empty()) co_return;
  if (ports_.clock.now() < next_scrub_look_) co_return;
  next_scrub_look_ = ports_.clock.now() + kLookEvery;
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  if (!volumes.ok()) co_return;
  Result<std::vector<KeptAttachment>> attachments = co_await catalog_.attachments();
  if (!attachments.ok()) co_return;
  Result<std::vector<KeptScrub>> scrubs = co_await catalog_.scrubs();
  if (!scrubs.ok()) co_return;
  std::map<VolumeId, const AttachmentRecord*> attached;
  for (const KeptAttachment& attachment : attachments.value()) attached[attachment->volume] = &attachment.record;
  std::map<VolumeId, const ScrubRecord*> known;
  for (const KeptScrub& scrub : scrubs.value()) known[scrub->volume] = &scrub.record;
  const VolumeRecord* next = nullptr;
  WallTime since = now();
  for (const KeptVolume& volume : volumes.value()) {
    const VolumeId id = volume->id;
    if (volume->state != LifeState::kReady || lost_.contains(id)) continue;
    const auto attachment = attached.find(id);
    const Result<NodeId> where = scrubs_at(volume.record, attachment == attached.end() ? nullptr : attachment->second);
    if (!where.ok() || *where != options_.node) continue;
    const auto rests = scrub_rests_.find(id);
    if (rests != scrub_rests_.end() && ports_.clock.now() < rests->second) continue;
    scrub_rests_.erase(id);
    const auto scrub = known.find(id);
    const WallTime due = scrub_due(volume.record, scrub == known.end() ? nullptr : scrub->second, options_.scrub_every);
    if (due.ns > since.ns) continue;
    since = due;
    next = &volume.record;
  }
  if (next == nullptr || !scrubs_.empty()) co_return;
  HF_PROBE("cluster.scrub_due");
  begin_scrub(*next, options_.scrub_rate);
}

Task<void> Plane::stop_scrubs() {
  for (const auto& [volume, job] : scrubs_) job->cancel.cancel();
  co_await scrubbing_.close();
}

void Plane::tell_scrubs(const std::vector<KeptVolume>& volumes, const std::vector<KeptScrub>& scrubs,
                        std::vector<std::string>* problems) const {
  std::map<VolumeId, const ScrubFindings*> found;
  std::map<VolumeId, WallTime> when;
  for (const KeptScrub& scrub : scrubs) {
    const bool bad_now = scrub->so_far.undecided_bytes + scrub->so_far.lost_bytes > 0;
    const ScrubFindings& seen = bad_now ? scrub->so_far : scrub->last;
    if (seen.undecided_bytes + seen.lost_bytes == 0) continue;
    found[scrub->volume] = &seen;
    when[scrub->volume] = bad_now ? scrub->begun : scrub->ended;
  }
  for (const KeptVolume& volume : volumes) {
    const auto seen = found.find(volume->id);
    if (seen == found.end()) continue;
    std::string what;
    if (seen->second->lost_bytes > 0) {
      what = format_size(seen->second->lost_bytes) + " that no replica has undamaged: reads of them fail until they are written anew";
    }
    if (seen->second->undecided_bytes > 0) {
      what += fmt::format("{}{} in which its replicas differ without a majority", what.empty() ? "" : ", and ",
                          format_size(seen->second->undecided_bytes));
    }
    problems->push_back(fmt::format("volume {}: its scrub of {} found {}; restore it from a snapshot or backup, or scrub it again "
                                    "once that is mended (holdfast volume scrub {})",
                                    volume->name, format_utc(when[volume->id].ns / 1'000'000'000), what, volume->name));
  }
}

}  // namespace hf::cluster
