// pool.json: a pool's identity, for people and programs. Written once, atomically.
//   {"magic":"holdfast-pool","format":1,"pool":…,"cluster":…,"node":…,"checksum":"crc32c:xxxxxxxx"}
// The checksum is that of the same text with the checksum's digits all zero.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/id.h"

namespace hf {

inline constexpr uint32_t kPoolFormat = 1;
inline constexpr uint64_t kMaxPoolFileBytes = 64 * 1024;

struct PoolFile {
  uint32_t format = kPoolFormat;
  PoolId pool;
  ClusterId cluster;
  NodeId node;
};

std::string encode_pool_file(const PoolFile& file);
// kCorruption (not JSON, fields missing, checksum), kNewerFormat.
Result<PoolFile> decode_pool_file(std::string_view text);

}  // namespace hf
