#include "node/config.h"

#include <fcntl.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "uring/owned_fd.h"
#include "uring/socket_address.h"

namespace hf::node {
namespace {

constexpr size_t kMaxConfigBytes = 64 * 1024;
constexpr int64_t kMaxScrubDays = 3650;
constexpr uint64_t kLeastScrubRate = 64 * kKiB;
constexpr size_t kMaxDomainName = 63;
constexpr size_t kMaxSocketPath = 107;
constexpr size_t kMaxRunDir = 80;  // with the sockets' own names behind it

Error bad_key(const std::string& file, std::string_view key, std::string_view accepted) {
  return make_error(ErrorCode::kInvalidArgument, "{}: {}: {}", file, key, accepted);
}

Status read_string(const std::string& file, std::string_view key, const toml::node& node,
                   std::string* out) {
  const auto value = node.value_exact<std::string>();
  if (!value) return bad_key(file, key, "give a string in quotes");
  *out = *value;
  return {};
}

Status read_seconds(const std::string& file, std::string_view key, const toml::node& node, int64_t least,
                    uint32_t* out) {
  const auto value = node.value_exact<int64_t>();
  if (!value || *value < least || *value > 86400) {
    return bad_key(file, key, fmt::format("give seconds, {} to 86400", least));
  }
  *out = static_cast<uint32_t>(*value);
  return {};
}

Status read_port(const std::string& file, std::string_view key, const toml::node& node, int64_t least,
                 int64_t most, uint16_t* out) {
  const auto value = node.value_exact<int64_t>();
  if (!value || *value < least || *value > most) {
    return bad_key(file, key, fmt::format("give {} to {}", least, most));
  }
  *out = static_cast<uint16_t>(*value);
  return {};
}

Status read_size(const std::string& file, std::string_view key, const toml::node& node,
                 uint64_t* out) {
  std::string text;
  HF_TRY(read_string(file, key, node, &text));
  Result<uint64_t> size = parse_size(text, 1);
  if (!size.ok()) return size.error().with_context(fmt::format("{}: {}", file, key));
  *out = *size;
  return {};
}

Status read_key(const std::string& file, std::string_view key, const toml::node& node,
                NodeConfig* config) {
  const std::pair<std::string_view, std::string*> strings[] = {
      {"state_dir", &config->state_dir},     {"run_dir", &config->run_dir},
      {"docker_socket", &config->docker_socket}, {"http_host", &config->http_host},
      {"grpc_tcp", &config->grpc_tcp},       {"nbd_tcp", &config->nbd_tcp},
      {"node_name", &config->node_name},     {"region", &config->region},
      {"zone", &config->zone},               {"rack", &config->rack},
      {"holder_program", &config->holder_program}, {"export", &config->export_kind}};
  for (const auto& [name, target] : strings) {
    if (name == key) return read_string(file, key, node, target);
  }
  if (key == "csi_socket") return read_string(file, key, node, &config->csi_socket.emplace());
  if (key == "nbd_tcp_open") {
    const auto value = node.value_exact<bool>();
    if (!value) return bad_key(file, key, "give true or false");
    config->nbd_tcp_open = *value;
    return {};
  }
  if (key == "http_port") return read_port(file, key, node, 0, 65535, &config->http_port);
  if (key == "peer_port") return read_port(file, key, node, 1, 65533, &config->peer_port);
  if (key == "etcd_client_port") return read_port(file, key, node, 1, 65535, &config->etcd_client_port);
  if (key == "etcd_peer_port") return read_port(file, key, node, 1, 65535, &config->etcd_peer_port);
  if (key == "docker_grace_s") return read_seconds(file, key, node, 5, &config->docker_grace_s);
  if (key == "rebuild_after_s") return read_seconds(file, key, node, 5, &config->rebuild_after_s);
  if (key == "full_pool_wait_s") return read_seconds(file, key, node, 0, &config->full_pool_wait_s);
  if (key == "scrub_every_days") {
    const auto value = node.value_exact<int64_t>();
    if (!value || *value < 0 || *value > kMaxScrubDays) {
      return bad_key(file, key, fmt::format("give days, 0 (never) to {}", kMaxScrubDays));
    }
    config->scrub_every_days = static_cast<uint32_t>(*value);
    return {};
  }
  if (key == "scrub_rate") return read_size(file, key, node, &config->scrub_rate_bytes);
  if (key == "journal_size") return read_size(file, key, node, &config->journal_bytes);
  if (key == "log_level") {
    std::string text;
    HF_TRY(read_string(file, key, node, &text));
    if (parse_log_level(text, &config->log_level)) return {};
    return bad_key(file, key, "give debug, info, warn, error or off");
  }
  return bad_key(file, key,
                 "unknown key; known are state_dir, run_dir, docker_socket, csi_socket, http_host, http_port, "
                 "grpc_tcp, nbd_tcp, nbd_tcp_open, peer_port, etcd_client_port, etcd_peer_port, node_name, "
                 "region, zone, rack, holder_program, export, docker_grace_s, rebuild_after_s, scrub_every_days, scrub_rate, "
                 "journal_size, full_pool_wait_s, log_level");
}

// Whether it is this machine's alone. kInvalidArgument: no numeric address with a port.
Result<bool> is_loopback(std::string_view key, const std::string& text, int port) {
  const Result<SocketAddress> address = SocketAddress::parse("tcp:" + text);
  const Result<std::vector<RawAddress>> raw =
      address.ok() ? resolve_numeric(*address) : Result<std::vector<RawAddress>>(address.error());
  if (!raw.ok() || raw->empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{} \"{}\": give a numeric address and a port, as 127.0.0.1:{}", key,
                      text, port);
  }
  const std::string numeric = address_text(raw->front());
  return numeric.starts_with("tcp:127.") || numeric.starts_with("tcp:[::1]:");
}

// Who can reach the address is root here: he can delete every volume, and mount one anywhere.
Status check_grpc_tcp(const NodeConfig& config) {
  if (config.grpc_tcp.empty()) return {};
  const Result<bool> loopback = is_loopback("grpc_tcp", config.grpc_tcp, 9100);
  HF_TRY(loopback);
  if (*loopback) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "grpc_tcp \"{}\" is not loopback: the API has no authentication there, whoever reaches the address "
                    "could delete every volume; give 127.0.0.1 and reach it through ssh -L",
                    config.grpc_tcp);
}

