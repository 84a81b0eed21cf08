#include <span>

#include "cluster/plane.h"
#include "volume/spec/key_table.h"
#include "volume/spec/mount_options.h"
#include "volume/spec/validate.h"

namespace hf::cluster {
namespace {

using spec::SpecKey;

// What may be changed on a volume that exists, and why the rest may not.
struct UpdateRule {
  SpecKey key;
  std::string_view refusal;  // empty: may be changed
};

constexpr std::string_view kStructure =
    "it is part of how the volume was made; clone or copy it to change it";
constexpr std::string_view kLater = "changing it on a volume that exists is not yet supported";

constexpr UpdateRule kUpdateRules[] = {
    {SpecKey::kSize, ""},
    {SpecKey::kRepl, ""},
    {SpecKey::kLabels, ""},
    {SpecKey::kSticky, ""},
    {SpecKey::kAllowGrow, ""},
    {SpecKey::kMountOptions, ""},  // from the next mount on
    {SpecKey::kNodiscard, ""},     // from the next mount on
    {SpecKey::kAutoFstrim, ""},
    {SpecKey::kQueueDepth, ""},  // from the next attach on
    {SpecKey::kIoProfile, ""},
    {SpecKey::kSnapSchedule, ""},
    {SpecKey::kSnapInterval, ""},
    {SpecKey::kThrottleReadIops, ""},
    {SpecKey::kThrottleWriteIops, ""},
    {SpecKey::kThrottleReadBw, ""},
    {SpecKey::kThrottleWriteBw, ""},
    {SpecKey::kName, "a volume keeps its name; clone it under another"},
    {SpecKey::kFs, "the file system is made once; copy the data to a volume with the other one"},
    {SpecKey::kBlockSize,
     "the file system is made once; copy the data to a volume with the other one"},
    {SpecKey::kParent, "a volume is a clone from its beginning or never"},
    {SpecKey::kToken, "it belongs to a request, not to a volume"},
    {SpecKey::kTokenSecret, "it belongs to a request, not to a volume"},
    {SpecKey::kScale, kLater},
    {SpecKey::kIoPriority, kLater},
    {SpecKey::kShared, kLater},
    {SpecKey::kNodes, ""},
    {SpecKey::kZones, ""},
    {SpecKey::kRacks, ""},
    {SpecKey::kRegions, ""},
    {SpecKey::kGroup, kLater},
    {SpecKey::kFg, kLater},
    {SpecKey::kDurability, kLater},
    {SpecKey::kStoragePolicy, kLater},
};

std::string_view refusal_of(SpecKey key) {
  for (const UpdateRule& rule : kUpdateRules) {
    if (rule.key == key) return rule.refusal;
  }
  return kStructure;
}

std::string updatable_keys() {
  std::string names;
  for (const UpdateRule& rule : kUpdateRules) {
    if (!rule.refusal.empty()) continue;
    if (!names.empty()) names += ", ";
    names += spec::key_info(rule.key).name;
  }
  return names;
}

// The options laid over a spec; validated as a whole.
Result<VolumeSpec> changed_spec(const VolumeSpec& before,
                                const std::map<std::string, std::string>& options) {
  VolumeSpec spec = before;
  for (const auto& [name, value] : options) {
    const spec::KeyInfo* key = spec::find_key(name);
    if (key == nullptr) {
      return make_error(ErrorCode::kInvalidSpec, "unknown key {:?}; what can be changed: {}",
                        name.substr(0, 64), updatable_keys());
    }
    const std::string_view refusal = refusal_of(key->key);
    if (!refusal.empty()) {
      return make_error(ErrorCode::kNotSupported,
                        "{} cannot be changed: {}. What can be changed: {}", key->name, refusal,
                        updatable_keys());
    }
    if (value.empty()) return spec::bad_value(*key, value, "empty");
    const Status parsed = key->parse(spec, value, spec::ValueForm::kOption);
    if (!parsed.ok()) return spec::bad_value(*key, value, parsed.error().message());
    spec.explicit_keys.insert(key->key);
  }
  HF_TRY(spec::validate(spec));
  return spec;
}

}  // namespace

Task<Result<VolumeInfo>> Plane::update(const UpdateVolume& request) {
  Result<std::string> name = co_await name_of(request.name);
  HF_CO_TRY(name);
  Result<Section> section = co_await enter(name.value());
  HF_CO_TRY(section);
  Result<View> view = co_await load_settled(name.value());
  HF_CO_TRY(view);
  VolumeRecord& record = view->volume.record;
  Result<VolumeSpec> changed = changed_spec(record.spec, request.options);
  HF_CO_TRY(changed);
  const Status supported = spec::check_support(changed.value(), options_.capabilities);
  HF_CO_TRY(supported);
  const Status mountable = spec::check_mount_options(changed->fs, changed->mount_options);
  HF_CO_TRY(mountable);
  const bool moves = changed->nodes != record.spec.nodes || changed->zones != record.spec.zones ||
                     changed->racks != record.spec.racks || changed->regions != record.spec.regions;
  if (moves) {
    Result<std::vector<PoolFacts>> pools = co_await pool_facts();
    HF_CO_TRY(pools);
    const Status known = check_named(placement_of(changed.value(), record.size_bytes), pools.value());
    if (!known.ok()) co_return known.error().with_context("volume " + record.name);
  }
  const uint64_t size_bytes = changed->size_bytes;
  changed->size_bytes = record.spec.size_bytes;
  // A size that cannot be had refuses the whole update, so it goes first.
  Status grown = co_await grow_to(view.value(), size_bytes);
  HF_CO_TRY(grown);
  changed->size_bytes = record.spec.size_bytes;
  const uint32_t replicas = record.spec.repl;
  const bool can_change = record.replicated || (changed->repl == replicas && !moves);
  if (!can_change) {
    co_return make_error(ErrorCode::kFailedPrecondition,
                         "volume {} was made before this node was in a cluster: mount it once, then change its replicas",
                         record.name);
  }
  if (!(changed.value() == record.spec)) {
    record.spec = changed.value();
    Status recorded = co_await put(view->volume);
    HF_CO_TRY(recorded);
  }
  if (record.spec.repl != replicas || moves) co_await nudge(view.value());
  co_return co_await info(view.value());
}

}  // namespace hf::cluster
