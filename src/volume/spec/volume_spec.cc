#include "volume/spec/volume_spec.h"

#include <algorithm>

namespace hf::spec {
namespace {

bool is_alnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

}  // namespace

Encryption VolumeSpec::encryption() const {
  if (explicit_keys.contains(SpecKey::kPassphrase) || !passphrase.empty()) {
    return Encryption::kPassphrase;
  }
  if (!secret_key.empty()) return Encryption::kNamedSecret;
  return secure ? Encryption::kClusterKey : Encryption::kNone;
}

bool is_valid_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  bool segment_start = true;
  for (const char c : name) {
    if (segment_start) {
      if (!is_alnum(c)) return false;
      segment_start = false;
    } else if (c == '/') {
      segment_start = true;
    } else if (!is_alnum(c) && c != '.' && c != '_' && c != '-') {
      return false;
    }
  }
  return !segment_start;
}

std::string name_as_file(std::string_view name) {
  HF_ASSERT(is_valid_name(name), "name of {} bytes", name.size());
  std::string out(name);
  std::replace(out.begin(), out.end(), '/', '+');
  return out;
}

uint64_t min_volume_bytes(FsType fs) {
  switch (fs) {
    case FsType::kXfs:
      return kMinXfsBytes;
    case FsType::kBtrfs:
      return kMinBtrfsBytes;
    case FsType::kExt4:
    case FsType::kNone:
      return kMinVolumeBytes;
  }
  HF_UNREACHABLE("fs {}", static_cast<int>(fs));
}

std::string_view to_string(FsType fs) {
  switch (fs) {
    case FsType::kExt4:
      return "ext4";
    case FsType::kXfs:
      return "xfs";
    case FsType::kBtrfs:
      return "btrfs";
    case FsType::kNone:
      return "none";
  }
  HF_UNREACHABLE("fs {}", static_cast<int>(fs));
}

std::string_view to_string(IoPriority priority) {
  switch (priority) {
    case IoPriority::kLow:
      return "low";
    case IoPriority::kMedium:
      return "medium";
    case IoPriority::kHigh:
      return "high";
  }
  HF_UNREACHABLE("io_priority {}", static_cast<int>(priority));
}

std::string_view to_string(IoProfile profile) {
  switch (profile) {
    case IoProfile::kAuto:
      return "auto";
    case IoProfile::kDb:
      return "db";
    case IoProfile::kDbRemote:
      return "db_remote";
    case IoProfile::kSequential:
      return "sequential";
    case IoProfile::kRandom:
      return "random";
    case IoProfile::kCms:
      return "cms";
    case IoProfile::kSyncShared:
      return "sync_shared";
    case IoProfile::kJournal:
      return "journal";
    case IoProfile::kNone:
      return "none";
  }
  HF_UNREACHABLE("io_profile {}", static_cast<int>(profile));
}

std::string_view to_string(Durability durability) {
  switch (durability) {
    case Durability::kSync:
      return "sync";
    case Durability::kFlush:
      return "flush";
  }
  HF_UNREACHABLE("durability {}", static_cast<int>(durability));
}

std::string_view to_string(Encryption encryption) {
  switch (encryption) {
    case Encryption::kNone:
      return "none";
    case Encryption::kClusterKey:
      return "cluster key";
    case Encryption::kNamedSecret:
      return "named secret";
    case Encryption::kPassphrase:
      return "passphrase";
  }
  HF_UNREACHABLE("encryption {}", static_cast<int>(encryption));
}

}  // namespace hf::spec
