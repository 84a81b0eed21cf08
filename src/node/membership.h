// Membership: a node as a member of a cluster, for as long as its daemon runs: its certificates, the
// etcd member that it carries, the state store over etcd, TLS to the other nodes; what they ask of
// one that signs; renewals, and what changes about the others.
//
//   trust files ── certificate ──┬── etcd member (as a child) ◀── EtcdStore ── control plane
//                                ├── TlsNetwork: peers
//                                └── JoinService: new nodes (only where certificates are signed)
//
// start() waits for as long as the state store does not answer, and says so: a node never begins
// without what its cluster knows. Once it has started, nothing of the data path needs etcd.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "auth/join.h"
#include "auth/tls.h"
#include "node/cluster_file.h"
#include "node/config.h"
#include "runtime/cancel.h"
#include "runtime/gate.h"
#include "runtime/sync.h"
#include "runtime/world.h"
#include "state/etcd/member.h"
#include "state/etcd/store.h"

namespace hf::node {

// For an etcd that takes no start without one: of nobody.
Task<Status> make_empty_list(World& world, auth::TrustFiles& files, const auth::Authority& signer);

// Written before records are copied into an etcd, removed by the first daemon that runs on them:
// while it is there, nobody has used what stands beside it.
inline constexpr char kMovingKey[] = "holdfast/v1/moving";

class Membership {
 public:
  // `tell` hears in words what is waited for. kCancelled when `stop` comes first. kMissingFeature: no
  // etcd is installed. kCorruption, kNotFound, kWrongOwner: certificates or data of this node are
  // missing or another's; the state store is not this cluster's any more.
  static Task<Result<std::unique_ptr<Membership>>> start(World& world, std::string state_dir,
                                                         uint16_t peer_port, ClusterFile file,
                                                         CancelToken stop,
                                                         std::function<void(std::string)> tell);
  ~Membership();  // after stop()

  // From now on: answers to nodes that want to join or to renew, own renewals, changes of the others.
  void serve();
  // Ends what serve() began, then TLS: peers' listeners and streams must be closed before.
  Task<void> stop_serving();
  // The state store and the etcd member, last of all.
  Task<void> stop();

  const ClusterFile& file() const { return file_; }
  state::EtcdStore& store() { return *store_; }
  auth::TrustStore& trust() { return *trust_; }
  // Streams to and from nodes of this cluster and no others.
  auth::TlsNetwork& network() { return *network_; }
  // Numeric, where others reach this node; its peers' port is peer_port().
  const std::string& address() const { return file_.address; }
  uint16_t peer_port() const { return peer_port_; }
  bool signs() const { return static_cast<bool>(signer_); }
  // Etcd members that vote, as last seen; 0 with an etcd of somebody else.
  size_t voters() const { return voters_; }
  // Where the state store is, for who joins: "address:port", or "etcd://…" of an etcd that was there.
  std::vector<std::string> endpoints() const;
  // Where a token says to ask, this node first: all that sign and are not revoked.
  Task<Result<std::vector<std::string>>> join_addresses();

 private:
  Membership(World& world, std::string state_dir, uint16_t peer_port, ClusterFile file,
             CancelToken stop, std::function<void(std::string)> tell);
  Task<Status> load_trust();
  Task<Status> renew_what_has_ended();
  Task<Status> start_member();
  Task<Status> open_store();
  Task<Status> check_store();
  Task<Status> pause(std::string why);

  Task<void> follow_revoked();
  Task<void> list_revoked();
  Task<void> answer_joins();
  Task<void> renew_daily();
  Task<Status> renew_once();
  Task<void> watch_members();
  Task<Status> look_at_members();
  Task<void> use(auth::Credentials credentials);

  World& world_;
  const std::string state_dir_;
  const uint16_t peer_port_;
  ClusterFile file_;
  CancelToken stop_;
  std::function<void(std::string)> tell_;
  auth::TrustFiles files_;
  auth::Credentials credentials_;
  auth::Authority signer_;  // null where nothing is signed
  std::unique_ptr<state::EtcdMember> member_;
  std::unique_ptr<state::EtcdStore> store_;
  std::unique_ptr<auth::TrustStore> trust_;
  std::unique_ptr<auth::TlsEndpoint> tls_;
  std::unique_ptr<auth::TlsNetwork> network_;
  std::unique_ptr<auth::JoinService> joins_;
  std::set<NodeId> revoked_;
  size_t voters_ = 0;
  Mutex listing_;
  bool stopped_ = false;
  CancelSource stopping_;
  Gate gate_;
};

}  // namespace hf::node
