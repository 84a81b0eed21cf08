// SqliteDb: the blocking side of the embedded state store: one connection, one file, one process.
// Every call blocks; one call at a time; any thread. SqliteStore (sqlite_store.h) puts it behind
// the seam. The file's format is written down in docs/formats/state.md.
#pragma once

#include <sqlite3.h>

#include <memory>
#include <string>
#include <vector>

#include "state/kv_store.h"

namespace hf::state {

inline constexpr int kSqliteSchemaVersion = 1;
inline constexpr int kSqliteApplicationId = 0x48464b56;  // "HFKV"
// Bound of the file, as etcd's quota: a cluster's state is a few MiB, a runaway must not fill the
// disk.
inline constexpr uint64_t kMaxStateFileBytes = 2ull * 1024 * 1024 * 1024;

// What a write did: the outcome, and the events for those who watch.
struct Applied {
  Applied() = default;
  TxnOutcome outcome;
  std::vector<Event> events;
};

class SqliteDb {
 public:
  // Opens or makes the file (0600) in a directory that exists, takes its lock, checks it whole: the
  // integrity of SQLite's pages and the checksum of every row.
  //   kLocked        another process has it (the message names its pid)
  //   kNewerFormat   written by a newer version; nothing was changed
  //   kWrongOwner    a SQLite file of somebody else
  //   kCorruption    not a database, broken pages, or a row whose checksum does not match
  //   kNotFound, kReadOnly, kPermissionDenied, kNoSpace, kIo  as the file system says
  static Result<std::unique_ptr<SqliteDb>> open(const std::string& path, uint64_t max_bytes);
  ~SqliteDb();
  SqliteDb(const SqliteDb&) = delete;
  SqliteDb& operator=(const SqliteDb&) = delete;

  Result<std::optional<Entry>> get(const std::string& key);
  Result<Page> range(const RangeRequest& request);
  // On stable media when it returns. After an I/O error while committing nobody knows what the disk
  // holds (the kernel may have dropped the pages): kAmbiguous, and the store refuses everything
  // with kIo until it is opened again.
  Result<Applied> apply(const Txn& txn);
  Result<Lease> add_lease(Duration ttl);
  Result<Applied> remove_lease(LeaseId lease);
  Result<std::vector<Lease>> leases();
  Revision revision() const { return revision_; }

 private:
  class Statement;
  SqliteDb(std::string path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}
  Status connect(uint64_t max_bytes);
  Status make_or_check_schema();
  Status check_rows();
  Status exec(const char* sql);
  Result<int64_t> number(const char* sql);
  Status usable() const;
  Error error(int code, std::string_view what) const;
  Status begin();
  Status commit();
  void roll_back();
  Status put_row(const Txn::Op& op, Revision revision);
  Result<bool> remove_row(const std::string& key);
  Status write_changes(const Txn& txn, Revision next, std::vector<Event>* events);
  Status set_meta(const char* name, uint64_t value);
  Result<Entry> read_row(Statement& row);

  std::string path_;
  int lock_fd_;
  sqlite3* db_ = nullptr;
  Revision revision_ = 0;
  bool failed_ = false;
};

}  // namespace hf::state
