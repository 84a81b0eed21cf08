#include "node/identity.h"

#include <nlohmann/json.hpp>

#include "base/crc32c.h"
#include "base/log.h"
#include "runtime/file.h"
#include "runtime/random.h"

namespace hf::node {
namespace {

using nlohmann::json;
constexpr uint64_t kMaxIdentityBytes = 4096;

uint32_t checksum(const Identity& identity) {
  const std::string text = identity.cluster.to_string() + identity.node.to_string();
  return crc32c(as_bytes(text));
}

Error broken(std::string_view why) {
  return make_error(ErrorCode::kCorruption,
                    "{}; restore identity.json from a backup: without it the pools of this node cannot "
                    "be claimed",
                    why);
}

}  // namespace

std::string encode_identity(const Identity& identity) {
  return json{{"version", kIdentityVersion},
              {"cluster", identity.cluster.to_string()},
              {"node", identity.node.to_string()},
              {"crc32c", checksum(identity)}}
             .dump(2) +
         "\n";
}

Result<Identity> decode_identity(const std::string& text) {
  const json body = json::parse(text, nullptr, false);
  if (!body.is_object()) return broken("it is not a JSON object");
  const auto version = body.find("version");
  if (version == body.end() || !version->is_number_unsigned()) return broken("it has no version");
  if (version->get<uint64_t>() > kIdentityVersion) {
    return make_error(ErrorCode::kNewerFormat, "identity.json is of version {}, this daemon knows {}",
                      version->get<uint64_t>(), kIdentityVersion);
  }
  const auto cluster = body.find("cluster"), node = body.find("node"), crc = body.find("crc32c");
  if (cluster == body.end() || !cluster->is_string() || node == body.end() || !node->is_string() ||
      crc == body.end() || !crc->is_number_unsigned()) {
    return broken("a field is missing");
  }
  const auto cluster_id = ClusterId::parse(cluster->get<std::string>());
  const auto node_id = NodeId::parse(node->get<std::string>());
  if (!cluster_id || !node_id) return broken("an id does not parse");
  Identity identity;
  identity.cluster = *cluster_id;
  identity.node = *node_id;
  if (crc->get<uint64_t>() != checksum(identity)) return broken("its checksum does not hold");
  return identity;
}

Task<Result<Identity>> load_or_make_identity(World world, std::string state_dir) {
  const std::string path = state_dir + "/identity.json";
  Result<std::string> text = co_await world.fs.read_file(path, kMaxIdentityBytes);
  if (text.ok()) {
    Result<Identity> known = decode_identity(*text);
    if (!known.ok()) co_return known.error().with_context(path);
    co_return *known;
  }
  if (text.code() != ErrorCode::kNotFound) co_return text.error();
  Identity identity;
  identity.cluster = new_id<ClusterId>(world.random);
  identity.node = new_id<NodeId>(world.random);
  Status kept = co_await world.fs.write_file_atomic(path, encode_identity(identity), 0600);
  HF_CO_TRY(kept);
  HF_LOG(kInfo, "node", "identity_made cluster={} node={}", identity.cluster.to_string(),
         identity.node.to_string());
  co_return identity;
}

Task<Status> replace_identity(World world, std::string state_dir, Identity identity) {
  const std::string path = state_dir + "/identity.json";
  Status kept = co_await world.fs.write_file_atomic(path, encode_identity(identity), 0600);
  HF_CO_TRY(kept);
  HF_LOG(kInfo, "node", "identity_replaced cluster={} node={}", identity.cluster.to_string(),
         identity.node.to_string());
  co_return Status();
}

}  // namespace hf::node
