#include "cluster/testing/sim_cluster.h"

#include <algorithm>

namespace hf::cluster {
namespace {

constexpr Duration kSilence = std::chrono::milliseconds(700);

}  // namespace

// ---- Who serves what ----------------------------------------------------------------------------

class SimCluster::Volumes final : public VolumeHost {
 public:
  Volumes(SimCluster& cluster, Member& self, Life& life) : cluster_(cluster), self_(self), life_(life) {}

  Task<Status> configure(VolumeId volume, LineageId, std::vector<MemberInfo> members, uint64_t) override {
    Status come = co_await pass("configure");
    HF_CO_TRY(come);
    if (cluster_.shared_.contains(volume)) co_return Status();
    for (MemberInfo& member : members) member.in_sync = true;
    cluster_.shared_[volume].members = std::move(members);
    co_return co_await pass("configure");
  }
  Task<Status> forget(VolumeId volume) override {
    Status come = co_await pass("forget");
    HF_CO_TRY(come);
    const auto found = cluster_.shared_.find(volume);
    if (found == cluster_.shared_.end()) co_return Status();
    if (open_.contains(volume)) self_.world.violated("forget of a volume that is served here");
    cluster_.shared_.erase(found);
    co_return co_await pass("forget");
  }
  Task<Result<bool>> is_released(VolumeId volume) override {
    Status come = co_await pass("is_released");
    HF_CO_TRY(come);
    const auto found = cluster_.shared_.find(volume);
    co_return found != cluster_.shared_.end() && found->second.owner == nullptr;
  }
  Task<Result<std::shared_ptr<BlockDevice>>> open(VolumeId volume, NodeId) override {
    Status come = co_await pass("open");
    HF_CO_TRY(come);
    const auto found = cluster_.shared_.find(volume);
    if (found == cluster_.shared_.end()) {
      co_return make_error(ErrorCode::kNotFound, "volume {} has no configuration", volume.to_string());
    }
    bool answered = false;
    for (const MemberInfo& member : found->second.members) answered |= member.in_sync && answers(member);
    if (!answered) co_return Error(ErrorCode::kUnavailable, "no member that is in sync answers");
    // Who is away is left out; never all.
    for (MemberInfo& member : found->second.members) {
      if (!member.in_sync || answers(member)) continue;
      member.in_sync = false;
      // It stays as it is from now on.
      SimReplica* leaves = self_.find(member.pool, member.replica);
      const SimReplica* content_now = cluster_.canonical(found->second);
      if (leaves != nullptr && content_now != nullptr && leaves != content_now) leaves->head = content_now->head;
    }
    if (!open_.contains(volume) || self_.is_fenced(volume)) ++found->second.tenure;
    found->second.owner = &self_;
    found->second.incarnation = self_.incarnations;
    open_.insert(volume);
    Status back = co_await pass("open");
    HF_CO_TRY(back);
    const auto still = cluster_.shared_.find(volume);
    if (still == cluster_.shared_.end()) co_return Error(ErrorCode::kConflict, "it is gone");
    const MemberInfo& first = still->second.members.front();
    const SimReplica* content = cluster_.canonical(still->second);
    if (content == nullptr) {
      give_up(volume);
      co_return Error(ErrorCode::kUnavailable, "its replicas are gone");
    }
    std::shared_ptr<BlockDevice> device = life_.ports.device_of(first.pool, first.replica, content->head.size);
    co_return device;
  }
  Task<Status> close(VolumeId volume) override {
    Status come = co_await pass("close");
    HF_CO_TRY(come);
    give_up(volume);
    co_return Status();
  }
  Task<void> abandon(VolumeId volume) override {
    give_up(volume);
    Status come = co_await pass("abandon");
    (void)come.ok();
  }
  bool is_open(VolumeId volume) const override { return open_.contains(volume); }
  bool is_fenced(VolumeId volume) const override { return open_.contains(volume) && self_.is_fenced(volume); }
  Task<Status> snapshot(VolumeId volume, SnapshotId snapshot) override {
    Status come = co_await pass("snapshot");
    HF_CO_TRY(come);
    if (self_.is_fenced(volume)) co_return Error(ErrorCode::kFenced, "another node has it");
    Shared& shared = cluster_.shared_[volume];
    const SimReplica* content = cluster_.canonical(shared);
    if (content == nullptr) co_return Error(ErrorCode::kNotFound, "no replica");
    SimImage image = content->head;
    image.torn = false;
    for (const auto& [exported, device] : self_.world.exports) {
      if (exported != volume || !self_.world.is_mounted(device.device)) continue;
      image.torn = !self_.world.is_frozen(device.device, life_.life.loop().now());
    }
    for (const MemberInfo& member : shared.members) {
      SimReplica* replica = self_.find(member.pool, member.replica);
      if (replica != nullptr && member.in_sync) replica->snapshots.try_emplace(snapshot, image);
    }
    co_return co_await pass("snapshot");
  }
  Task<Status> resize(VolumeId volume, uint64_t size_bytes) override {
    Status come = co_await pass("resize");
    HF_CO_TRY(come);
    if (self_.is_fenced(volume)) co_return Error(ErrorCode::kFenced, "another node has it");
    for (const MemberInfo& member : cluster_.shared_[volume].members) {
      SimReplica* replica = self_.find(member.pool, member.replica);
      if (replica != nullptr) replica->head.size = std::max(replica->head.size, size_bytes);
    }
    co_return co_await pass("resize");
  }
  Task<Result<PromotionFacts>> promote(VolumeId volume, ReplicaId replica, std::vector<ReplicaId> lost,
                                       bool only_look) override {
    Status come = co_await pass("promote");
    HF_CO_TRY(come);
    const auto found = cluster_.shared_.find(volume);
    if (found == cluster_.shared_.end()) co_return Error(ErrorCode::kNotFound, "no configuration");
    PromotionFacts facts;
    if (only_look) co_return facts;
    std::vector<MemberInfo>& members = found->second.members;
    for (MemberInfo& member : members) {
      if (!member.in_sync || std::find(lost.begin(), lost.end(), member.replica) != lost.end()) continue;
      co_return Error(ErrorCode::kConflict, "others are in sync");
    }
    for (MemberInfo& member : members) {
      if (answers(member) && member.in_sync) self_.world.violated("promoted over one that has everything");
      member.in_sync = member.replica == replica;
    }
    const auto chosen = std::find_if(members.begin(), members.end(),
                                     [&](const MemberInfo& member) { return member.replica == replica; });
    if (chosen == members.end()) co_return Error(ErrorCode::kNotFound, "no such member");
    cluster_.left_[members.front().replica] = volume;
    std::iter_swap(chosen, members.begin());
    cluster_.left_.erase(members.front().replica);
    found->second.owner = nullptr;  // fenced
    Status back = co_await pass("promote");
    HF_CO_TRY(back);
    co_return facts;
  }
  // What is rotten on some and not on all in sync is mended.
  Task<Status> scrub(VolumeId volume, ScrubWork work) override {
    Result<Shared*> shared = served(volume);
    HF_CO_TRY(shared);
    const SimReplica* content = cluster_.canonical(**shared);
    if (content == nullptr) co_return Error(ErrorCode::kNotFound, "no replica");
    std::function<Status(ScrubFindings&)> look = [this, volume](ScrubFindings& seen) {
      Result<Shared*> now = served(volume);
      if (!now.ok()) return Status(now.error());
      std::vector<SimReplica*> copies;
      for (const MemberInfo& member : (*now)->members) {
        SimReplica* replica = self_.find(member.pool, member.replica);
        if (replica != nullptr && member.in_sync && answers(member)) copies.push_back(replica);
      }
      const bool any_good = std::any_of(copies.begin(), copies.end(), [](const SimReplica* copy) { return copy->rotten == 0; });
      for (SimReplica* copy : copies) {
        if (!any_good) seen.lost_bytes = std::max(seen.lost_bytes, copy->rotten);
        if (any_good) seen.mended_bytes += std::exchange(copy->rotten, 0);
      }
      return Status();
    };
    co_return co_await life_.ports.scrub_in_pieces(content->head.size, std::move(work), std::move(look));
  }
  Task<Result<std::vector<MemberInfo>>> members(VolumeId volume) override {
    const auto found = cluster_.shared_.find(volume);
    if (found == cluster_.shared_.end()) co_return Error(ErrorCode::kNotFound, "no configuration");
    cluster_.copy_on(found->second);
    co_return found->second.members;
  }
  Task<Result<std::map<VolumeId, std::vector<MemberInfo>>>> all_members() override {
    Status come = co_await pass("all_members");
    HF_CO_TRY(come);
    std::map<VolumeId, std::vector<MemberInfo>> all;
    for (auto& [volume, shared] : cluster_.shared_) {
      cluster_.copy_on(shared);
      all[volume] = shared.members;
    }
    co_return all;
  }
  Task<Status> add_member(VolumeId volume, MemberInfo member) override {
    Status come = co_await pass("add_member");
    HF_CO_TRY(come);
    Result<Shared*> shared = served(volume);
    HF_CO_TRY(shared);
    for (const MemberInfo& there : (*shared)->members) {
      if (there.replica == member.replica) co_return Status();
    }
    if (self_.find(member.pool, member.replica) == nullptr) self_.world.violated("a member that has no replica");
    member.in_sync = false;
    (*shared)->members.push_back(member);
    co_return co_await pass("add_member");
  }
  Task<Status> remove_member(VolumeId volume, ReplicaId replica) override {
    Status come = co_await pass("remove_member");
    HF_CO_TRY(come);
    Result<Shared*> shared = served(volume);
    HF_CO_TRY(shared);
    std::vector<MemberInfo>& members = (*shared)->members;
    const auto goes = std::find_if(members.begin(), members.end(),
                                   [&](const MemberInfo& member) { return member.replica == replica; });
    if (goes == members.end()) co_return Status();
    const auto stays = std::find_if(members.begin(), members.end(), [&](const MemberInfo& member) {
      return member.replica != replica && member.in_sync && answers(member);
    });
    if (stays == members.end()) co_return Error(ErrorCode::kFailedPrecondition, "nobody else is in sync");
    if (goes == members.begin()) {
      SimReplica* from = cluster_.canonical(**shared);
      SimReplica* to = self_.find(stays->pool, stays->replica);
      if (from != nullptr && to != nullptr) to->head = from->head;
      cluster_.left_[replica] = volume;
      std::iter_swap(goes, stays);
      members.erase(stays);
    } else {
      members.erase(goes);
    }
    co_return co_await pass("remove_member");
  }

