#include "api/v1/convert.h"

#include "api/proto_time.h"
#include "api/text.h"
#include "volume/spec/codec.h"
#include "volume/spec/key_table.h"

namespace hf::api {
namespace {

void fill_findings(const cluster::ScrubFindings& from, holdfast::v1::ScrubFindings* to) {
  to->set_done_to(from.done_to);
  to->set_compared_bytes(from.compared_bytes);
  to->set_mended_bytes(from.mended_bytes);
  to->set_undecided_bytes(from.undecided_bytes);
  to->set_lost_bytes(from.lost_bytes);
  to->set_all_members(from.all_members);
}

const char* io_class_name(uint32_t io_class) {
  return io_class >= 3 ? "high" : io_class == 2 ? "medium" : "low";
}

}  // namespace

Result<uint32_t> parse_io_class(const std::string& text) {
  if (text.empty() || text == "low") return 1u;
  if (text == "medium") return 2u;
  if (text == "high") return 3u;
  return make_error(ErrorCode::kInvalidArgument, "io class \"{}\": give low, medium or high",
                    text.substr(0, 32));
}

void fill(const cluster::MountInfo& from, holdfast::v1::MountPoint* to) {
  to->set_path(from.path);
  to->set_holder(from.holder);
}

void fill(const cluster::VolumeInfo& from, holdfast::v1::Volume* to) {
  to->set_id(from.id.to_string());
  to->set_name(from.name);
  for (const spec::KeyInfo& key : spec::key_table()) {
    if (key.secret) continue;
    std::string value = key.format(from.spec);
    if (!value.empty()) (*to->mutable_spec())[std::string(key.name)] = std::move(value);
  }
  to->set_inline_spec(spec::to_inline(from.spec));
  to->set_size_bytes(from.size_bytes);
  to->set_used_bytes(from.used_bytes);
  to->set_state(to_string(from.state));
  to->set_message(from.message);
  for (const cluster::ReplicaInfo& replica : from.replicas) {
    holdfast::v1::Replica* out = to->add_replicas();
    out->set_id(replica.id.to_string());
    out->set_node(replica.node.to_string());
    out->set_pool(replica.pool.to_string());
    out->set_state(to_string(replica.state));
    out->set_node_name(replica.node_name);
    out->set_in_sync(replica.in_sync);
    out->set_resync_bytes_total(replica.resync_bytes_total);
    out->set_resync_bytes_done(replica.resync_bytes_done);
    out->set_message(replica.message);
  }
  if (from.attachment) {
    holdfast::v1::Attachment* out = to->mutable_attachment();
    out->set_node(from.attachment->node.to_string());
    out->set_node_name(from.attachment->node_name);
    out->set_export_(to_string(from.attachment->kind));
    out->set_device(from.attachment->device);
    out->set_mount_path(from.attachment->mount_path);
    for (const cluster::MountInfo& mount : from.attachment->mounts) fill(mount, out->add_mounts());
    fill_time(from.attachment->since, out->mutable_since());
  }
  to->set_parent(from.parent);
  fill_time(from.created, to->mutable_created());
  to->set_snapshot_count(from.snapshot_count);
  to->set_placement(from.placement);
  if (from.scrub) fill(*from.scrub, to->mutable_scrub());
}

void fill(const cluster::Promotion& from, holdfast::v1::Promotion* to) {
  to->set_done(from.done);
  to->set_volume(from.volume);
  to->set_node(from.node);
  for (const std::string& node : from.lost_nodes) to->add_lost_nodes(node);
  to->set_epoch(from.epoch);
  to->set_generation(from.generation);
  to->set_left_generation(from.left_generation);
  if (from.away_since.ns != 0) fill_time(from.away_since, to->mutable_away_since());
}

void fill(const cluster::ScrubInfo& from, holdfast::v1::ScrubReport* to) {
  to->set_volume(from.volume);
  to->set_size_bytes(from.size_bytes);
  to->set_running(from.running);
  to->set_message(from.message);
  if (from.begun.ns != 0) {
    fill_time(from.begun, to->mutable_begun());
    fill_findings(from.so_far, to->mutable_so_far());
  }
  if (from.ended.ns == 0) return;
  fill_time(from.ended, to->mutable_ended());
  fill_findings(from.last, to->mutable_last());
}

void fill(const cluster::SnapshotInfo& from, holdfast::v1::Snapshot* to) {
  to->set_id(from.id.to_string());
  to->set_name(from.name);
  to->set_volume_id(from.volume.to_string());
  to->set_volume_name(from.volume_name);
  to->set_size_bytes(from.size_bytes);
  fill_time(from.created, to->mutable_created());
  for (const auto& [key, value] : from.labels) (*to->mutable_labels())[key] = value;
  to->set_frozen(from.frozen);
}

void fill(const cluster::PoolInfo& from, holdfast::v1::Pool* to) {
  to->set_id(from.id.to_string());
  to->set_node(from.node.to_string());
  to->set_path(from.path);
  to->set_on_device(from.on_device);
  to->set_state(to_string(from.state));
  to->set_message(from.message);
  to->set_total_bytes(from.total_bytes);
  to->set_used_bytes(from.used_bytes);
  to->set_provisioned_bytes(from.provisioned_bytes);
  to->set_io_class(io_class_name(from.io_class));
  to->set_replica_count(from.replica_count);
}

void fill(const cluster::NodeInfo& from, holdfast::v1::Node* to) {
  to->set_draining(from.draining);
  to->set_replicas(from.replicas);
  to->set_region(from.domain.region);
  to->set_zone(from.domain.zone);
  to->set_rack(from.domain.rack);
  to->set_id(from.id.to_string());
  to->set_name(from.name);
  to->set_address(from.address);
  to->set_version(from.version);
  to->set_online(from.online);
  for (const cluster::PoolInfo& pool : from.pools) fill(pool, to->add_pools());
  for (const std::string& kind : from.exports) to->add_exports(kind);
}

void fill(const cluster::ClusterStatus& from, holdfast::v1::ClusterStatus* to) {
  to->set_id(from.id.to_string());
  to->set_state_store(from.state_store);
  to->set_healthy(from.healthy);
  for (const std::string& problem : from.problems) to->add_problems(problem);
  to->set_nodes(from.nodes);
  to->set_nodes_online(from.nodes_online);
  to->set_volumes(from.volumes);
  to->set_volumes_attached(from.volumes_attached);
  to->set_total_bytes(from.total_bytes);
  to->set_used_bytes(from.used_bytes);
  to->set_version(from.version);
}

}  // namespace hf::api
