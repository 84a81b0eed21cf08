#include <algorithm>

#include "base/log.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

std::string_view shown(ExportKind kind) {
  switch (kind) {
    case ExportKind::kNone:
      return "none";
    case ExportKind::kUblk:
      return "ublk";
    case ExportKind::kNbd:
      return "nbd";
    case ExportKind::kFuseLoop:
      return "fuse";
    case ExportKind::kNbdServer:
      return "nbd-server";
  }
  HF_UNREACHABLE("kind {}", static_cast<int>(kind));
}

// Its blocks carry, or may carry, the file system of another volume: it is a clone, or restored from a snapshot of the
// time before its first attach.
bool inherits_identity(const VolumeRecord& record) {
  const bool carries = record.fs.formatted || record.fs.formatting;
  return carries && record.fs.uuid != record.id.to_string();
}

}  // namespace

Task<Result<VolumeInfo>> Plane::attach(const AttachVolume& request) {
  Result<std::string> name = co_await name_of(request.name);
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> view = co_await load_usable(name.value());
  HF_CO_TRY(view);
  if (request.force && is_elsewhere(view.value())) {
    Status taken = co_await take_from_other(view.value(), true);
    HF_CO_TRY(taken);
  }
  Status served = co_await serve(view.value(), request.kind);
  HF_CO_TRY(served);
  Status forgotten = co_await forget_half_made(view.value());
  HF_CO_TRY(forgotten);
  if (request.stays && !view->attachment->record.pinned) {
    view->attachment->record.pinned = true;
    Status recorded = co_await put(*view->attachment);
    HF_CO_TRY(recorded);
  }
  co_return co_await info(view.value());
}

// The device is in this kernel and served by this process afterwards. Fresh, or taken over from an
// earlier incarnation: the same path, under a new epoch each time. Refused or failed when fresh:
// taken back.
Task<Status> Plane::serve(View& view, ExportKind kind) {
  VolumeRecord& record = view.volume.record;
  if (is_elsewhere(view)) {
    Status taken = co_await take_from_other(view, false);
    HF_CO_TRY(taken);
  }
  const bool taken_over = view.attachment && view.attachment->record.epoch == 0;
  if (const auto old = served_.find(record.id);
      record.replicated && old != served_.end() && !lost_.contains(record.id) &&
      (old->second.given_up || !view.attachment || taken_over)) {
    // Its device of the time before another node had it.
    Result<std::string> kept = co_await expel(record, nullptr);
    HF_CO_TRY(kept);
    if (!kept->empty()) {
      co_return make_error(ErrorCode::kInUse,
                           "volume {} was taken over by another node while it was in use here, and {}; end that first",
                           record.name, kept.value());
    }
  }
  const bool in_kernel = served_.contains(record.id);
  if (view.attachment && view.attachment->record.attached && in_kernel) {
    if (kind != ExportKind::kNone && kind != view.attachment->record.kind) {
      co_return make_error(ErrorCode::kInUse,
                           "volume {} is attached by {} already; detach it first", record.name,
                           shown(view.attachment->record.kind));
    }
    co_return Status();
  }
  if (!record.replicated) {
    const Status reachable = check_pools_open(record);
    HF_CO_TRY(reachable);
  }
  const bool fresh = !view.attachment.has_value() || taken_over;
  // An earlier attempt of this process may have got as far as the kernel: then only the record is
  // missing.
  if (fresh || !in_kernel) {
    Status begun = co_await begin_serving(view);
    HF_CO_TRY(begun);
  }
  Status up = co_await bring_up(view, kind);
  if (!up.ok()) {
    if (fresh && is_refusal(up.code())) {
      HF_PROBE("cluster.attach_undone");
      Result<std::string> undone = co_await release(view);
      if (!undone.ok()) HF_LOG(kWarn, "cluster", "attach_not_undone volume={}", record.name);
    }
    co_return up.error().with_context("attach volume " + record.name);
  }
  view.untouched = fresh && !in_kernel;
  view.attachment->record.attached = true;
  record.phase = VolumePhase::kActive;
  if (inherits_identity(record)) record.fs.uuid = record.id.to_string();
  Batch batch(catalog_);
  batch.put(view.volume).put(*view.attachment);
  co_return co_await catalog_.commit(std::move(batch));
}