 private:
  bool answers(const MemberInfo& member) const {
    return std::any_of(cluster_.nodes_.begin(), cluster_.nodes_.end(), [&](const auto& node) {
      return node->id == member.node && cluster_.has_open(*node, member.pool) && cluster_.reaches(self_, *node);
    });
  }
  Result<Shared*> served(VolumeId volume) {
    if (!open_.contains(volume)) return Error(ErrorCode::kFailedPrecondition, "it is not served here");
    if (self_.is_fenced(volume)) return Error(ErrorCode::kFenced, "another node has it");
    return &cluster_.shared_[volume];
  }
  Task<Status> pass(const char* what) {
    if (life_.life.is_dead()) co_return sim::dead_error(what);
    sim::Delay delay(life_.life, life_.life.loop().now() + static_cast<int64_t>(cluster_.prng_.below(2'000'000)));
    bool came = co_await delay;
    if (!came || life_.life.is_dead()) co_return sim::dead_error(what);
    co_return Status();
  }
  void give_up(VolumeId volume) {
    if (open_.erase(volume) == 0) return;
    const auto found = cluster_.shared_.find(volume);
    if (found != cluster_.shared_.end() && !self_.is_fenced(volume)) found->second.owner = nullptr;
  }

  SimCluster& cluster_;
  Member& self_;
  Life& life_;
  std::set<VolumeId> open_;
};

bool SimCluster::Member::is_fenced(VolumeId volume) {
  const auto found = cluster.shared_.find(volume);
  if (found == cluster.shared_.end()) return true;
  return found->second.owner != this || found->second.incarnation != incarnations;
}

bool SimCluster::Member::is_member(ReplicaId replica) {
  for (const auto& [volume, shared] : cluster.shared_) {
    if (shared.owner == nullptr || shared.owner->incarnations != shared.incarnation) continue;
    for (const MemberInfo& member : shared.members) {
      if (member.replica == replica) return true;
    }
  }
  return false;
}

uint64_t SimCluster::Member::tenure(VolumeId volume) {
  const auto found = cluster.shared_.find(volume);
  return found == cluster.shared_.end() ? 0 : found->second.tenure;
}

SimReplica* SimCluster::Member::find(PoolId pool, ReplicaId replica) {
  for (const auto& node : cluster.nodes_) {
    const auto found = node->world.pools.find(pool);
    if (found == node->world.pools.end()) continue;
    const auto there = found->second.replicas.find(replica);
    return there == found->second.replicas.end() ? nullptr : &there->second;
  }
  return nullptr;
}

bool SimCluster::has_open(const Member& node, PoolId pool) const {
  if (node.life == nullptr || node.life->life.is_dead()) return false;
  const auto found = node.world.pools.find(pool);
  return found != node.world.pools.end() && found->second.opened_by.contains(node.world.living);
}

void SimCluster::copy_on(Shared& shared) {
  if (shared.owner == nullptr || shared.owner->life == nullptr) return;
  const SimReplica* content = canonical(shared);
  if (content == nullptr) return;
  for (MemberInfo& member : shared.members) {
    if (member.in_sync || prng_.below(3) == 0) continue;
    for (const auto& node : nodes_) {
      if (node->id != member.node || !has_open(*node, member.pool) || !reaches(*shared.owner, *node)) continue;
      SimReplica* replica = node->find(member.pool, member.replica);
      if (replica == nullptr) continue;
      if (replica != content) replica->head = content->head;
      member.in_sync = true;
    }
  }
}

SimReplica* SimCluster::Member::successor(ReplicaId replica) {
  const auto left = cluster.left_.find(replica);
  if (left == cluster.left_.end()) return nullptr;
  const auto shared = cluster.shared_.find(left->second);
  return shared == cluster.shared_.end() ? nullptr : cluster.canonical(shared->second);
}

SimReplica* SimCluster::canonical(const Shared& shared) {
  const MemberInfo& first = shared.members.front();
  return nodes_.front()->find(first.pool, first.replica);
}

// ---- What nodes ask of each other ---------------------------------------------------------------

class SimCluster::Calls final : public NodeCalls {
 public:
  Calls(SimCluster& cluster, Member& from, NodeId to) : cluster_(cluster), from_(from), to_(to) {}
  Task<Result<NodeFacts>> facts() override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Result<NodeFacts> facts = co_await (*there)->facts();
    co_return facts;
  }
  Task<Status> converge(VolumeId volume) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Status done = co_await (*there)->converge(volume);
    co_return unless_dead(done);
  }
  Task<Status> settle(VolumeId volume) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Status done = co_await (*there)->settle(volume);
    co_return unless_dead(done);
  }
  Task<Status> let_go(VolumeId volume) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Status done = co_await (*there)->let_go(volume);
    co_return unless_dead(done);
  }
  Task<Status> detach(VolumeId volume) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Status done = co_await (*there)->detach(volume);
    co_return unless_dead(done);
  }
  Task<Status> take(VolumeId volume, bool stays, bool force) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Status done = co_await (*there)->take(volume, stays, force);
    co_return unless_dead(done);
  }
  Task<Result<ScrubInfo>> scrub(VolumeId volume, uint64_t bytes_per_second, bool only_look) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Result<ScrubInfo> told = co_await (*there)->scrub(volume, bytes_per_second, only_look);
    co_return told;
  }
  Task<Status> cut(CreateSnapshot request) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Status done = co_await (*there)->cut(request);
    co_return unless_dead(done);
  }
  Task<Result<std::vector<MemberInfo>>> members(VolumeId volume) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Result<std::vector<MemberInfo>> members = co_await (*there)->members(volume);
    co_return members;
  }
  Task<Result<std::vector<SnapshotId>>> snapshots(VolumeId volume) override {
    Result<ControlPlane*> there = co_await arrive();
    HF_CO_TRY(there);
    Result<std::vector<SnapshotId>> snapshots = co_await (*there)->snapshots(volume);
    co_return snapshots;
  }

 private:
  Task<Result<ControlPlane*>> arrive() {
    sim::Incarnation& life = from_.life->life;
    if (life.is_dead()) co_return sim::dead_error("ask");
    Member* to = nullptr;
    for (const auto& node : cluster_.nodes_) {
      if (node->id == to_) to = node.get();
    }
    const bool silent = to != nullptr && !cluster_.reaches(from_, *to);
    const int64_t takes = silent ? kSilence.count() : static_cast<int64_t>(cluster_.prng_.below(1'000'000));
    sim::Delay delay(life, life.loop().now() + takes);
    bool came = co_await delay;
    if (!came || life.is_dead()) co_return sim::dead_error("ask");
    if (silent) co_return Error(ErrorCode::kTimeout, "says nothing");
    if (to == nullptr || to->life == nullptr || to->life->life.is_dead()) {
      co_return Error(ErrorCode::kUnavailable, "nobody listens there");
    }
    co_return &to->life->control;
  }
  // Who was asked died in the middle.
  static Status unless_dead(const Status& done) {
    if (done.code() != ErrorCode::kCancelled && done.code() != ErrorCode::kClosed) return done;
    return Error(ErrorCode::kUnavailable, done.error().message());
  }

  SimCluster& cluster_;
  Member& from_;
  const NodeId to_;
};

