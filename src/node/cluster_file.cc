#include "node/cluster_file.h"

#include <nlohmann/json.hpp>

#include "base/crc32c.h"
#include "base/log.h"

namespace hf::node {
namespace {

using nlohmann::json;

Error broken(std::string_view why) {
  return make_error(ErrorCode::kCorruption,
                    "{}; restore cluster.json from a backup: without it this node does not know "
                    "its cluster",
                    why);
}

json body_of(const ClusterFile& file) {
  json body = {{"cluster", file.cluster.to_string()},
               {"node", file.node.to_string()},
               {"address", file.address},
               {"endpoints", file.endpoints},
               {"etcd_id", file.etcd_id},
               {"joins", file.joins},
               {"kv",
                {{"url", file.foreign.url},
                 {"ca", file.foreign.ca},
                 {"cert", file.foreign.cert},
                 {"key", file.foreign.key},
                 {"user", file.foreign.user},
                 {"password_file", file.foreign.password_file}}},
               {"member", nullptr}};
  if (file.member) {
    body["member"] = {{"client_port", file.member->client_port},
                      {"peer_port", file.member->peer_port},
                      {"initial", file.member->initial},
                      {"join", file.member->join}};
  }
  return body;
}

uint32_t checksum(const json& body) {
  const std::string text = body.dump();  // keys in order, no blanks
  return crc32c(as_bytes(text));
}

// Throws json::exception for a field that is missing or of another type.
void read_body(const json& body, ClusterFile* file) {
  const auto cluster = ClusterId::parse(body.at("cluster").get<std::string>());
  const auto node = NodeId::parse(body.at("node").get<std::string>());
  if (cluster) file->cluster = *cluster;
  if (node) file->node = *node;
  body.at("address").get_to(file->address);
  body.at("endpoints").get_to(file->endpoints);
  body.at("etcd_id").get_to(file->etcd_id);
  body.at("joins").get_to(file->joins);
  const json& kv = body.at("kv");
  kv.at("url").get_to(file->foreign.url);
  kv.at("ca").get_to(file->foreign.ca);
  kv.at("cert").get_to(file->foreign.cert);
  kv.at("key").get_to(file->foreign.key);
  kv.at("user").get_to(file->foreign.user);
  kv.at("password_file").get_to(file->foreign.password_file);
  const json& member = body.at("member");
  if (member.is_null()) return;
  file->member.emplace();
  member.at("client_port").get_to(file->member->client_port);
  member.at("peer_port").get_to(file->member->peer_port);
  member.at("initial").get_to(file->member->initial);
  member.at("join").get_to(file->member->join);
}

}  // namespace

std::string encode_cluster_file(const ClusterFile& file) {
  json text = body_of(file);
  const uint32_t crc = checksum(text);
  text["version"] = kClusterFileVersion;
  text["crc32c"] = crc;
  return text.dump(2) + "\n";
}

Result<ClusterFile> decode_cluster_file(const std::string& text) {
  json body = json::parse(text, nullptr, false);
  if (!body.is_object()) return broken("it is not a JSON object");
  const auto version = body.find("version"), crc = body.find("crc32c");
  if (version == body.end() || !version->is_number_unsigned()) return broken("it has no version");
  if (version->get<uint64_t>() > kClusterFileVersion) {
    return make_error(ErrorCode::kNewerFormat, "cluster.json is of version {}, this daemon knows {}",
                      version->get<uint64_t>(), kClusterFileVersion);
  }
  if (crc == body.end() || !crc->is_number_unsigned()) return broken("it has no checksum");
  const uint64_t said = crc->get<uint64_t>();
  body.erase("version");
  body.erase("crc32c");
  if (checksum(body) != said) return broken("its checksum does not hold");
  ClusterFile file;
  try {
    read_body(body, &file);
  } catch (const json::exception&) {
    return broken("a field is missing or of another type");
  }
  if (file.cluster.is_nil() || file.node.is_nil()) return broken("an id does not parse");
  return file;
}

std::string cluster_file_path(const std::string& state_dir) { return state_dir + "/cluster.json"; }

Task<Result<std::optional<ClusterFile>>> load_cluster_file(FileSystem& fs, std::string state_dir) {
  const std::string path = cluster_file_path(state_dir);
  Result<std::string> text = co_await fs.read_file(path, kMaxClusterFileBytes);
  if (text.code() == ErrorCode::kNotFound) co_return std::optional<ClusterFile>();
  HF_CO_TRY(text);
  Result<ClusterFile> file = decode_cluster_file(*text);
  if (!file.ok()) co_return file.error().with_context(path);
  co_return std::optional<ClusterFile>(std::move(*file));
}

Task<Status> save_cluster_file(FileSystem& fs, std::string state_dir, ClusterFile file) {
  const std::string path = cluster_file_path(state_dir);
  co_return co_await fs.write_file_atomic(path, encode_cluster_file(file), 0600);
}

Task<Status> set_embedded_aside(FileSystem& fs, std::string state_dir) {
  const std::string from = state_dir + "/state.db", to = state_dir + "/before-cluster.db";
  // The log first: beside a file that is not its own SQLite would not take it.
  const std::string ends[] = {"-wal", ""};
  for (const std::string& end : ends) {
    Status moved = co_await fs.rename(from + end, to + end);
    if (moved.code() == ErrorCode::kNotFound) continue;
    HF_CO_TRY(moved);
    HF_LOG(kInfo, "node", "embedded_store_set_aside as={}{}", to, end);
  }
  Status shared = co_await fs.unlink(from + "-shm");
  if (!shared.ok() && shared.code() != ErrorCode::kNotFound) co_return shared;
  co_return co_await fs.sync_dir(state_dir);
}

Task<Status> check_embedded(FileSystem& fs, std::string state_dir) {
  Result<FileInfo> store = co_await fs.stat(state_dir + "/state.db");
  if (store.code() != ErrorCode::kNotFound) co_return Status();
  Result<FileInfo> aside = co_await fs.stat(state_dir + "/before-cluster.db");
  if (!aside.ok()) co_return Status();
  co_return make_error(ErrorCode::kNotFound,
                       "{} is missing, and this node is a member of a cluster: restore that file; or, "
                       "to begin anew as another node, move {}/before-cluster.db away",
                       cluster_file_path(state_dir), state_dir);
}

std::string without_scheme(const std::string& url) {
  const size_t at = url.find("://");
  return at == std::string::npos ? url : url.substr(at + 3);
}

std::string host_port(const std::string& address, uint32_t port) {
  const bool v6 = address.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", address, v6 ? "]" : "", port);
}

