#include <algorithm>

#include "base/log.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

bool is_meant(const HolderRecord& holder, const UnmountVolume& request) {
  if (!request.holder.empty() && holder.holder != request.holder) return false;
  return request.target_path.empty() || holder.target == request.target_path;
}

}  // namespace

Task<Status> Plane::unmount(const UnmountVolume& asked) {
  if (asked.holder.empty() && asked.target_path.empty()) {
    co_return Error(ErrorCode::kInvalidArgument, "unmount: whose mount, or which path?");
  }
  UnmountVolume request = asked;
  if (!request.target_path.empty()) {
    Result<std::string> place = co_await place_of(asked.target_path);
    // The way there may be gone by now: then only its own name can be meant.
    if (place.code() == ErrorCode::kNotFound) place = plain_path(asked.target_path);
    HF_CO_TRY(place);
    request.target_path = place.value();
    if (asked.holder == kPathHolder + asked.target_path) request.holder = kPathHolder + place.value();
  }
  Result<std::string> name = co_await name_of(request.name);
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> loaded = co_await load_settled(name.value());
  // Clients repeat unmounts, also of volumes that are gone.
  if (loaded.code() == ErrorCode::kNotFound) co_return Status();
  HF_CO_TRY(loaded);
  View view = std::move(loaded).value();
  if (!view.attachment) co_return Status();
  if (is_elsewhere(view)) {
    // Another node has taken it over, and its holders are none of ours: what is left here of our own goes.
    HF_PROBE("cluster.unmount_after_takeover");
    Result<std::string> kept = co_await expel(view.volume.record, nullptr);
    HF_CO_TRY(kept);
    co_return Status();
  }
  Result<bool> only_recorded = co_await others_wait_for_lost(view, request);
  HF_CO_TRY(only_recorded);
  if (!only_recorded.value()) {
    Status served = co_await serve_to_let_go(view);
    HF_CO_TRY(served);
  }
  for (size_t i = view.attachment->record.holders.size(); i-- > 0;) {
    HolderRecord& holder = view.attachment->record.holders[i];
    if (!is_meant(holder, request)) continue;
    if (holder.count > 1) {
      HF_PROBE("cluster.counted_down");
      holder.count -= 1;
      Status recorded = co_await put(*view.attachment);
      HF_CO_TRY(recorded);
      continue;
    }
    Status dropped = co_await drop_holder(view, i);
    HF_CO_TRY(dropped);
  }
  if (!view.attachment->record.holders.empty() || only_recorded.value()) co_return Status();
  if (!request.detach_when_last) co_return co_await unmount_only(view);
  if (view.attachment->record.pinned) co_return Status();
  Result<std::string> why = co_await release(view);
  HF_CO_TRY(why);
  // The holder has left, somebody else has not (a container whose mount was counted before an
  // engine's restart): its files stay, and the reconciler takes the device away once nobody uses
  // it.
  if (!why->empty()) {
    HF_PROBE("cluster.lingering");
    HF_LOG(kInfo, "cluster", "lingering volume={} why={}", view.volume->name, why.value());
  }
  co_return Status();
}

// True for an unmount of a lost volume that somebody else still has mounted, and which needs
// nothing of the kernel: the others' I/O is not ended by it.
Task<Result<bool>> Plane::others_wait_for_lost(const View& view, const UnmountVolume& request) {
  if (!waits_for_lost(view)) co_return false;
  bool others = false;
  for (const HolderRecord& holder : view.attachment->record.holders) {
    const bool meant = is_meant(holder, request);
    if (meant && !holder.target.empty()) co_return false;
    others = others || !meant || holder.count > 1;
  }
  if (others) co_return true;
  const std::string& device = view.attachment->record.device;
  if (device.empty()) co_return false;
  co_return co_await ports_.mounter.mounted_elsewhere(device, primary_path(view.volume.record));
}

// The device stays. Until the primary mount is gone the record says that it is there: what a failure or a
// crash leaves is a volume that is mounted, as it is said to be, and can be asked again.
Task<Status> Plane::unmount_only(View& view) {
  AttachmentRecord& attachment = view.attachment->record;
  if (!attachment.pinned) {
    attachment.pinned = true;
    Status intended = co_await put(*view.attachment);
    HF_CO_TRY(intended);
  }
  Status down = co_await ports_.mounter.unmount(primary_path(view.volume.record));
  if (!down.ok() || !attachment.mounted) co_return down;
  attachment.mounted = false;
  co_return co_await put(*view.attachment);
}

// Takes one holder out, its own place first.
Task<Status> Plane::drop_holder(View& view, size_t index) {
  std::vector<HolderRecord>& holders = view.attachment->record.holders;
  bool ours = !holders[index].target.empty();
  if (ours && holders[index].state == HolderState::kArriving) {
    // It may never have come: what is mounted there then is somebody else's and stays.
    Result<std::vector<std::string>> mounts =
        co_await ports_.mounter.mounts_of(view.attachment->record.device);
    HF_CO_TRY(mounts);
    ours = std::find(mounts->begin(), mounts->end(), holders[index].target) != mounts->end();
    if (!ours) HF_PROBE("cluster.never_arrived");
  }
  if (ours) {
    holders[index].state = HolderState::kLeaving;
    Status intended = co_await put(*view.attachment);
    HF_CO_TRY(intended);
    Status unbound = co_await ports_.mounter.unmount(holders[index].target);
    if (!unbound.ok()) {
      if (is_refusal(unbound.code())) {
        holders[index].state = HolderState::kHeld;
        Status back = co_await put(*view.attachment);
        HF_CO_TRY(back);
      }
      co_return unbound.error().with_context("unmount volume " + view.volume->name);
    }
  }
  holders.erase(holders.begin() + static_cast<ptrdiff_t>(index));
  co_return co_await put(*view.attachment);
}

// What a crash left between intent and answer: nobody was told that it was mounted, or somebody
// asked for it to go.
Task<Status> Plane::finish_holders(View& view) {
  for (size_t i = view.attachment->record.holders.size(); i-- > 0;) {
    if (view.attachment->record.holders[i].state == HolderState::kHeld) continue;
    Status dropped = co_await drop_holder(view, i);
    HF_CO_TRY(dropped);
  }
  co_return Status();
}

}  // namespace hf::cluster
