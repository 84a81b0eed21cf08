// OpenStorage SDK values ↔ ours. Pure. Which field means what: docs/sdk.md.
#pragma once

#include "cluster/control.h"
#include "openstorage/api.pb.h"
#include "volume/spec/inline_parser.h"

namespace hf::api {

// The keys of the grammar that a VolumeSpec sets. proto3 cannot tell zero from absent: zero is absent.
// kNotSupported for what has no meaning here (a format that Holdfast does not make).
Result<spec::OptionMap> sdk_options(const openstorage::api::VolumeSpec& spec,
                                    const google::protobuf::Map<std::string, std::string>& labels);
// The keys that an update sets; every set field that has no counterpart is kNotSupported by name.
Result<spec::OptionMap> sdk_update_options(
    const openstorage::api::VolumeSpecUpdate& update,
    const google::protobuf::Map<std::string, std::string>& labels);

void fill_sdk(const cluster::VolumeInfo& from, openstorage::api::Volume* to);
// A snapshot is shown as a read-only volume, as the SDK's clients expect.
void fill_sdk(const cluster::SnapshotInfo& from, openstorage::api::Volume* to);
void fill_sdk(const cluster::NodeInfo& from, openstorage::api::StorageNode* to);

}  // namespace hf::api
