#include "api/csi/access.h"

#include <algorithm>

namespace hf::api::csi_driver {
namespace {

namespace csi = ::csi::v1;
using Mode = csi::VolumeCapability::AccessMode;

constexpr size_t kMaxFlags = 32;
constexpr std::string_view kSidecarPrefix = "csi.storage.k8s.io/";
constexpr std::string_view kSecretKeys[] = {"passphrase", "token", "token_secret"};

Error invalid(std::string sentence) { return Error(ErrorCode::kInvalidArgument, std::move(sentence)); }

Status read_mode(Mode::Mode mode, Access* access) {
  switch (mode) {
    case Mode::SINGLE_NODE_WRITER:
    case Mode::SINGLE_NODE_MULTI_WRITER: return {};
    case Mode::SINGLE_NODE_READER_ONLY: access->read_only = true; return {};
    case Mode::SINGLE_NODE_SINGLE_WRITER: access->one_place = true; return {};
    case Mode::MULTI_NODE_READER_ONLY:
    case Mode::MULTI_NODE_SINGLE_WRITER:
    case Mode::MULTI_NODE_MULTI_WRITER:
      return make_error(ErrorCode::kInvalidArgument,
                        "access mode {} needs a volume that several nodes use at once, which is not supported yet; use "
                        "SINGLE_NODE_WRITER (in Kubernetes ReadWriteOnce or ReadWriteOncePod)",
                        Mode::Mode_Name(mode));
    default: return invalid("a volume_capability needs an access_mode that is known here");
  }
}

Status read_flags(const csi::VolumeCapability::MountVolume& mount, Access* access) {
  for (const std::string& flag : mount.mount_flags()) {
    if (flag.empty() || flag.size() > 256) return invalid("a mount flag of 1 to 256 bytes is needed");
    if (flag == "ro") access->read_only = true;
    if (flag == "ro" || flag == "rw" || flag == "defaults") continue;
    access->flags.push_back(flag);
  }
  if (access->flags.size() > kMaxFlags) return invalid("more than 32 mount flags");
  return {};
}

// One option as the grammar's mount_options writes it; refused is what it would read as another one.
Result<std::string> as_mount_option(const std::string& flag) {
  const std::string key = flag.substr(0, flag.find('='));
  if (key.find_first_of(",;:") != std::string::npos || flag.find_first_of(",;") != std::string::npos) {
    return make_error(ErrorCode::kInvalidArgument, "mount flag {:?}: , ; and : cannot stand in its name, nor , and ; in it",
                      flag.substr(0, 64));
  }
  return flag;
}

// A file system or none, from what is to be used and what the class of volumes says. A class may serve both.
Status put_fs(const std::vector<Access>& accesses, spec::OptionMap* options) {
  if (accesses.front().block) {
    options->erase("format");
    (*options)["fs"] = "none";
    return {};
  }
  std::string wanted;
  for (const Access& access : accesses) {
    if (!wanted.empty() && !access.fs_type.empty() && wanted != access.fs_type) {
      return make_error(ErrorCode::kInvalidArgument, "fs_type {:?} and {:?}: a volume has one file system", wanted,
                        access.fs_type);
    }
    if (!access.fs_type.empty()) wanted = access.fs_type;
  }
  for (const char* key : {"fs", "format"}) {
    const auto there = options->find(key);
    if (there == options->end()) continue;
    if (wanted.empty() || wanted == there->second) return {};
    return make_error(ErrorCode::kInvalidArgument, "parameter {} is {:?} and fs_type is {:?}: give one of them", key,
                      there->second.substr(0, 64), wanted);
  }
  if (!wanted.empty()) (*options)["fs"] = wanted;
  return {};
}

Status put_flags(const std::vector<Access>& accesses, spec::OptionMap* options) {
  std::vector<std::string> flags;
  for (const Access& access : accesses) {
    for (const std::string& flag : access.flags) {
      if (std::find(flags.begin(), flags.end(), flag) == flags.end()) flags.push_back(flag);
    }
  }
  for (const std::string& flag : flags) {
    const Result<std::string> option = as_mount_option(flag);
    HF_TRY(option);
    std::string& text = (*options)["mount_options"];
    text += (text.empty() ? "" : ",") + *option;
  }
  return {};
}

// "noatime", "commit=30"
std::string shown(const std::pair<const std::string, std::string>& option) {
  return option.second.empty() ? option.first : option.first + "=" + option.second;
}

}  // namespace

Result<Access> parse_access(const csi::VolumeCapability& capability) {
  Access access;
  if (!capability.has_block() && !capability.has_mount()) {
    return invalid("a volume_capability needs an access type: block or mount");
  }
  HF_TRY(read_mode(capability.access_mode().mode(), &access));
  access.block = capability.has_block();
  if (access.block && access.read_only) {
    return invalid("a read-only block device is not supported: what is shown as a device can be written to");
  }
  if (access.block) return access;
  if (!capability.mount().volume_mount_group().empty()) {
    return invalid("volume_mount_group is not supported (the driver does not announce VOLUME_MOUNT_GROUP)");
  }
  access.fs_type = capability.mount().fs_type();
  if (access.fs_type.size() > 64) return invalid("an fs_type of at most 64 bytes is needed");
  HF_TRY(read_flags(capability.mount(), &access));
  return access;
}

Result<std::vector<Access>> parse_accesses(
    const google::protobuf::RepeatedPtrField<csi::VolumeCapability>& capabilities) {
  if (capabilities.empty() || capabilities.size() > 64) return invalid("1 to 64 volume_capabilities are needed");
  std::vector<Access> all;
  for (const csi::VolumeCapability& capability : capabilities) {
    const Result<Access> access = parse_access(capability);
    HF_TRY(access);
    if (!all.empty() && all.front().block != access->block) {
      return invalid("block and mount at once: a volume here is a block device (fs=none) or has a file system");
    }
    all.push_back(*access);
  }
  return all;
}

Status check_access(const Access& access, const cluster::VolumeInfo& volume) {
  const VolumeSpec& has = volume.spec;
  const bool plain = has.fs == spec::FsType::kNone;
  if (access.block != plain) {
    return make_error(ErrorCode::kFailedPrecondition, "volume {} has {}, and was asked for as {}", volume.name,
                      plain ? "no file system (fs=none)" : "a file system (" + std::string(spec::to_string(has.fs)) + ")",
                      access.block ? "a block device" : "a file system");
  }
  if (!access.fs_type.empty() && access.fs_type != spec::to_string(has.fs)) {
    return make_error(ErrorCode::kFailedPrecondition, "volume {} has the file system {}, and fs_type is {:?}", volume.name,
                      spec::to_string(has.fs), access.fs_type);
  }
  for (const std::string& flag : access.flags) {
    const bool there = std::any_of(has.mount_options.begin(), has.mount_options.end(),
                                   [&](const auto& option) { return shown(option) == flag; });
    if (there) continue;
    return make_error(ErrorCode::kFailedPrecondition,
                      "mount flag {:?} is none of volume {}'s mount_options: they are the volume's own; first: holdfast "
                      "volume update {} -o mount_options=…",
                      flag.substr(0, 64), volume.name, volume.name);
  }
  return {};
}

Result<spec::OptionMap> volume_options(const TextMap& parameters, const TextMap& secrets,
                                       const std::vector<Access>& accesses) {
  spec::OptionMap options;
  for (const auto& [key, value] : parameters) {
    if (key.starts_with(kSidecarPrefix)) continue;
    if (key == "name" || key == "parent") {
      return make_error(ErrorCode::kInvalidArgument, "parameter {}: it is given by the request itself; leave it out", key);
    }
    options[key] = value;
  }
  for (const std::string_view key : kSecretKeys) {
    const auto there = secrets.find(std::string(key));
    if (there != secrets.end()) options[std::string(key)] = there->second;
  }
  HF_TRY(put_fs(accesses, &options));
  HF_TRY(put_flags(accesses, &options));
  return options;
}

void fill_condition(const cluster::VolumeInfo& from, csi::VolumeCondition* to) {
  uint32_t good = 0;
  std::string why = from.message;
  for (const cluster::ReplicaInfo& replica : from.replicas) {
    const bool well = replica.state == cluster::ReplicaState::kOnline && replica.in_sync;
    good += well ? 1 : 0;
    if (!well && why.empty()) why = replica.message.empty() ? "a replica is not in sync" : replica.message;
  }
  const bool broken = from.state == cluster::VolumeState::kError || from.state == cluster::VolumeState::kLost;
  to->set_abnormal(broken || good < from.spec.repl);
  if (why.empty()) why = to->abnormal() ? "not all of its replicas are there" : "all of its replicas are in sync";
  to->set_message(why);
}

}  // namespace hf::api::csi_driver
