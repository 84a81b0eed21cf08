// ClusterFile: what this node is a member of, and how it reaches the state store. Kept in
// <state_dir>/cluster.json (docs/formats/cluster-file.md), written last of all that makes a node a
// member: while it is not there, whatever else a broken attempt left behind means nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "runtime/file.h"
#include "state/etcd/member.h"
#include "state/etcd/options.h"

namespace hf::node {

// The etcd member that this node carries.
struct OwnMember {
  OwnMember() = default;
  uint16_t client_port = state::kEtcdPort;
  uint16_t peer_port = 2380;
  std::vector<std::pair<std::string, std::string>> initial;  // as in EtcdMemberOptions
  bool join = false;
};

// An etcd that was there before: --kv and what it wants.
struct ForeignEtcd {
  ForeignEtcd() = default;
  std::string url;  // "": none, the cluster's nodes carry its members
  std::string ca, cert, key;
  std::string user, password_file;
};

struct ClusterFile {
  ClusterFile() = default;
  ClusterId cluster;
  NodeId node;
  std::string address;                 // numeric, where the other nodes reach this one
  ForeignEtcd foreign;                 // or
  std::vector<std::string> endpoints;  // of the members that nodes carry, "address:port"
  std::optional<OwnMember> member;     // one of them is here
  uint64_t etcd_id = 0;                // EtcdStore::etcd_id(); another etcd is never used
  std::vector<std::string> joins;      // where nodes that sign are asked, "tcp:address:port"
};

inline constexpr uint32_t kClusterFileVersion = 1;
inline constexpr size_t kMaxClusterFileBytes = 64 * 1024;

// Pure. kCorruption for what encode cannot have written, kNewerFormat.
std::string encode_cluster_file(const ClusterFile& file);
Result<ClusterFile> decode_cluster_file(const std::string& text);

std::string cluster_file_path(const std::string& state_dir);
// Nothing on a node that is no member.
Task<Result<std::optional<ClusterFile>>> load_cluster_file(FileSystem& fs, std::string state_dir);
Task<Status> save_cluster_file(FileSystem& fs, std::string state_dir, ClusterFile file);

// The embedded store of a node that is a member now: set aside as before-cluster.db, so that nothing
// begins on it again by accident.
Task<Status> set_embedded_aside(FileSystem& fs, std::string state_dir);
// kNotFound where a node without cluster.json was a member once: what it knows is in its cluster's
// state store, and an empty one here would be another node's.
Task<Status> check_embedded(FileSystem& fs, std::string state_dir);

// "https://10.0.0.1:2379" → "10.0.0.1:2379".
std::string without_scheme(const std::string& url);
// "address:port", with brackets around IPv6.
std::string host_port(const std::string& address, uint32_t port);

// How to reach the state store, by the certificates below <state_dir>/trust where it is our own.
Result<state::EtcdOptions> etcd_options_of(const ClusterFile& file, const std::string& state_dir);
// Of the member that this node carries.
state::EtcdMemberOptions member_options_of(const ClusterFile& file, const std::string& state_dir);

}  // namespace hf::node