// Who can reach the address can read and write every volume.
Status check_nbd_tcp(const NodeConfig& config) {
  if (config.nbd_tcp.empty()) return {};
  const Result<bool> loopback = is_loopback("nbd_tcp", config.nbd_tcp, 10809);
  HF_TRY(loopback);
  if (*loopback || config.nbd_tcp_open) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "nbd_tcp \"{}\" is not loopback: NBD has no authentication here, whoever reaches "
                    "the address has every volume; if that network is trusted, set nbd_tcp_open = true",
                    config.nbd_tcp);
}

// As names in the lists of a volume's spec are.
Status check_domains(const NodeConfig& config) {
  const std::pair<std::string_view, const std::string*> names[] = {
      {"region", &config.region}, {"zone", &config.zone}, {"rack", &config.rack}};
  for (const auto& [key, name] : names) {
    const bool sound = name->size() <= kMaxDomainName && std::all_of(name->begin(), name->end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
    });
    if (sound) continue;
    return make_error(ErrorCode::kInvalidArgument, "{} \"{}\": give up to {} letters, digits, '.', '_' and '-'", key,
                      name->substr(0, 2 * kMaxDomainName), kMaxDomainName);
  }
  return {};
}

// Those of a cluster must not meet.
Status check_cluster_ports(const NodeConfig& config) {
  const auto among_peers = [&config](uint16_t port) {
    return port >= config.peer_port && port <= config.peer_port + kNodePortOffset;
  };
  if (config.etcd_client_port != config.etcd_peer_port && !among_peers(config.etcd_client_port) &&
      !among_peers(config.etcd_peer_port)) {
    return {};
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "etcd_client_port {} and etcd_peer_port {} must differ from each other and from peer_port {} and "
                    "the two behind it",
                    config.etcd_client_port, config.etcd_peer_port, config.peer_port);
}

