// GroupSync: one datasync of a file serves everybody whose write to it ended before the sync began, as group
// commit does for the journal. A failure is final.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/file.h"
#include "runtime/sync.h"
#include "runtime/task.h"

namespace hf {

class GroupSync {
 public:
  // What the caller has written to the file is on the medium when this returns ok.
  Task<Status> run(File& file) {
    const uint64_t mine = ++written_;
    while (synced_ < mine && !failure_) {
      if (running_) {
        co_await done_.wait();
        continue;
      }
      running_ = true;
      const uint64_t covers = written_;
      Result<size_t> synced = co_await file.sync_data();
      running_ = false;
      if (synced.ok()) {
        synced_ = covers;
        ++syncs_;
      } else {
        failure_ = synced.error();
      }
      done_.notify_all();
    }
    if (synced_ < mine) co_return *failure_;
    co_return Status();
  }
  uint64_t syncs() const { return syncs_; }

 private:
  uint64_t written_ = 0;  // calls so far
  uint64_t synced_ = 0;   // of them, those that a sync covers
  uint64_t syncs_ = 0;
  bool running_ = false;
  std::optional<Error> failure_;
  Signal done_;
};

}  // namespace hf
