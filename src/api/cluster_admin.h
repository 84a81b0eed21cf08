// ClusterAdmin: how a node comes to be of a cluster, as the adapters see it; implemented by the
// composition root (node/cluster_verbs.h), since the daemon itself changes by it. Loop thread only.
//
// init and join leave everything ready on disk, answer, and then let the daemon begin anew in the same
// process: who asked waits until status() shows another `instance`. After an error or a crash the node
// is what it was, and the same request asked again finishes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/clock.h"
#include "runtime/task.h"

namespace hf::api {

// An etcd that is there already, and the files by which it is reached (absolute paths).
struct EtcdAccess {
  EtcdAccess() = default;
  std::string url;  // "": none
  std::string ca, cert, key;
  std::string user, password_file;
};

struct InitCluster {
  InitCluster() = default;
  std::string address;  // "": what this machine shows on its default route
  EtcdAccess kv;        // none: an etcd member of our own
};

struct JoinCluster {
  JoinCluster() = default;
  std::string token;  // a secret
  std::string address;
  EtcdAccess kv;  // files only: the cluster says where its etcd is
};

struct MembershipInfo {
  MembershipInfo() = default;
  bool member = false;
  std::string cluster, node;
  std::string address;             // where other nodes reach this one; "" of no member
  std::string state_store;         // "embedded", "etcd://…"
  bool carries_state_store = false;
  uint32_t state_store_voters = 0;  // etcd members that count for the majority; 0: not ours, not known
  bool signs = false;
  std::string instance;  // another one whenever the daemon has begun anew
};

struct ClusterChange {
  ClusterChange() = default;
  MembershipInfo before;
  bool already = false;  // nothing was to be done; the daemon does not begin anew
  uint64_t records = 0;  // that moved from the embedded store
};

struct NewToken {
  NewToken() = default;
  std::string id;
  std::string text;  // a secret
  WallTime expires;
  bool carries_state_store = false;
};

struct TokenInfo {
  TokenInfo() = default;
  std::string id, node;
  WallTime created, expires;
  bool used = false, expired = false;
  bool carries_state_store = false;
};

struct NodeGone {
  NodeGone() = default;
  std::string id, name;
  uint32_t replicas = 0;  // that it had
  uint32_t voters = 0;    // of the state store, that are left; 0: an etcd of somebody else
};

class ClusterAdmin {
 public:
  virtual ~ClusterAdmin() = default;
  virtual Task<Result<MembershipInfo>> membership() = 0;
  // kAlreadyExists: a member already, of something else than what is asked for.
  virtual Task<Result<ClusterChange>> init(InitCluster request) = 0;
  // kFailedPrecondition: it has pools or volumes of its own. kAlreadyExists. Errors of the token: auth/join.h.
  virtual Task<Result<ClusterChange>> join(JoinCluster request) = 0;
  // kFailedPrecondition, of these three: no member of a cluster.
  virtual Task<Result<NewToken>> create_token(Duration life) = 0;
  virtual Task<Result<std::vector<TokenInfo>>> list_tokens() = 0;
  virtual Task<Status> revoke_token(std::string id) = 0;
  // By name or id. Its etcd member, its certificate and its records go; asked again it finishes. Errors: those of
  // Control::check_decommission.
  virtual Task<Result<NodeGone>> decommission(std::string node, bool force) = 0;
};

}  // namespace hf::api