class SimCluster::Links final : public Peers {
 public:
  Links(SimCluster& cluster, Member& self) : cluster_(cluster), self_(self) {}
  void know(NodeId, std::string) override {}
  NodeCalls& node(NodeId node) override {
    std::unique_ptr<Calls>& calls = nodes_[node];
    if (!calls) calls = std::make_unique<Calls>(cluster_, self_, node);
    return *calls;
  }

 private:
  SimCluster& cluster_;
  Member& self_;
  std::map<NodeId, std::unique_ptr<Calls>> nodes_;
};

bool SimCluster::reaches(const Member& from, const Member& to) const {
  return !cuts_.contains(std::minmax(from.index, to.index));
}

// ---- Life ---------------------------------------------------------------------------------------

SimCluster::Life::Life(SimCluster& cluster, Member& member)
    : life(cluster.loop_, member.world.living, cluster.prng_.fork()),
      clock(life, cluster.model_),
      entropy(cluster.prng_.fork()),
      ports(member.world, life, cluster.prng_.fork(), cluster.faults),
      store(cluster.server_, clock, &ports),
      volumes(std::make_unique<Volumes>(cluster, member, *this)),
      links(std::make_unique<Links>(cluster, member)),
      control(ControlPorts{ports, ports, ports, store, clock, entropy, volumes.get(), links.get()},
              cluster.options(member)) {
  ports.set_store(&store);
}

