// What an operator does to an etcd: its members and its history. Over a session, with the
// same errors; with authentication on, its user needs the role root.
#pragma once

#include <string>
#include <vector>

#include "state/etcd/session.h"
#include "state/kv_store.h"

namespace hf::state {

inline constexpr size_t kMaxEtcdMembers = 32;

struct EtcdMemberInfo {
  EtcdMemberInfo() = default;
  uint64_t id = 0;
  std::string name;  // "": added, never started
  std::vector<std::string> peer_urls;
  std::vector<std::string> client_urls;
  bool learner = false;
};

// All of them, as the cluster itself knows them.
Task<Result<std::vector<EtcdMemberInfo>>> etcd_members(EtcdSession& session);
// Before the new member is started. A learner takes part in no majority until it is promoted, so a
// member that never comes up harms nobody. kAlreadyExists: the URL is a member's.
// kFailedPrecondition: there is a learner already, or the members have not all been connected for
// five seconds (so it is after each promotion); ask again.
Task<Result<EtcdMemberInfo>> etcd_add_member(EtcdSession& session, std::string peer_url,
                                             bool learner);
// kFailedPrecondition: it has not caught up yet; ask again.
Task<Status> etcd_promote_member(EtcdSession& session, uint64_t id);
// Success if it is no member. kFailedPrecondition: the others would be no majority.
Task<Status> etcd_remove_member(EtcdSession& session, uint64_t id);

// Forgets history before `revision`, whole on return.
Task<Status> etcd_compact(EtcdSession& session, Revision revision);

}  // namespace hf::state
