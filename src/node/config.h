// The daemon's configuration: /etc/holdfast/holdfastd.toml, then flags. Unknown keys, wrong types and values
// out of range are errors that name the file, the key and what is accepted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/log.h"

namespace hf::node {

// Ports behind peer_port.
inline constexpr uint16_t kJoinPortOffset = 1;
inline constexpr uint16_t kNodePortOffset = 2;

struct NodeConfig {
  std::string state_dir = "/var/lib/holdfast";  // 0700: state store, identity, primary mounts
  std::string run_dir = "/run/holdfast";        // 0700: sockets, exports, pool mounts
  std::string docker_socket = "/run/docker/plugins/holdfast.sock";  // "": no Docker plugin
  // CSI for Kubernetes, Nomad and Mesos; "": none. Nothing: csi.sock in run_dir.
  std::optional<std::string> csi_socket;
  std::string http_host = "127.0.0.1";
  uint16_t http_port = 9010;     // /healthz and /metrics; 0: none
  std::string grpc_tcp;  // "127.0.0.1:9100", loopback only: the SDK on TCP as well; "": Unix socket only
  // The NBD server on TCP as well: "127.0.0.1:10809"; "": Unix socket only. There is no
  // authentication, so an address that is not loopback needs nbd_tcp_open, too.
  std::string nbd_tcp;
  bool nbd_tcp_open = false;
  // In a cluster: replica peers, joins at the port behind it, calls between nodes at the next one.
  uint16_t peer_port = 9011;
  uint16_t etcd_client_port = 2379;  // of an etcd member that this node carries, from init or join on
  uint16_t etcd_peer_port = 2380;
  std::string node_name;         // default: host name
  std::string region, zone, rack;  // where this node stands: replicas are spread over different ones
  std::string holder_program;    // default: holdfast-holder beside this program
  std::string export_kind;       // "ublk", "nbd", "fuse"; "": the best that the kernel offers
  // How long a mount that Docker asked for is believed although no process has it: its container may be starting.
  uint32_t docker_grace_s = 600;
  uint32_t rebuild_after_s = 1800;  // a replica's absence, after which it is made on another node
  uint32_t scrub_every_days = 14;   // of each volume; 0: never by itself
  uint64_t scrub_rate_bytes = 16u << 20;  // a second, of each replica, by itself
  uint64_t journal_bytes = 256u << 20;  // of new pools
  uint32_t full_pool_wait_s = 30;       // store's PoolConfig::full_patience
  LogLevel log_level = LogLevel::kInfo;

  std::string api_socket() const { return run_dir + "/api.sock"; }
  std::string csi_socket_path() const { return csi_socket.value_or(run_dir + "/csi.sock"); }
  std::string nbd_socket() const { return run_dir + "/nbd.sock"; }
  std::string holder_socket() const { return run_dir + "/holder.sock"; }
  std::string state_file() const { return state_dir + "/state.db"; }
  std::string mount_root() const { return state_dir + "/mounts"; }
};

// Fills `config` from a TOML file. kNotFound: there is none. kInvalidArgument: it cannot be read, or not be understood.
Status read_config_file(const std::string& path, NodeConfig* config);
// The whole of it makes sense: absolute paths, ports, lengths that sockets allow.
Status check_config(const NodeConfig& config);

}  // namespace hf::node