SimCluster::SimCluster(uint64_t seed, size_t nodes)
    : loop_(seed),
      prng_(seed ^ 0xc1u),
      forever_(loop_, 1, prng_.fork()),
      model_(prng_.fork()),
      clock_(forever_, model_),
      server_(clock_) {
  for (size_t i = 0; i < nodes; ++i) {
    nodes_.push_back(std::make_unique<Member>(*this, i));
    nodes_.back()->id = NodeId::from_random(prng_.next(), prng_.next());
  }
}

SimCluster::~SimCluster() {
  for (size_t i = 0; i < size(); ++i) {
    if (is_up(i)) loop_.run(stop(i));
  }
  loop_.run(server_.close());
}

ControlOptions SimCluster::options(const Member& member) const {
  ControlOptions options;
  options.node = member.id;
  options.node_name = std::string("node-") + static_cast<char>('a' + member.index);
  options.address = options.node_name;
  options.version = "test";
  options.domain = member.domain;
  options.scrub_every = scrub_every;
  options.boot_id = member.boot;
  options.mount_root = "/m";
  options.capabilities.clone = true;
  options.capabilities.sticky = true;
  options.capabilities.max_replicas = 3;
  return options;
}

Task<Status> SimCluster::start(size_t node) {
  Member& member = *nodes_[node];
  HF_ASSERT(!member.life);
  ++member.incarnations;
  member.world.living = 100 * (node + 1) + member.incarnations;
  member.life = std::make_unique<Life>(*this, member);
  co_return co_await member.life->control.start();
}

