// Words for states, shared by all adapters. Pure.
#pragma once

#include <string>

#include "cluster/control.h"

namespace hf::api {

std::string to_string(cluster::VolumeState state);    // "detached"
std::string to_string(cluster::ReplicaState state);   // "online"
std::string to_string(cluster::PoolState state);      // "full"
std::string to_string(cluster::ExportKind kind);      // "fuse"; "" for none
// kInvalidArgument naming what is accepted; "" is kNone.
Result<cluster::ExportKind> parse_export_kind(const std::string& text);
uint32_t online_replicas(const cluster::VolumeInfo& volume);
// The one place that a person has the volume mounted at. kNotAttached: at none; kInUse: only containers hold it;
// kInvalidArgument: at several, which are named.
Result<std::string> only_mount_path(const cluster::VolumeInfo& volume);

}  // namespace hf::api