// The intent: a new epoch by compare-and-set, and the attachment, of which there is one key per
// volume.
Task<Status> Plane::begin_serving(View& view) {
  VolumeRecord& record = view.volume.record;
  if (!view.attachment) {
    view.attachment.emplace();
    view.attachment->record = own_attachment(record.id);
  }
  if (!record.replicated && ports_.volumes != nullptr) {
    // Made while this node was alone. Whoever served it has ended, and its epoch is below the next.
    HF_PROBE("cluster.joined_replication");
    Status configured = co_await configure(record);
    HF_CO_TRY(configured);
    record.replicated = true;
  }
  if (!mutant(ControlMutant::kEpochNotBumped) || record.epoch == 0) record.epoch += 1;
  record.phase = VolumePhase::kRecovering;
  record.coordinator = options_.node;
  record.coordinator_instance = instance_;
  view.attachment->record.epoch = record.epoch;
  view.attachment->record.attached = false;
  Batch batch(catalog_);
  batch.put(view.volume).put(*view.attachment);
  if (!view.taken_from.is_nil()) {
    const std::string left = Catalog::left_key(view.taken_from) + record.id.to_string();
    Result<std::optional<KeptName>> noted = co_await catalog_.name(left);
    HF_CO_TRY(noted);
    batch.leave_behind(left, noted.value(), record.name);
  }
  co_return co_await catalog_.commit(std::move(batch));
}

Task<Status> Plane::bring_up(View& view, ExportKind kind) {
  const VolumeRecord& record = view.volume.record;
  AttachmentRecord& attachment = view.attachment->record;
  const auto found = served_.find(record.id);
  if (found != served_.end() && attachment.device.empty()) {
    // In the kernel, but its name was lost with a write that failed: ask again, attach is
    // idempotent.
    HF_PROBE("cluster.attach_name_asked_again");
  } else if (found != served_.end()) {
    co_return Status();
  }
  std::vector<ExportKind> offered = ports_.exporter.offered();
  if (kind == ExportKind::kNone) kind = attachment.kind;
  if (kind == ExportKind::kNone) kind = options_.preferred_export;
  // One that is no kernel device must be asked for.
  const bool best = !offered.empty() && offered.front() != ExportKind::kNbdServer;
  if (kind == ExportKind::kNone && best) kind = offered.front();
  if (std::find(offered.begin(), offered.end(), kind) == offered.end()) {
    co_return make_error(
        ErrorCode::kMissingFeature,
        "this kernel offers no block device of kind {}; holdfast node list shows what it offers",
        shown(kind));
  }
  std::shared_ptr<BlockDevice> device;
  if (found != served_.end()) {
    device = found->second.device;
  } else {
    Result<std::shared_ptr<BlockDevice>> opened = co_await open_device(record, attachment.epoch, view.away);
    HF_CO_TRY(opened);
    device = std::move(opened).value();
  }
  Result<ExportInfo> exported = co_await export_own(record, kind, device);
  if (!exported.ok()) {
    Status closed = co_await close_device(record);
    if (!closed.ok()) HF_LOG(kWarn, "cluster", "close_failed volume={}", record.name);
    served_.erase(record.id);
    co_return exported.error();
  }
  HF_LOG(kInfo, "cluster", "exported volume={} device={}", record.name, exported->device);
  Served& served = served_[record.id];
  served.device = std::move(device);
  served.epoch = attachment.epoch;
  served.path = exported->device;
  served.given_up = false;
  attachment.kind = exported->kind;
  attachment.device = exported->device;
  co_return Status();
}

// Into the kernel, under the volume's own identity. It is recorded with the attachment, so that this is done once per
// clone; done again after a crash in between, it changes nothing.
Task<Result<ExportInfo>> Plane::export_own(const VolumeRecord& record, ExportKind kind,
                                           const std::shared_ptr<BlockDevice>& device) {
  if (inherits_identity(record) && !mutant(ControlMutant::kCloneKeepsUuid)) {
    HF_PROBE("cluster.identity_given");
    Status own = co_await ports_.mounter.identify(device, filesystem_spec(record));
    HF_CO_TRY(own);
  }
  co_return co_await ports_.exporter.attach(record.id, kind, device);
}

// Of an earlier boot: the kernel that had the device is gone, and with it its mounts and their
// users.
Task<Status> Plane::forget_dead_attachment(View& view) {
  HF_PROBE("cluster.dead_attachment");
  Status detached = co_await ports_.exporter.detach(view.volume->id);
  HF_CO_TRY(detached);
  view.volume->phase = VolumePhase::kDetached;
  Batch batch(catalog_);
  batch.put(view.volume).remove(*view.attachment);
  Status recorded = co_await catalog_.commit(std::move(batch));
  HF_CO_TRY(recorded);
  view.attachment.reset();
  co_return Status();
}

}  // namespace hf::cluster
