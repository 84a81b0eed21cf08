#include "format/pool_file.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace hf {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kMagic = "holdfast-pool";
constexpr std::string_view kPrefix = "crc32c:";
constexpr std::string_view kNoDigits = "00000000";

Error bad(std::string_view what) {
  return make_error(ErrorCode::kCorruption, "pool.json: {}", what);
}

std::optional<std::string> text_of(const Json& json, const char* key) {
  const auto it = json.find(key);
  if (it == json.end() || !it->is_string()) return std::nullopt;
  return it->get<std::string>();
}

template <typename IdType>
std::optional<IdType> id_of(const Json& json, const char* key) {
  const std::optional<std::string> text = text_of(json, key);
  return text ? IdType::parse(*text) : std::nullopt;
}

}  // namespace

std::string encode_pool_file(const PoolFile& file) {
  Json json;
  json["magic"] = kMagic;
  json["format"] = file.format;
  json["pool"] = file.pool.to_string();
  json["cluster"] = file.cluster.to_string();
  json["node"] = file.node.to_string();
  json["checksum"] = std::string(kPrefix) + std::string(kNoDigits);
  std::string text = json.dump(2) + "\n";
  const uint32_t crc = crc32c(as_bytes(text));
  text.replace(text.find(kPrefix) + kPrefix.size(), kNoDigits.size(), fmt::format("{:08x}", crc));
  return text;
}

Result<PoolFile> decode_pool_file(std::string_view text) {
  if (text.size() > kMaxPoolFileBytes) return bad("too long");
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object()) return bad("not JSON");
  if (text_of(json, "magic") != kMagic) return bad("not the identity of a pool (magic)");
  const auto format = json.find("format");
  if (format == json.end() || !format->is_number_unsigned()) return bad("no format number");
  if (format->get<uint64_t>() > kPoolFormat) {
    return make_error(ErrorCode::kNewerFormat, "pool.json: format {}, this program knows up to {}",
                      format->get<uint64_t>(), kPoolFormat);
  }
  const size_t at = text.find(kPrefix);
  if (at == std::string_view::npos || at + kPrefix.size() + kNoDigits.size() > text.size()) {
    return bad("no checksum");
  }
  std::string blank(text);
  const std::string digits = blank.substr(at + kPrefix.size(), kNoDigits.size());
  blank.replace(at + kPrefix.size(), kNoDigits.size(), kNoDigits);
  if (digits != fmt::format("{:08x}", crc32c(as_bytes(blank)))) return bad("checksum");
  const auto pool = id_of<PoolId>(json, "pool");
  const auto cluster = id_of<ClusterId>(json, "cluster");
  const auto node = id_of<NodeId>(json, "node");
  if (!pool || !cluster || !node) return bad("an id is missing");
  PoolFile file;
  file.pool = *pool;
  file.cluster = *cluster;
  file.node = *node;
  return file;
}

}  // namespace hf
