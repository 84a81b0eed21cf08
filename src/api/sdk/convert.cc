#include "api/sdk/convert.h"

#include "api/proto_time.h"
#include "api/text.h"

namespace hf::api {
namespace {

namespace sdk = openstorage::api;
using Labels = google::protobuf::Map<std::string, std::string>;

constexpr std::pair<sdk::FSType, spec::FsType> kFsTypes[] = {
    {sdk::FS_TYPE_EXT4, spec::FsType::kExt4},
    {sdk::FS_TYPE_XFS, spec::FsType::kXfs},
    {sdk::FS_TYPE_BTRFS, spec::FsType::kBtrfs},
    {sdk::FS_TYPE_NONE, spec::FsType::kNone},
};

constexpr std::pair<sdk::IoProfile, std::string_view> kIoProfiles[] = {
    {sdk::IO_PROFILE_SEQUENTIAL, "sequential"}, {sdk::IO_PROFILE_RANDOM, "random"},
    {sdk::IO_PROFILE_DB, "db"},                 {sdk::IO_PROFILE_DB_REMOTE, "db_remote"},
    {sdk::IO_PROFILE_CMS, "cms"},               {sdk::IO_PROFILE_SYNC_SHARED, "sync_shared"},
    {sdk::IO_PROFILE_AUTO, "auto"},             {sdk::IO_PROFILE_NONE, "none"},
    {sdk::IO_PROFILE_JOURNAL, "journal"},
};

sdk::FSType sdk_fs(spec::FsType fs) {
  for (const auto& [theirs, ours] : kFsTypes) {
    if (ours == fs) return theirs;
  }
  HF_UNREACHABLE();
}

// As the grammar writes a map. Refused is what it would read as another one: a label "a" of "1,b=2" as two labels.
template <typename Map>
Result<std::string> join_pairs(const char* what, const Map& pairs) {
  std::string text;
  for (const auto& [key, value] : pairs) {
    if (key.find_first_of(",;=:") != std::string::npos || value.find_first_of(",;") != std::string::npos) {
      return make_error(ErrorCode::kInvalidSpec, "{} {:?} = {:?}: a name may not have , ; = or : in it, a value no , or ;",
                        what, key.substr(0, 64), value.substr(0, 64));
    }
    if (!text.empty()) text += ',';
    text += value.empty() ? key : key + "=" + value;
  }
  return text;
}

std::string join(const google::protobuf::RepeatedPtrField<std::string>& items) {
  std::string text;
  for (const std::string& item : items) {
    if (!text.empty()) text += ';';
    text += item;
  }
  return text;
}

void put_number(spec::OptionMap* options, const char* key, uint64_t value) {
  if (value != 0) (*options)[key] = std::to_string(value);
}

void put_flag(spec::OptionMap* options, const char* key, bool value) {
  if (value) (*options)[key] = "true";
}

void put_text(spec::OptionMap* options, const char* key, const std::string& value) {
  if (!value.empty()) (*options)[key] = value;
}

Status put_io_profile(spec::OptionMap* options, sdk::IoProfile profile) {
  for (const auto& [theirs, ours] : kIoProfiles) {
    if (theirs == profile) {
      (*options)["io_profile"] = std::string(ours);
      return {};
    }
  }
  return make_error(ErrorCode::kNotSupported, "io_profile {} of the SDK has no counterpart here",
                    static_cast<int>(profile));
}

void put_throttle(spec::OptionMap* options, const sdk::IoThrottle& throttle) {
  put_number(options, "io_throttle_rd_iops", throttle.read_iops());
  put_number(options, "io_throttle_wr_iops", throttle.write_iops());
  put_number(options, "io_throttle_rd_bw", throttle.read_bw_mbytes());
  put_number(options, "io_throttle_wr_bw", throttle.write_bw_mbytes());
}

// Labels of the request and of the spec are one set.
Result<std::string> join_labels(const Labels& a, const Labels& b) {
  std::map<std::string, std::string> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  return join_pairs("label", all);
}

// Fields without a counterpart that promise something: which nodes keep the data, who else can reach it, where it lies.
// The others (dedupe, readahead, …) are hints, and a volume without them is what was asked for.
Status check_promises(const sdk::VolumeSpec& spec) {
  const char* promise = spec.placement_strategy().ByteSizeLong() > 0 ? "placement_strategy"
                        : spec.winshare()                            ? "winshare"
                        : spec.proxy_write()                         ? "proxy_write"
                        : !spec.fa_create_options().empty()          ? "fa_create_options"
                                                                     : nullptr;
  if (promise == nullptr) return {};
  return make_error(ErrorCode::kNotSupported, "{} of a VolumeSpec is not supported here; leave it out", promise);
}

sdk::VolumeState sdk_state(cluster::VolumeState state) {
  switch (state) {
    case cluster::VolumeState::kCreating: return sdk::VOLUME_STATE_PENDING;
    case cluster::VolumeState::kDetached: return sdk::VOLUME_STATE_DETACHED;
    case cluster::VolumeState::kAttached: return sdk::VOLUME_STATE_ATTACHED;
    case cluster::VolumeState::kDeleting: return sdk::VOLUME_STATE_DELETED;
    case cluster::VolumeState::kError: return sdk::VOLUME_STATE_ERROR;
    case cluster::VolumeState::kLost: return sdk::VOLUME_STATE_ERROR;
  }
  HF_UNREACHABLE();
}

void fill_spec(const VolumeSpec& from, sdk::VolumeSpec* to) {
  to->set_ephemeral(from.ephemeral);
  to->set_size(from.size_bytes);
  to->set_format(sdk_fs(from.fs));
  to->set_block_size(from.block_size_bytes);
  to->set_ha_level(from.repl);
  to->set_cos(static_cast<sdk::CosType>(from.io_priority));
  for (const auto& [theirs, ours] : kIoProfiles) {
    if (ours == spec::to_string(from.io_profile)) to->set_io_profile(theirs);
  }
  to->set_snapshot_interval(from.snap_interval_minutes);
  for (const auto& [key, value] : from.labels) (*to->mutable_volume_labels())[key] = value;
  to->set_sharedv4(from.shared);
  for (const std::string& node : from.nodes) to->mutable_replica_set()->add_nodes(node);
  to->set_aggregation_level(from.aggregation_level);
  to->set_encrypted(from.encryption() != spec::Encryption::kNone);
  to->set_scale(from.scale);
  to->set_sticky(from.sticky);
  if (!from.group.empty()) to->mutable_group()->set_id(from.group);
  to->set_group_enforced(from.group_strict);
  to->set_compressed(from.compressed);
  to->set_journal(from.journal);
  to->set_queue_depth(from.queue_depth);
  to->set_nodiscard(from.nodiscard);
  to->set_storage_policy(from.storage_policy);
  for (const auto& [key, value] : from.mount_options) {
    (*to->mutable_mount_options()->mutable_options())[key] = value;
  }
  to->set_auto_fstrim(from.auto_fstrim);
}

}  // namespace

Result<spec::OptionMap> sdk_options(const sdk::VolumeSpec& spec, const Labels& labels) {
  HF_TRY(check_promises(spec));
  spec::OptionMap options;
  if (spec.size() != 0) options["size"] = std::to_string(spec.size()) + "B";
  bool known_fs = false;
  for (const auto& [theirs, ours] : kFsTypes) {
    if (theirs != spec.format()) continue;
    known_fs = true;
    // FS_TYPE_NONE is also proto3's "absent": the default file system, as in the grammar.
    if (theirs != sdk::FS_TYPE_NONE) options["fs"] = std::string(spec::to_string(ours));
  }
  if (!known_fs) {
    return make_error(ErrorCode::kNotSupported,
                      "format {}: Holdfast makes ext4, xfs and btrfs file systems",
                      sdk::FSType_Name(spec.format()));
  }
  // Less than nothing is not absent: the grammar refuses it by name.
  if (spec.block_size() != 0) options["block_size"] = std::to_string(spec.block_size());
  if (spec.ha_level() != 0) options["repl"] = std::to_string(spec.ha_level());
  put_number(&options, "io_priority", static_cast<uint64_t>(spec.cos()));
  // IO_PROFILE_SEQUENTIAL is proto3's "absent" as well; absent means auto.
  if (spec.io_profile() != sdk::IO_PROFILE_SEQUENTIAL) {
    HF_TRY(put_io_profile(&options, spec.io_profile()));
  }
  put_number(&options, "snap_interval", spec.snapshot_interval());
  const Result<std::string> all_labels = join_labels(labels, spec.volume_labels());
  HF_TRY(all_labels);
  put_text(&options, "labels", *all_labels);
  put_flag(&options, "shared", spec.shared() || spec.sharedv4());
  put_text(&options, "nodes", join(spec.replica_set().nodes()));
  put_number(&options, "aggregation_level", spec.aggregation_level());
  put_flag(&options, "secure", spec.encrypted() && spec.passphrase().empty());
  put_text(&options, "passphrase", spec.passphrase());
  put_text(&options, "snap_schedule", spec.snapshot_schedule());
  put_number(&options, "scale", spec.scale());
  put_flag(&options, "sticky", spec.sticky());
  put_text(&options, "group", spec.group().id());
  put_flag(&options, "fg", spec.group_enforced());
  put_flag(&options, "compressed", spec.compressed());
  put_flag(&options, "journal", spec.journal());
  put_number(&options, "queue_depth", spec.queue_depth());
  put_flag(&options, "nodiscard", spec.nodiscard());
  put_flag(&options, "ephemeral", spec.ephemeral());
  put_text(&options, "storagepolicy", spec.storage_policy());
  const auto& mount_options = spec.mount_options().options();
  const Result<std::string> all_mount_options =
      join_pairs("mount option", std::map<std::string, std::string>(mount_options.begin(), mount_options.end()));
  HF_TRY(all_mount_options);
  put_text(&options, "mount_options", *all_mount_options);
  put_flag(&options, "auto_fstrim", spec.auto_fstrim());
  put_throttle(&options, spec.io_throttle());
  return options;
}

Result<spec::OptionMap> sdk_update_options(const sdk::VolumeSpecUpdate& update,
                                           const Labels& labels) {
  spec::OptionMap options;
  std::vector<const google::protobuf::FieldDescriptor*> set;
  update.GetReflection()->ListFields(update, &set);
  for (const google::protobuf::FieldDescriptor* field : set) {
    const std::string& name = field->name();
    if (name == "size") options["size"] = std::to_string(update.size()) + "B";
    else if (name == "ha_level") options["repl"] = std::to_string(update.ha_level());
    else if (name == "cos") options["io_priority"] = std::to_string(update.cos());
    else if (name == "io_profile") HF_TRY(put_io_profile(&options, update.io_profile()));
    else if (name == "snapshot_interval") options["snap_interval"] = std::to_string(update.snapshot_interval());
    else if (name == "shared") options["shared"] = update.shared() ? "true" : "false";
    else if (name == "sharedv4") options["shared"] = update.sharedv4() ? "true" : "false";
    else if (name == "snapshot_schedule") options["snap_schedule"] = update.snapshot_schedule();
    else if (name == "scale") options["scale"] = std::to_string(update.scale());
    else if (name == "sticky") options["sticky"] = update.sticky() ? "true" : "false";
    else if (name == "group") options["group"] = update.group().id();
    else if (name == "journal") options["journal"] = update.journal() ? "true" : "false";
    else if (name == "queue_depth") options["queue_depth"] = std::to_string(update.queue_depth());
    else if (name == "nodiscard") options["nodiscard"] = update.nodiscard() ? "true" : "false";
    else if (name == "auto_fstrim") options["auto_fstrim"] = update.auto_fstrim() ? "true" : "false";
    else if (name == "io_throttle") put_throttle(&options, update.io_throttle());
    else
      return make_error(ErrorCode::kNotSupported, "\"{}\" cannot be changed by an update", name);
  }
  if (!labels.empty()) {
    const Result<std::string> all = join_labels(labels, Labels());
    HF_TRY(all);
    options["labels"] = *all;
  }
  return options;
}

void fill_sdk(const cluster::VolumeInfo& from, sdk::Volume* to) {
  to->set_id(from.id.to_string());
  if (!from.parent.empty()) to->mutable_source()->set_parent(from.parent);
  to->mutable_locator()->set_name(from.name);
  for (const auto& [key, value] : from.spec.labels) {
    (*to->mutable_locator()->mutable_volume_labels())[key] = value;
  }
  fill_time(from.created, to->mutable_ctime());
  fill_spec(from.spec, to->mutable_spec());
  to->set_usage(from.used_bytes);
  to->set_format(sdk_fs(from.spec.fs));
  const uint32_t online = online_replicas(from);
  to->set_status(online == from.spec.repl ? sdk::VOLUME_STATUS_UP
                 : online > 0             ? sdk::VOLUME_STATUS_DEGRADED
                                          : sdk::VOLUME_STATUS_DOWN);
  to->set_state(sdk_state(from.state));
  to->set_error(from.message);
  sdk::ReplicaSet* set = to->add_replica_sets();
  for (const cluster::ReplicaInfo& replica : from.replicas) {
    set->add_nodes(replica.node.to_string());
    set->add_pool_uuids(replica.pool.to_string());
  }
  if (!from.attachment) return;
  to->set_attached_on(from.attachment->node.to_string());
  to->set_attached_state(sdk::ATTACH_STATE_EXTERNAL);
  to->set_device_path(from.attachment->device);
  for (const cluster::MountInfo& mount : from.attachment->mounts) to->add_attach_path(mount.path);
  (*to->mutable_attach_info())["export"] = to_string(from.attachment->kind);
  fill_time(from.attachment->since, to->mutable_attach_time());
}

void fill_sdk(const cluster::SnapshotInfo& from, sdk::Volume* to) {
  to->set_id(from.id.to_string());
  to->mutable_source()->set_parent(from.volume.to_string());
  to->set_readonly(true);
  to->mutable_locator()->set_name(from.name);
  for (const auto& [key, value] : from.labels) {
    (*to->mutable_locator()->mutable_volume_labels())[key] = value;
  }
  fill_time(from.created, to->mutable_ctime());
  to->mutable_spec()->set_size(from.size_bytes);
  to->set_state(sdk::VOLUME_STATE_DETACHED);
  to->set_status(sdk::VOLUME_STATUS_UP);
}

void fill_sdk(const cluster::NodeInfo& from, sdk::StorageNode* to) {
  to->set_id(from.id.to_string());
  to->set_status(from.online ? sdk::STATUS_OK : sdk::STATUS_OFFLINE);
  to->set_hostname(from.name);
  to->set_mgmt_ip(from.address);
  to->set_data_ip(from.address);
  int32_t index = 0;
  for (const cluster::PoolInfo& pool : from.pools) {
    sdk::StoragePool* out = to->add_pools();
    out->set_id(index++);
    out->set_cos(static_cast<sdk::CosType>(pool.io_class));
    out->set_totalsize(pool.total_bytes);
    out->set_used(pool.used_bytes);
    out->set_uuid(pool.id.to_string());
  }
}

}  // namespace hf::api
