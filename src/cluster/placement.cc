// Where replicas go, and how well they stand: what the pure planner (planner.h) is asked, and what people are told.
#include <algorithm>

#include "cluster/plane.h"

namespace hf::cluster {
namespace {

constexpr size_t kMaxNamed = 5;

}  // namespace

FailureDomain Plane::domain_of(NodeId node) const {
  if (node == options_.node) return options_.domain;
  const auto known = neighbours_.find(node);
  return known == neighbours_.end() ? FailureDomain() : known->second.domain;
}

Seat Plane::seat_of(const VolumeRecord& record, const MemberRecord& member) const {
  PoolFacts facts;
  facts.pool.id = member.pool;
  facts.pool.node = member.node;
  facts.node_name = node_name(member.node);
  facts.domain = domain_of(member.node);
  Seat seat(member.node, facts.domain);
  seat.admitted = is_admitted(placement_of(record.spec, record.size_bytes), facts);
  return seat;
}

PlacementRequest Plane::request_for(const VolumeRecord& record, const Group& group) const {
  PlacementRequest request = placement_of(record.spec, record.size_bytes);
  for (const auto& [node, volumes] : group.volumes) request.of_group.insert(node);
  return request;
}

// The token is read before the volumes: who has placed one since then has changed it.
Task<Result<Plane::Group>> Plane::look_at_group(const VolumeRecord& record) {
  Group group;
  if (record.spec.group.empty()) co_return std::move(group);
  const std::string name = record.spec.group;
  const VolumeId self = record.id;
  group.key = Catalog::group_key(name);
  Result<std::optional<KeptName>> token = co_await catalog_.name(group.key);
  HF_CO_TRY(token);
  group.token = std::move(token).value();
  Result<std::vector<KeptVolume>> volumes = co_await catalog_.volumes();
  HF_CO_TRY(volumes);
  for (const KeptVolume& volume : volumes.value()) {
    if (volume->spec.group != name || volume->id == self) continue;
    for (const MemberRecord& member : volume->members) {
      if (member.state != MemberState::kLeaving) group.volumes[member.node].push_back(volume->name);
    }
  }
  co_return std::move(group);
}

std::string Plane::placement_trouble(const VolumeRecord& record) const {
  if (record.state != LifeState::kReady) return {};
  DomainKinds kinds;
  kinds.add(options_.domain);
  for (const auto& [node, known] : neighbours_) kinds.add(known.domain);
  std::vector<Seat> seats;
  for (const MemberRecord& member : record.members) {
    if (member.state == MemberState::kLeaving) continue;
    seats.push_back(seat_of(record, member));
    if (!seats.back().admitted) {
      return fmt::format("its replica on node {} is where nodes=, zones=, racks= or regions= do not allow one",
                         node_name(member.node));
    }
  }
  return describe_spread(placement_of(record.spec, record.size_bytes), seats, kinds);
}

std::string Plane::group_trouble(const VolumeRecord& record, const Group& group) const {
  for (const MemberRecord& member : record.members) {
    const auto there = group.volumes.find(member.node);
    if (member.state == MemberState::kLeaving || there == group.volumes.end()) continue;
    return fmt::format("it shares node {} with {} of its group {}", node_name(member.node), listed(there->second, kMaxNamed),
                       record.spec.group);
  }
  return {};
}

void Plane::tell_placement(const std::vector<KeptVolume>& volumes, std::vector<std::string>* problems) const {
  std::map<std::string, std::map<NodeId, std::vector<std::string>>> groups;
  std::map<std::string, std::vector<std::string>> troubled;  // by what is wrong
  for (const KeptVolume& volume : volumes) {
    const std::string wrong = placement_trouble(volume.record);
    if (!wrong.empty()) troubled[wrong].push_back(volume->name);
    if (volume->spec.group.empty()) continue;
    for (const MemberRecord& member : volume->members) {
      if (member.state == MemberState::kLeaving) continue;
      groups[volume->spec.group][member.node].push_back(volume->name);
    }
  }
  for (const auto& [wrong, names] : troubled) {
    problems->push_back(fmt::format("placement of volume{} {}: {}; what fails there takes several at once. Add a pool elsewhere, or name "
                                    "what is enough (holdfast volume update -o zones=, racks= or nodes=)",
                                    names.size() == 1 ? "" : "s", listed(names, kMaxNamed), wrong));
  }
  for (const auto& [group, nodes] : groups) {
    for (const auto& [node, names] : nodes) {
      if (names.size() < 2) continue;
      problems->push_back(fmt::format("placement group {}: {} share node {}; add a pool on another node", group,
                                      listed(names, kMaxNamed), node_name(node)));
    }
  }
}

}  // namespace hf::cluster
