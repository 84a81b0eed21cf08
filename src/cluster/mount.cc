#include <algorithm>

#include "base/log.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

Status check_request(const MountVolume& request) {
  if (request.holder.empty() || request.holder.size() > 512) {
    return Error(ErrorCode::kInvalidArgument, "mount: a holder of 1 to 512 bytes is needed");
  }
  if (request.target_path.empty() && request.read_only) {
    return Error(ErrorCode::kInvalidArgument,
                 "mount: read-only needs a target path of its own; the primary mount is shared");
  }
  return {};
}

}  // namespace

Task<Result<MountInfo>> Plane::mount(const MountVolume& asked) {
  const Status sound = check_request(asked);
  HF_CO_TRY(sound);
  MountVolume request = asked;
  if (!request.target_path.empty()) {
    Result<std::string> place = co_await place_of(asked.target_path);
    if (!place.ok()) co_return place.error().with_context("mount volume " + asked.name);
    request.target_path = place.value();
    if (asked.holder == kPathHolder + asked.target_path) request.holder = kPathHolder + place.value();
  }
  const std::string& target = request.target_path;
  if (target == options_.mount_root || target.starts_with(options_.mount_root + "/")) {
    co_return make_error(ErrorCode::kInvalidArgument, "mount: {} is below {}, which holdfast manages itself", target,
                         options_.mount_root);
  }
  Result<std::string> name = co_await name_of(request.name);
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> loaded = co_await load_usable(name.value());
  HF_CO_TRY(loaded);
  View view = std::move(loaded).value();
  if (view.volume->spec.fs == spec::FsType::kNone) {
    co_return make_error(
        ErrorCode::kFailedPrecondition,
        "volume {} has no file system (fs=none): attach it and use its block device",
        view.volume->name);
  }
  Status served = co_await serve(view, ExportKind::kNone);
  HF_CO_TRY(served);
  if (view.attachment->record.kind == ExportKind::kNbdServer) {
    co_return make_error(ErrorCode::kInUse,
                         "volume {} is attached for NBD clients ({}) and cannot be mounted here "
                         "meanwhile; end them, or detach it",
                         view.volume->name, view.attachment->record.device);
  }
  bool unrecorded = false;
  Status primary = co_await ensure_primary(view, &unrecorded);
  if (primary.ok()) {
    Result<MountInfo> added = co_await add_holder(view, request, unrecorded);
    if (!added.ok() && is_refusal(added.code())) co_await undo_mount(view);
    co_return std::move(added);
  }
  if (is_refusal(primary.code())) co_await undo_mount(view);
  co_return primary.error().with_context("mount volume " + name.value());
}

// A first mount that was refused leaves nothing behind.
Task<void> Plane::undo_mount(View& view) {
  if (!view.attachment || !view.attachment->record.holders.empty()) co_return;
  if (view.attachment->record.pinned && view.attachment->record.mounted) co_return;
  Status undone;
  if (view.attachment->record.pinned) {
    undone = co_await ports_.mounter.unmount(primary_path(view.volume.record));
  } else {
    Result<std::string> released = co_await release(view);
    if (!released.ok()) undone = released.error();
  }
  if (!undone.ok()) {
    HF_LOG(kWarn, "cluster", "mount_not_undone volume={} why={}", view.volume->name,
           undone.error().to_string());
  }
}

FilesystemSpec Plane::filesystem_spec(const VolumeRecord& volume) const {
  FilesystemSpec fs;
  fs.fs = volume.spec.fs;
  fs.block_size = volume.spec.block_size_bytes;
  fs.journal_data = volume.spec.journal;
  fs.discard = !volume.spec.nodiscard;
  for (const auto& [option, value] : volume.spec.mount_options) {
    fs.mount_options.push_back(value.empty() ? option : option + "=" + value);
  }
  fs.uuid = volume.id.to_string();
  fs.label = "hf-" + fs.uuid.substr(0, 8);
  return fs;
}

