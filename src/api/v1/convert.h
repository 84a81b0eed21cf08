// Control's values → holdfast.v1 messages. Pure.
#pragma once

#include "cluster/control.h"
#include "holdfast/v1/holdfast.pb.h"

namespace hf::api {

void fill(const cluster::VolumeInfo& from, holdfast::v1::Volume* to);
void fill(const cluster::MountInfo& from, holdfast::v1::MountPoint* to);
void fill(const cluster::Promotion& from, holdfast::v1::Promotion* to);
void fill(const cluster::ScrubInfo& from, holdfast::v1::ScrubReport* to);
void fill(const cluster::SnapshotInfo& from, holdfast::v1::Snapshot* to);
void fill(const cluster::PoolInfo& from, holdfast::v1::Pool* to);
void fill(const cluster::NodeInfo& from, holdfast::v1::Node* to);
void fill(const cluster::ClusterStatus& from, holdfast::v1::ClusterStatus* to);

// "low", "medium", "high"; empty is low.
Result<uint32_t> parse_io_class(const std::string& text);

}  // namespace hf::api
