// ClusterVerbs: init, join and tokens (api/cluster_admin.h) on this node.
//
// init   CA and certificate → etcd member (or one that is there) → writes of the embedded store are
//        held, all records copied and read back → cluster.json → the daemon begins anew
// join   the token is used → etcd member as a learner → cluster.json → the daemon begins anew, and
//        makes its member a voter (membership.h)
//
// Until cluster.json is written nothing that was made counts: it is removed by the next attempt.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "api/cluster_admin.h"
#include "cluster/control.h"
#include "node/config.h"
#include "node/identity.h"
#include "node/membership.h"
#include "runtime/sync.h"
#include "runtime/world.h"
#include "state/held_store.h"

namespace hf::node {

inline constexpr size_t kStateStoreNodes = 3;  // so many of a cluster's first nodes carry an etcd member

// Of the node that the verbs change. References stay valid for their life.
struct ClusterVerbsPorts {
  World& world;
  const NodeConfig& config;
  const Identity& identity;
  cluster::Control& control;
  state::HeldStore* held;  // the embedded store; null on a member
  Membership* membership;  // null on a node that is none
  std::function<void()> restart;
};

class ClusterVerbs : public api::ClusterAdmin {
 public:
  explicit ClusterVerbs(ClusterVerbsPorts ports);

  Task<Result<api::MembershipInfo>> membership() override;
  Task<Result<api::ClusterChange>> init(api::InitCluster request) override;
  Task<Result<api::ClusterChange>> join(api::JoinCluster request) override;
  Task<Result<api::NewToken>> create_token(Duration life) override;
  Task<Result<std::vector<api::TokenInfo>>> list_tokens() override;
  Task<Status> revoke_token(std::string id) override;
  Task<Result<api::NodeGone>> decommission(std::string node, bool force) override;

 private:
  api::MembershipInfo now() const;
  Status must_be_member() const;
  Task<Result<std::string>> settle_address(std::string wished);
  Task<Status> ports_are_free(std::string address, bool signs);
  Task<Status> forget_attempt(bool keep_joining);
  Task<Result<uint64_t>> found(ClusterFile file);
  Task<Result<uint64_t>> move_to(ClusterFile* file);
  Task<Status> commit(ClusterFile file);
  Task<Status> has_nothing_of_its_own();
  Task<Status> enter(api::JoinCluster request, auth::JoinToken token, std::string address);
  Task<Status> add_member(ClusterFile* file);
  Task<Result<uint32_t>> remove_etcd_member(NodeId node);
  Task<Result<std::unique_ptr<state::EtcdStore>>> open_patiently(state::EtcdOptions options);
  Task<Status> remove_tree(std::string path);
  std::string etcd_dir() const { return ports_.config.state_dir + "/etcd"; }

  ClusterVerbsPorts ports_;
  World& world_;
  const std::string instance_;
  bool leaving_ = false;  // the daemon is about to begin anew
  Mutex one_at_a_time_;
};

}  // namespace hf::node