// The primary mount is there afterwards, on a file system of the volume's whole size.
Task<Status> Plane::ensure_primary(View& view, bool* unrecorded) {
  VolumeRecord& record = view.volume.record;
  AttachmentRecord& attachment = view.attachment->record;
  const std::string path = primary_path(record);
  Result<std::vector<std::string>> mounts = co_await ports_.mounter.mounts_of(attachment.device);
  HF_CO_TRY(mounts);
  const bool there = contains(mounts.value(), path);
  if (there && attachment.mounted && record.fs.bytes >= record.size_bytes) co_return Status();
  const FilesystemSpec fs = filesystem_spec(record);
  if (!there) {
    Result<bool> used = co_await ports_.mounter.in_use(attachment.device);
    HF_CO_TRY(used);
    if (!used.value()) {
      Status made = co_await make_file_system(view);
      HF_CO_TRY(made);
    }
    // What an earlier kernel device left there, dead.
    Status cleared = co_await ports_.mounter.unmount(path);
    HF_CO_TRY(cleared);
    Status mounted = co_await ports_.mounter.mount(attachment.device, path, fs);
    HF_CO_TRY(mounted);
    HF_LOG(kInfo, "cluster", "mounted volume={} path={}", record.name, path);
  }
  bool grew = false;
  if (record.fs.bytes < record.size_bytes) {
    Status follows = co_await follow_size(view, record.size_bytes);
    // Somebody who has it already goes on with what there is; nobody is newly given less than was promised.
    if (!follows.ok() && (!there || !is_refusal(follows.code()))) co_return follows;
    grew = record.fs.bytes == record.size_bytes;
  }
  attachment.mounted = true;
  if (unrecorded != nullptr && !grew) {
    *unrecorded = true;
    co_return Status();
  }
  Batch batch(catalog_);
  if (grew) batch.put(view.volume);
  batch.put(*view.attachment);
  co_return co_await catalog_.commit(std::move(batch));
}

// mkfs ends at most once in a volume's life, and never goes over what somebody else may have written: the device reads as
// empty, or is made so where a recorded mkfs of ours, cut short, has written to it and nobody else has had it since. Its
// end is recorded before anything is mounted.
Task<Status> Plane::make_file_system(View& view) {
  VolumeRecord& record = view.volume.record;
  FilesystemSpec fs = filesystem_spec(record);
  fs.may_format = !record.fs.formatted;
  // What an mkfs left that was cut short is no data of anybody.
  Status forgotten = co_await forget_half_made(view);
  HF_CO_TRY(forgotten);
  if (fs.may_format) {
    Status blank = co_await check_blank(view);
    HF_CO_TRY(blank);
    // Who attached it for himself may write to it at any time: of that device an mkfs that is cut short is not begun
    // again.
    record.fs.formatting = !view.attachment->record.pinned;
    if (record.fs.formatting && !mutant(ControlMutant::kFormatNotIntended)) {
      Status intended = co_await put(view.volume);
      HF_CO_TRY(intended);
    }
  }
  if (view.untouched && record.fs.formatted) {
    HF_PROBE("cluster.fs_read_before_mount");
    Result<bool> sound = co_await ports_.mounter.reads_sound(served_.at(record.id).device, fs.fs);
    HF_CO_TRY(sound);
    if (sound.value()) co_return Status();
  }
  Status prepared = co_await ports_.mounter.prepare(view.attachment->record.device, fs);
  HF_CO_TRY(prepared);
  if (record.fs.formatted) co_return Status();
  // fs.bytes stays: a volume that has grown since it was made may carry a file system of the older
  // size.
  record.fs.formatted = true;
  record.fs.formatting = false;
  record.fs.uuid = fs.uuid;
  if (mutant(ControlMutant::kFormatNotRecorded)) co_return Status();
  co_return co_await put(view.volume);
}

// kNotEmpty when anything was ever written to a volume that Holdfast has not formatted. What was never written to carries
// nothing; only what somebody has attached for himself may have data on their way through the kernel, and is asked for.
Task<Status> Plane::check_blank(View& view) {
  const std::string device = view.attachment->record.device;
  BlockDevice& served = *served_.at(view.volume->id).device;
  Result<uint64_t> written = co_await first_written(served, 0);
  HF_CO_TRY(written);
  if (*written == served.size() && !view.attachment->record.pinned) co_return Status();
  Result<std::string> known = co_await ports_.mounter.contents(device);
  HF_CO_TRY(known);
  written = co_await first_written(served, 0);
  HF_CO_TRY(written);
  if (known->empty() && *written == served.size()) co_return Status();
  if (mutant(ControlMutant::kFormatWithoutLooking)) co_return Status();
  HF_PROBE("cluster.not_formatted_over");
  const std::string what =
      known->empty() ? fmt::format("data that Holdfast did not write (from byte {} on)", *written) : known.value();
  co_return make_error(
      ErrorCode::kNotEmpty,
      "{} carries {} and was never formatted by Holdfast: it is not formatted over. To keep it, attach the volume "
      "(holdfast volume attach {}) and copy it from {}; to throw it away, attach it, run blkdiscard on the device, detach "
      "it, and mount again",
      device, what, view.volume->name, device);
}

