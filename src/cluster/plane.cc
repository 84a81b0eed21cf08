#include "cluster/mutants.h"
#include "cluster/plane.h"

#include "volume/spec/inline_parser.h"

namespace hf::cluster {
namespace {

constexpr size_t kMaxPath = 4096;

}  // namespace

bool is_refusal(ErrorCode code) {
  return code != ErrorCode::kCancelled && code != ErrorCode::kClosed &&
         code != ErrorCode::kTimeout && code != ErrorCode::kAmbiguous &&
         code != ErrorCode::kUnavailable && code != ErrorCode::kConflict;
}

bool is_docker(const std::string& holder) {
  return holder.starts_with("docker:");
}

bool is_there(const PoolInfo& pool) {
  return pool.state == PoolState::kOnline || pool.state == PoolState::kFull;
}

std::string listed(const std::vector<std::string>& names, size_t shown) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < shown; ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

Result<std::string> plain_path(const std::string& path) {
  std::string plain;
  bool sound = path.starts_with('/') && path.size() <= kMaxPath && path.find('\0') == std::string::npos;
  for (size_t at = 0; sound && at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    sound = part != "..";
    if (!part.empty() && part != ".") plain += "/" + part;
    at = end + 1;
  }
  if (sound) return plain.empty() ? "/" : plain;
  return make_error(ErrorCode::kInvalidArgument, "{:?} is not an absolute path without \"..\"", path.substr(0, 256));
}

Plane::Plane(ControlPorts ports, const ControlOptions& options)
    : ports_(ports),
      options_(options),
      instance_(ports.random.next()),
      catalog_(ports.store, ports.clock, instance_) {}

Task<Result<std::string>> Plane::name_of(std::string text) {
  if (const std::optional<VolumeId> id = VolumeId::parse(text)) {
    Result<std::optional<KeptVolume>> volume = co_await catalog_.volume(*id);
    HF_CO_TRY(volume);
    if (volume.value()) co_return volume.value()->record.name;
  }
  Result<spec::ParsedName> parsed = spec::parse_volume_name(text);
  HF_CO_TRY(parsed);
  co_return parsed->spec.name;
}

Task<Result<Section>> Plane::enter(std::string name) {
  Section section;
  section.first = co_await locks_.lock(std::move(name));
  co_await driving_.acquire();
  section.driving = SemaphoreUnits(driving_, 1);
  co_return std::move(section);
}

Task<Result<std::optional<View>>> Plane::load(std::string name) {
  std::optional<View> view;
  Result<std::optional<KeptName>> entry = co_await catalog_.name(Catalog::volume_name_key(name));
  HF_CO_TRY(entry);
  if (!entry.value()) co_return std::move(view);
  const std::optional<VolumeId> id = VolumeId::parse(entry.value()->record.id);
  if (!id) co_return make_error(ErrorCode::kCorruption, "the name {} stands for no id", name);
  Result<std::optional<KeptVolume>> volume = co_await catalog_.volume(*id);
  HF_CO_TRY(volume);
  // The two are written together; one without the other is being removed right now.
  if (!volume.value()) {
    co_return make_error(ErrorCode::kConflict, "volume {} was removed meanwhile", name);
  }
  Result<std::optional<KeptAttachment>> attachment = co_await catalog_.attachment(*id);
  HF_CO_TRY(attachment);
  view.emplace();
  view->volume = std::move(*volume.value());
  view->attachment = std::move(attachment).value();
  co_return std::move(view);
}

Task<Result<View>> Plane::load_settled(std::string name) {
  Result<std::optional<View>> view = co_await load(name);
  HF_CO_TRY(view);
  if (!view.value()) co_return not_found(name);
  if (mutant(ControlMutant::kNotSettled)) co_return std::move(*view.value());
  Status settled = co_await settle(*view.value());
  HF_CO_TRY(settled);
  co_return std::move(*view.value());
}

Task<Result<View>> Plane::load_usable(std::string name) {
  Result<View> view = co_await load_settled(std::move(name));
  HF_CO_TRY(view);
  const auto lost = lost_.find(view->volume->id);
  if (lost != lost_.end()) co_return Error(ErrorCode::kFailedPrecondition, lost->second);
  // Of a replicated one, other members may be reached.
  if (!view->volume->replicated) {
    const Status reachable = check_pools_open(view->volume.record);
    HF_CO_TRY(reachable);
  }
  co_return std::move(view);
}

// "Not found" is said of volumes that are gone, and of nothing else, by settle().
Task<Status> Plane::settle(View& view) {
  Status done = co_await finish_all(view);
  if (done.code() == ErrorCode::kNotFound) {
    co_return Error(ErrorCode::kFailedPrecondition, done.error().message());
  }
  HF_CO_TRY(done);
  if (view.volume->state == LifeState::kDeleting) co_return not_found(view.volume->name);
  co_return Status();
}

Task<Status> Plane::finish_all(View& view) {
  if (view.attachment && view.attachment->record.node == options_.node &&
      view.attachment->record.boot != options_.boot_id) {
    Status forgotten = co_await forget_dead_attachment(view);
    HF_CO_TRY(forgotten);
  }
  if (view.volume->state == LifeState::kCreating) {
    Status done = co_await finish_create(view);
    HF_CO_TRY(done);
  }
  if (is_here(view) && view.attachment->record.freezing) {
    Status thawed = co_await thaw(view);
    HF_CO_TRY(thawed);
  }
  if (view.volume->state == LifeState::kDeleting) co_return co_await finish_delete(view);
  // There is nothing to be finished on, and it must be possible to let go of it.
  if (lost_.contains(view.volume->id)) co_return Status();
  if (!view.volume->restoring.is_nil()) {
    Status done = co_await finish_restore(view);
    HF_CO_TRY(done);
  }
  // Where it is attached, that node finishes it, or who takes it over from there.
  if (view.volume->resizing_to_bytes != 0 && !is_elsewhere(view)) {
    Status behind;  // logged; who asked for the size was told, or asks again
    Status done = co_await finish_resize(view, &behind);
    HF_CO_TRY(done);
  }
  co_return Status();
}

Task<Status> Plane::put(KeptVolume& volume) {
  Batch batch(catalog_);
  batch.put(volume);
  co_return co_await catalog_.commit(std::move(batch));
}

Task<Status> Plane::put(KeptAttachment& attachment) {
  Batch batch(catalog_);
  batch.put(attachment);
  co_return co_await catalog_.commit(std::move(batch));
}

Result<MemberRecord> Plane::local_member(const VolumeRecord& volume) const {
  for (const MemberRecord& member : volume.members) {
    if (member.node == options_.node) return member;
  }
  return make_error(ErrorCode::kFailedPrecondition, "volume {} has no replica on this node ({})",
                    volume.name, options_.node_name);
}

// A host answers "not found" for what lies in a pool that is not open: that is no proof that it is
// gone.
Status Plane::check_pools_open(const VolumeRecord& volume) const {
  for (const MemberRecord& member : volume.members) {
    if (member.node != options_.node || open_pools_.contains(member.pool)) continue;
    if (removed_pools_.contains(member.pool)) continue;  // there is nothing to be reached any more
    const auto closed = closed_pools_.find(member.pool);
    return make_error(ErrorCode::kFailedPrecondition,
                      "volume {} lies in pool {}, which is not open{}{}", volume.name,
                      member.pool.to_string(), closed != closed_pools_.end() ? ": " : "",
                      closed != closed_pools_.end() ? closed->second : "");
  }
  return {};
}

Task<Result<std::string>> Plane::place_of(std::string path) {
  const Result<std::string> plain = plain_path(path);
  HF_CO_TRY(plain);
  co_return co_await ports_.mounter.place(plain.value());
}

std::string Plane::primary_path(const VolumeRecord& volume) const {
  return options_.mount_root + "/" + spec::name_as_file(volume.name);
}

Error Plane::not_found(std::string_view name) const {
  return make_error(ErrorCode::kNotFound, "there is no volume {}", name);
}

}  // namespace hf::cluster
