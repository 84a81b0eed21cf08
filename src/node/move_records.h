// Copies what a node's embedded store knows into the etcd of its new cluster.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "runtime/task.h"
#include "state/kv_store.h"

namespace hf::node {

// `to` holds afterwards what `from` holds, which nobody writes meanwhile, and kMovingKey (membership.h):
// read back and compared. May be asked again after any failure. kAlreadyExists: `to` holds records
// that somebody has used. Answers how many records there are.
Task<Result<uint64_t>> move_records(state::KvStore& from, state::KvStore& to);

}  // namespace hf::node