// The first byte from `from` on that may have been written; the size where there is none.
Task<Result<uint64_t>> Plane::first_written(BlockDevice& device, uint64_t from) {
  constexpr size_t kExtents = 64;
  for (uint64_t at = from; at < device.size();) {
    Result<std::vector<BlockExtent>> extents = co_await device.extents(at, device.size() - at, kExtents);
    HF_CO_TRY(extents);
    HF_ASSERT(!extents->empty(), "no extents at {} of {}", at, device.size());
    for (const BlockExtent& extent : extents.value()) {
      if (!extent.reads_zero) co_return extent.offset;
      at = extent.offset + extent.length;
    }
  }
  co_return device.size();
}

// Of an mkfs that was cut short nothing stays, before somebody else has the device: what he finds there is his.
Task<Status> Plane::forget_half_made(View& view) {
  if (!view.volume->fs.formatting || mutant(ControlMutant::kHalfMadeHandedOut)) co_return Status();
  // An mkfs that has outlived a killed daemon may still be writing: who looks waits for the device's lock.
  Result<std::string> settled = co_await ports_.mounter.contents(view.attachment->record.device);
  HF_CO_TRY(settled);
  HF_PROBE("cluster.half_made_forgotten");
  BlockDevice& device = *served_.at(view.volume->id).device;
  Result<uint64_t> at = co_await first_written(device, 0);
  HF_CO_TRY(at);
  while (at.value() < device.size()) {
    const uint64_t length = std::min(kMaxBlockIoBytes, device.size() - at.value());
    Status discarded = co_await device.discard(at.value(), length);
    HF_CO_TRY(discarded);
    at = co_await first_written(device, at.value() + length);
    HF_CO_TRY(at);
  }
  view.volume->fs.formatting = false;
  co_return co_await put(view.volume);
}

Task<Result<MountInfo>> Plane::add_holder(View& view, const MountVolume& request, bool unrecorded) {
  AttachmentRecord& attachment = view.attachment->record;
  MountInfo result;
  result.holder = request.holder;
  result.path =
      request.target_path.empty() ? primary_path(view.volume.record) : request.target_path;
  auto found = std::find_if(
      attachment.holders.begin(), attachment.holders.end(),
      [&](const auto& h) { return h.holder == request.holder && h.target == request.target_path; });
  if (found == attachment.holders.end()) {
    if (attachment.holders.size() >= kMaxHolders) {
      co_return make_error(ErrorCode::kLimitExceeded,
                           "volume {} is mounted {} times, the most there can be",
                           view.volume->name, kMaxHolders);
    }
    HolderRecord holder;
    holder.holder = request.holder;
    holder.target = request.target_path;
    holder.count = 0;
    attachment.holders.push_back(holder);
    found = std::prev(attachment.holders.end());
  } else if (found->read_only != request.read_only && found->state == HolderState::kHeld) {
    co_return make_error(ErrorCode::kAlreadyExists, "volume {} is mounted at {} {} already",
                         view.volume->name, result.path,
                         found->read_only ? "read-only" : "read-write");
  }
  const size_t index = static_cast<size_t>(found - attachment.holders.begin());
  const bool repeat = found->count > 0 && !is_docker(request.holder);
  found->read_only = request.read_only;
  found->since = now();
  found->count = is_docker(request.holder) ? found->count + 1 : 1;
  if (request.target_path.empty()) {
    found->state = HolderState::kHeld;
    Status recorded = co_await put(*view.attachment);
    HF_CO_TRY(recorded);
    co_return std::move(result);
  }
  // A place of its own: the intent first, so that a crash leaves no bind that nobody knows.
  if (!repeat || found->state != HolderState::kHeld) {
    found->state = HolderState::kArriving;
    if (!mutant(ControlMutant::kBindNotIntended)) {
      Status intended = co_await put(*view.attachment);
      HF_CO_TRY(intended);
    }
  }
  Status bound = co_await ports_.mounter.bind(primary_path(view.volume.record), request.target_path,
                                              request.read_only);
  if (!bound.ok()) {
    // One that was held before keeps its place; a new one is taken back, with what is there of it.
    if (is_refusal(bound.code()) && attachment.holders[index].state != HolderState::kHeld) {
      Status dropped = co_await drop_holder(view, index);
      if (!dropped.ok()) HF_LOG(kWarn, "cluster", "bind_not_undone target={}", request.target_path);
    }
    co_return bound.error().with_context("mount volume " + view.volume->name);
  }
  if (attachment.holders[index].state != HolderState::kHeld || unrecorded) {
    attachment.holders[index].state = HolderState::kHeld;
    Status recorded = co_await put(*view.attachment);
    HF_CO_TRY(recorded);
  }
  co_return std::move(result);
}

}  // namespace hf::cluster