Task<void> SimCluster::crash(size_t node) {
  Member& member = *nodes_[node];
  member.life->ports.kill();
  Status stopped = co_await member.life->control.stop();
  (void)stopped.ok();
  member.life.reset();
  ++member.incarnations;  // what it served is served by nobody
}

Task<void> SimCluster::reboot(size_t node) {
  if (is_up(node)) co_await crash(node);
  nodes_[node]->world.reboot();
  nodes_[node]->boot += "'";
}

Task<void> SimCluster::stop(size_t node) {
  Member& member = *nodes_[node];
  Status stopped = co_await member.life->control.stop();
  (void)stopped.ok();
  co_await member.life->store.close();
  // In order: what it served it gives back.
  for (auto& [volume, shared] : shared_) {
    if (shared.owner == &member && shared.incarnation == member.incarnations) shared.owner = nullptr;
  }
  member.life.reset();
  ++member.incarnations;
}

bool SimCluster::is_served(VolumeId volume) const {
  const auto found = shared_.find(volume);
  return found != shared_.end() && found->second.owner != nullptr;
}

size_t SimCluster::replicas(size_t node) const {
  size_t count = 0;
  for (const auto& [id, pool] : nodes_[node]->world.pools) count += pool.replicas.size();
  return count;
}

Task<void> SimCluster::sleep(Duration d) {
  Status slept = co_await clock_.sleep_for(d, CancelToken());
  HF_ASSERT(slept.ok());
}

bool SimCluster::write(size_t node, VolumeId volume) {
  Member& member = *nodes_[node];
  const auto exported = member.world.exports.find(volume);
  if (exported == member.world.exports.end() || exported->second.served_by != member.world.living) return false;
  if (exported->second.refuses || member.is_fenced(volume)) return false;
  SimReplica* content = member.world.content(exported->second.pool, exported->second.replica);
  if (content == nullptr) return false;
  ++content->head.data;
  return true;
}

}  // namespace hf::cluster