// kNotFound for a file that is not there, and for nothing else: what is there and cannot be read may not be taken for
// the defaults.
Result<std::string> read_text(const std::string& path) {
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) {
    return make_error(ErrorCode::kNotFound, "there is no configuration {}", path);
  }
  std::string text(kMaxConfigBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = fd.valid() ? ::read(fd.get(), text.data() + size, text.size() - size) : -1;
    if (n < 0 && fd.valid() && errno == EINTR) continue;
    if (n < 0) {
      return make_error(ErrorCode::kInvalidArgument, "the configuration {} cannot be read: {}", path,
                        std::strerror(errno));
    }
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  if (size > kMaxConfigBytes) {
    return make_error(ErrorCode::kInvalidArgument, "{} is larger than {} bytes", path, kMaxConfigBytes);
  }
  text.resize(size);
  return text;
}

}  // namespace

Status read_config_file(const std::string& path, NodeConfig* config) {
  const Result<std::string> text = read_text(path);
  HF_TRY(text);
  try {
    const toml::table table = toml::parse(*text, path);
    for (const auto& [key, value] : table) HF_TRY(read_key(path, key.str(), value, config));
  } catch (const toml::parse_error& e) {
    return make_error(ErrorCode::kInvalidArgument, "{}:{}: {}", path, e.source().begin.line,
                      e.description());
  }
  return {};
}

Status check_config(const NodeConfig& config) {
  const std::pair<std::string_view, const std::string*> directories[] = {
      {"state_dir", &config.state_dir}, {"run_dir", &config.run_dir}};
  for (const auto& [name, path] : directories) {
    if (path->empty() || (*path)[0] != '/') {
      return make_error(ErrorCode::kInvalidArgument, "{} \"{}\": give an absolute path", name, *path);
    }
  }
  if (config.run_dir.size() > kMaxRunDir) {
    return make_error(ErrorCode::kInvalidArgument,
                      "run_dir {} is longer than {} bytes: the sockets in it could not be made",
                      config.run_dir, kMaxRunDir);
  }
  if (config.scrub_rate_bytes < kLeastScrubRate) {
    return make_error(ErrorCode::kInvalidArgument, "scrub_rate {}: give at least {} (a second), or scrub_every_days = 0",
                      format_size(config.scrub_rate_bytes), format_size(kLeastScrubRate));
  }
  if (config.journal_bytes < 16 * kMiB || config.journal_bytes > 16 * kGiB ||
      !is_aligned(config.journal_bytes, kBlockSize)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "journal_size {}: give a multiple of 4K from 16M to 16G",
                      format_size(config.journal_bytes));
  }
  const std::pair<std::string_view, const std::string*> others[] = {
      {"docker_socket", &config.docker_socket}, {"holder_program", &config.holder_program}};
  for (const auto& [name, path] : others) {
    if (!path->empty() && (*path)[0] != '/') {
      return make_error(ErrorCode::kInvalidArgument, "{} \"{}\": give an absolute path, or \"\"", name, *path);
    }
  }
  HF_TRY(check_domains(config));
  const std::string csi_socket = config.csi_socket_path();
  if (!csi_socket.empty() && (csi_socket[0] != '/' || csi_socket.size() > kMaxSocketPath)) {
    return make_error(ErrorCode::kInvalidArgument, "csi_socket \"{}\": give an absolute path of at most {} bytes, or \"\"",
                      csi_socket, kMaxSocketPath);
  }
  HF_TRY(check_grpc_tcp(config));
  HF_TRY(check_nbd_tcp(config));
  HF_TRY(check_cluster_ports(config));
  if (!config.export_kind.empty() && config.export_kind != "ublk" && config.export_kind != "nbd" &&
      config.export_kind != "fuse") {
    return make_error(ErrorCode::kInvalidArgument,
                      "export \"{}\": give ublk, nbd or fuse, or leave it out", config.export_kind);
  }
  return {};
}

}  // namespace hf::node
