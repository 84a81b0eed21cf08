// WatchHub: the recent history of a store and the watches on it, shared by the embedded backs.
//
// History is a bounded ring of events; a watch is a position in it, so that a slow watcher costs
// nothing and learns "compacted" when the ring has passed it by. It starts empty: whatever happened
// before this process began is compacted.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "runtime/sync.h"
#include "state/kv_store.h"

namespace hf::state {

inline constexpr size_t kMaxHistoryEvents = 8192;
inline constexpr size_t kMaxHistoryBytes = 8 * 1024 * 1024;
// A batch ends at the first revision border behind so many events.
inline constexpr size_t kWatchBatchEvents = 256;

class WatchHub {
 public:
  // `revision`: of the store now.
  explicit WatchHub(Revision revision);
  ~WatchHub();

  // The changes of one revision, which must be the next one.
  void publish(Revision revision, std::vector<Event> events);
  // Forgets what happened up to and including `revision`.
  void compact(Revision revision);
  // kLimitExceeded above kMaxWatches. The watch ends when `client` is cancelled, which must outlive
  // it.
  Result<std::unique_ptr<Watch>> open(std::string prefix, Revision from, CancelToken client);
  // Every watch ends with kClosed.
  void close();
  Revision revision() const;

 private:
  struct State;
  class HubWatch;
  std::shared_ptr<State> state_;
};

}  // namespace hf::state
