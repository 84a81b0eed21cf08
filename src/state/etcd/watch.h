// A watch on etcd: store.h says what it promises. One stream of its own per watch.
#pragma once

#include <memory>
#include <string>

#include "state/etcd/session.h"
#include "state/kv_store.h"

namespace hf::state {

// Of keys below `prefix` (in etcd's terms) from revision `from`. `open_watches` counts it while it
// is there. Null when the session is closing.
std::unique_ptr<Watch> open_etcd_watch(EtcdSession& session, std::string prefix, Revision from,
                                       std::shared_ptr<size_t> open_watches);

}  // namespace hf::state