Result<state::EtcdOptions> etcd_options_of(const ClusterFile& file, const std::string& state_dir) {
  state::EtcdOptions options;
  options.prefix = state::etcd_prefix(file.cluster.to_string());
  options.expect_etcd = file.etcd_id;
  if (file.foreign.url.empty()) {
    options.endpoints = file.endpoints;
    options.ca_file = state_dir + "/trust/ca.pem";
    options.cert_file = options.key_file = state_dir + "/trust/node.pem";
  } else {
    bool tls = false;
    Result<std::vector<std::string>> endpoints = state::parse_etcd_url(file.foreign.url, &tls);
    HF_TRY(endpoints);
    if (tls != !file.foreign.ca.empty()) {
      return make_error(ErrorCode::kInvalidArgument, "{}: {}", file.foreign.url,
                        tls ? "etcd+tls wants --etcd-ca, the certificate of the authority that "
                              "signed etcd's"
                            : "with --etcd-ca say etcd+tls://…: etcd:// is not encrypted");
    }
    options.endpoints = std::move(*endpoints);
    options.ca_file = file.foreign.ca;
    options.cert_file = file.foreign.cert;
    options.key_file = file.foreign.key;
    options.user = file.foreign.user;
    options.password_file = file.foreign.password_file;
  }
  HF_TRY(state::check_etcd_options(options));
  return options;
}

state::EtcdMemberOptions member_options_of(const ClusterFile& file, const std::string& state_dir) {
  state::EtcdMemberOptions options;
  options.dir = state_dir + "/etcd";
  options.name = file.node.to_string();
  options.address = file.address;
  options.token = file.cluster.to_string();
  options.client_port = file.member->client_port;
  options.peer_port = file.member->peer_port;
  options.initial = file.member->initial;
  options.join = file.member->join;
  options.client_tls.ca = state_dir + "/trust/ca.pem";
  options.client_tls.cert = options.client_tls.key = state_dir + "/trust/node.pem";
  options.client_tls.revoked = state_dir + "/trust/revoked.crl";
  options.peer_tls = options.client_tls;
  return options;
}

}  // namespace hf::node
