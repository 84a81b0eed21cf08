// Volumes, snapshots and pages in CSI's words.
#pragma once

#include <optional>
#include <string>

#include "api/csi/context.h"

namespace hf::api::csi_driver {

void fill_volume(const Context& context, const cluster::VolumeInfo& from, csi::Volume* to);
void fill_snapshot(const cluster::SnapshotInfo& from, csi::Snapshot* to);

// A snapshot's id is "<volume id>@<snapshot id>": it says where to look, and is what the spec's key parent takes.
std::string snapshot_id_of(const cluster::SnapshotInfo& snapshot);
struct SnapshotKey {
  VolumeId volume;
  SnapshotId snapshot;
};
// Nothing for what cannot be the id of a snapshot.
std::optional<SnapshotKey> parse_snapshot_id(const std::string& text);
// Nothing: there is no such snapshot (any more).
Result<std::optional<cluster::SnapshotInfo>> find_snapshot(Context& context, const std::string& snapshot_id);

// Where a list goes on: behind this one, in the order of creation. A token stays good when what it names is deleted, and
// what is created meanwhile comes later.
struct PageToken {
  int64_t created_ns = 0;
  std::string id;
  auto operator<=>(const PageToken&) const = default;
};
std::string page_token(const PageToken& token);
// Nothing for what page_token() cannot have made.
std::optional<PageToken> parse_page_token(const std::string& text);

}  // namespace hf::api::csi_driver
