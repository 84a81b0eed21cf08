#include <algorithm>

#include "base/log.h"
#include "cluster/mutants.h"
#include "cluster/plane.h"
#include "runtime/fault_point.h"

namespace hf::cluster {
namespace {

std::string whose(const HolderRecord& holder) {
  if (holder.holder == kPathHolder + holder.target) return "at " + holder.target;
  return "for " + holder.holder + (holder.target.empty() ? "" : " at " + holder.target);
}

}  // namespace

Task<Status> Plane::detach(std::string text) {
  Result<std::string> name = co_await name_of(std::move(text));
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> view = co_await load_settled(name.value());
  HF_CO_TRY(view);
  if (!view->attachment) co_return Status();
  if (is_elsewhere(view.value()) && ports_.peers != nullptr) {
    const std::string where = "node " + node_name(view->attachment->record.node);
    Status done = co_await ports_.peers->node(view->attachment->record.node).detach(view->volume->id);
    if (!done.ok()) co_return done.error().with_context(where);
    co_return Status();
  }
  co_return co_await release_if_unused(view.value(), options_.docker_grace);
}

// Who is there for certain. Of a holder with a place of its own, the kernel says whether it still
// is. A docker holder has none in our sight: it counts while it is younger than `docker_grace`,
// afterwards what counts is whether the device is in use. Any other holder of the primary mount
// leaves by unmount only.
Task<Result<std::vector<HolderRecord>>> Plane::live_holders(const View& view,
                                                            Duration docker_grace) {
  std::vector<HolderRecord> live;
  const AttachmentRecord& attachment = view.attachment->record;
  Result<std::vector<std::string>> mounts = co_await ports_.mounter.mounts_of(attachment.device);
  HF_CO_TRY(mounts);
  for (const HolderRecord& holder : attachment.holders) {
    bool there = true;
    if (!holder.target.empty()) {
      there = std::find(mounts->begin(), mounts->end(), holder.target) != mounts->end();
    } else if (is_docker(holder.holder)) {
      there = now().ns - holder.since.ns < docker_grace.count() &&
              !mutant(ControlMutant::kGraceIgnored);
    }
    if (there) live.push_back(holder);
  }
  co_return std::move(live);
}

Task<Status> Plane::release_if_unused(View& view, Duration docker_grace) {
  const std::string volume = view.volume->name;
  if (!waits_for_lost(view)) {
    Status served = co_await serve(view, ExportKind::kNone);
    HF_CO_TRY(served);
  }
  Result<std::vector<HolderRecord>> live = co_await live_holders(view, docker_grace);
  HF_CO_TRY(live);
  if (!live->empty()) {
    const std::string more = live->size() > 1 ? fmt::format(", and {} times more", live->size() - 1) : "";
    co_return make_error(ErrorCode::kInUse, "volume {} is mounted {}{}; unmount it first", volume,
                         whose(live->front()), more);
  }
  if (!view.attachment->record.holders.empty()) HF_PROBE("cluster.stale_holders_only");
  // From here on it is asked to go: what is lost is given up.
  Status given_up = co_await serve_to_let_go(view);
  HF_CO_TRY(given_up);
  Result<std::string> why = co_await release(view);
  HF_CO_TRY(why);
  if (!why->empty()) {
    const bool lost = view.attachment && is_without_data(view);
    co_return make_error(
        ErrorCode::kInUse, "volume {} is in use: {}{}", volume, why.value(),
        lost ? "; it is lost, and its I/O fails now, so that its users can end" : "");
  }
  co_return Status();
}

// Takes the device out of the kernel unless something uses it. Only the kernel knows that, and it
// tells once our own mount is out of the way: unmount, look, and mount again where somebody else
// still has it.
Task<Result<std::string>> Plane::release(View& view) {
  bool unmounted = false;
  Result<std::string> why = co_await take_out(view, &unmounted);
  const bool out = why.ok() && why->empty();
  if (!out && unmounted && view.attachment->record.mounted && !is_without_data(view) &&
      !mutant(ControlMutant::kNotMountedBack)) {
    HF_PROBE("cluster.mounted_back");
    Status back = co_await mount_back(view);
    if (!back.ok())
      HF_LOG(kError, "cluster", "mount_back volume={} why={}", view.volume->name,
             back.error().to_string());
  }
  if (!out) co_return std::move(why);
  served_.erase(view.volume->id);
  Status closed = co_await close_device(view.volume.record);
  HF_CO_TRY(closed);
  view.volume->phase = VolumePhase::kDetached;
  Batch batch(catalog_);
  batch.put(view.volume).remove(*view.attachment);
  Status recorded = co_await catalog_.commit(std::move(batch));
  HF_CO_TRY(recorded);
  view.attachment.reset();
  co_return std::string();
}

// "" when the device has left the kernel, else what keeps it.
Task<Result<std::string>> Plane::take_out(View& view, bool* unmounted) {
  const std::string path = primary_path(view.volume.record);
  const std::string device = view.attachment->record.device;
  if (!device.empty()) {
    Status down = co_await ports_.mounter.unmount(path);
    if (down.code() == ErrorCode::kInUse) co_return "files below " + path + " are open";
    HF_CO_TRY(down);
    *unmounted = true;
    Result<bool> used = co_await ports_.mounter.in_use(device);
    HF_CO_TRY(used);
    if (used.value()) co_return "a container or process still has its file system mounted";
  }
  Status detached = co_await ports_.exporter.detach(view.volume->id);
  if (detached.code() == ErrorCode::kIo && is_without_data(view)) {
    // What the kernel still had to write is lost like the rest, which it tells once.
    detached = co_await ports_.exporter.detach(view.volume->id);
  }
  if (detached.code() == ErrorCode::kInUse) co_return "something has " + device + " open";
  HF_CO_TRY(detached);
  co_return std::string();
}

Task<Status> Plane::mount_back(View& view) {
  const FilesystemSpec fs = filesystem_spec(view.volume.record);
  co_return co_await ports_.mounter.mount(view.attachment->record.device,
                                          primary_path(view.volume.record), fs);
}

}  // namespace hf::cluster
