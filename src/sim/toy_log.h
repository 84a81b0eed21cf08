// A toy write-ahead log, correct or with one classic bug: the proof that the simulated disk finds
// what loses data. Test code only.
//
//   put(key, value): append a record to <dir>/log, durable, then answer.
//   checkpoint():    write all pairs to <dir>/snap.tmp, sync, rename to <dir>/snap, sync the
//   directory,
//                    then start the log anew.
//   open():          read snap, then the log up to the first record that is not whole.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "runtime/file.h"
#include "runtime/gate.h"
#include "runtime/world.h"

namespace hf::sim {

enum class ToyBug {
  kNone,
  kNoSync,             // a record is written, not made durable
  kAckBeforeDurable,   // answers when the durable write has been started
  kNoChecksum,         // recovery believes any record that begins like one
  kNoDirSync,          // names are not made durable
  kParallelAppends,    // a record may be durable while one before it is not
  kInPlaceCheckpoint,  // writes over the old snapshot
  kRetriesSync,        // after a failed sync, syncs again and believes it
};

class ToyLog {
 public:
  ToyLog(World& world, std::string dir, ToyBug bug)
      : world_(world), dir_(std::move(dir)), bug_(bug) {}

  Task<Status> open();
  Task<Status> put(uint64_t key, std::string value);
  Task<Status> checkpoint();
  // Waits for what runs in the background.
  Task<void> stop();
  const std::map<uint64_t, std::string>& pairs() const { return pairs_; }
  uint64_t log_bytes() const { return tail_; }

 private:
  Task<Status> load_snapshot();
  Task<Status> replay();
  Task<Status> start_log();
  Task<Status> append(uint64_t at, std::string record);
  Task<void> append_later(uint64_t at, std::string record);
  Task<Status> sync_names();
  // One whole record at `at` of `bytes`; its length, or 0.
  size_t parse(const std::string& bytes, size_t at, uint64_t* key, std::string* value) const;
  std::string record_of(uint64_t key, const std::string& value);

  World& world_;
  const std::string dir_;
  const ToyBug bug_;
  std::unique_ptr<File> log_;
  uint64_t generation_ = 0;  // of the snapshot; records of another one do not count
  uint64_t sequence_ = 0;
  uint64_t tail_ = 0;
  bool failed_ = false;  // a durable write failed: nothing is promised any more
  std::map<uint64_t, std::string> pairs_;
  Mutex append_mutex_;
  Gate gate_;
};

}  // namespace hf::sim
