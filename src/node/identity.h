// Who this node is. Made at the first start, kept in <state_dir>/identity.json (versioned, checksummed),
// changed only by joining a cluster, which a node with pools is not let do: pools and volumes carry these ids.
#pragma once

#include <string>

#include "base/error.h"
#include "base/id.h"
#include "runtime/task.h"
#include "runtime/world.h"

namespace hf::node {

struct Identity {
  ClusterId cluster;
  NodeId node;
};

inline constexpr uint32_t kIdentityVersion = 1;

// Text form and back; pure. kCorruption for what encode cannot have written, kNewerFormat.
std::string encode_identity(const Identity& identity);
Result<Identity> decode_identity(const std::string& text);

// Reads it, or makes it durably. A broken file is an error: a new identity would orphan every pool.
Task<Result<Identity>> load_or_make_identity(World world, std::string state_dir);
// Of a node that has joined a cluster: what there was before goes.
Task<Status> replace_identity(World world, std::string state_dir, Identity identity);

}  // namespace hf::node
