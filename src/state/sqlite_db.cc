#include "state/sqlite_db.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"

namespace hf::state {
namespace {

constexpr const char* kSchema = R"sql(
CREATE TABLE meta(name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT;
CREATE TABLE kv(key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL, create_rev INTEGER NOT NULL,
  mod_rev INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE INDEX kv_lease ON kv(lease) WHERE lease <> 0;
CREATE TABLE lease(id INTEGER PRIMARY KEY NOT NULL, ttl_ms INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES('revision', 0), ('next_lease', 1);
)sql";

constexpr const char* kColumns =
    "SELECT key, value, create_rev, mod_rev, version, lease, crc FROM kv ";

uint32_t row_crc(const Entry& entry) {
  std::byte numbers[6 * 8];
  ByteWriter writer{MutableByteSpan(numbers)};
  writer.put<uint64_t>(entry.key.size());
  writer.put<uint64_t>(entry.value.size());
  writer.put<uint64_t>(entry.create_revision);
  writer.put<uint64_t>(entry.mod_revision);
  writer.put<uint64_t>(entry.version);
  writer.put<uint64_t>(entry.lease);
  const uint32_t crc = crc32c_extend(crc32c(ByteSpan(numbers)), as_bytes(entry.key));
  return crc32c_extend(crc, as_bytes(entry.value));
}

// Takes the lock that keeps a second process away. SQLite's own locks would let it in between two
// transactions. The pid inside is for people.
Result<int> take_lock(const std::string& path) {
  const std::string lock = path + ".lock";
  const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return Error::from_errno(errno, "open the state store's lock " + lock);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    char holder[24] = {};
    const ssize_t got = ::pread(fd, holder, sizeof holder - 1, 0);
    ::close(fd);
    if (why != EWOULDBLOCK) return Error::from_errno(why, "lock " + lock);
    return make_error(
        ErrorCode::kLocked,
        "the state store {} is held by process {}; one holdfastd runs per data directory", path,
        got > 0 ? holder : "(unknown)");
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0) {
    HF_LOG(kWarn, "state", "lock_pid_not_written file={}", lock);
  }
  return fd;
}

// SQLite would make the file with the mode of the umask.
Status make_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return Error::from_errno(errno, "open the state store " + path);
  struct stat info {};
  Status result;
  if (::fstat(fd, &info) != 0) {
    result = Error::from_errno(errno, "stat the state store " + path);
  } else if (!S_ISREG(info.st_mode)) {
    result =
        make_error(ErrorCode::kInvalidArgument, "the state store {} is not a regular file", path);
  } else if ((info.st_mode & 0077) != 0 && ::fchmod(fd, 0600) != 0) {
    result = Error::from_errno(errno, "make the state store private: chmod 0600 " + path);
  }
  ::close(fd);
  return result;
}

Status sync_parent(const std::string& path) {
  const std::string dir = path.substr(0, path.rfind('/'));
  const int fd = ::open(dir.empty() ? "/" : dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Error::from_errno(errno, "open directory " + dir);
  const int rc = ::fsync(fd);
  const int why = errno;
  ::close(fd);
  if (rc != 0) return Error::from_errno(why, "sync directory " + dir);
  return {};
}

}  // namespace

// A prepared statement for one use.
class SqliteDb::Statement {
 public:
  Statement(SqliteDb& db, const char* sql) : db_(db) {
    code_ = sqlite3_prepare_v2(db.db_, sql, -1, &statement_, nullptr);
  }
  Statement(SqliteDb& db, const std::string& sql) : Statement(db, sql.c_str()) {}
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  void bind(int index, int64_t value) {
    if (code_ == SQLITE_OK) code_ = sqlite3_bind_int64(statement_, index, value);
  }
  // The bytes must stay until the statement is gone. An empty blob is not NULL.
  void bind(int index, const std::string& value) {
    if (code_ != SQLITE_OK) return;
    code_ = value.empty()
                ? sqlite3_bind_zeroblob(statement_, index, 0)
                : sqlite3_bind_blob64(statement_, index, value.data(), value.size(), SQLITE_STATIC);
  }
  void bind_text(int index, const char* value) {
    if (code_ == SQLITE_OK) code_ = sqlite3_bind_text(statement_, index, value, -1, SQLITE_STATIC);
  }
  // True: a row is there.
  Result<bool> step() {
    if (code_ == SQLITE_OK) code_ = sqlite3_step(statement_);
    if (code_ == SQLITE_ROW) {
      code_ = SQLITE_OK;
      return true;
    }
    if (code_ == SQLITE_DONE) return false;
    return db_.error(code_,
                     sqlite3_sql(statement_) != nullptr ? sqlite3_sql(statement_) : "prepare");
  }
  Status run() {
    Result<bool> row = step();
    if (!row.ok()) return row.error();
    return {};
  }
  int64_t number(int column) { return sqlite3_column_int64(statement_, column); }
  std::string bytes(int column) {
    const void* data = sqlite3_column_blob(statement_, column);
    const int size = sqlite3_column_bytes(statement_, column);
    return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), size);
  }

 private:
  SqliteDb& db_;
  sqlite3_stmt* statement_ = nullptr;
  int code_;
};

Error SqliteDb::error(int code, std::string_view what) const {
  const int sys = db_ != nullptr ? sqlite3_system_errno(db_) : 0;
  const std::string why =
      fmt::format("the state store {}: {} ({}{})", path_, sqlite3_errstr(code), what,
                  sys != 0 ? fmt::format(", errno {}", sys) : std::string());
  switch (code & 0xff) {
    case SQLITE_FULL:
      return Error(ErrorCode::kNoSpace, why + "; make room on its file system");
    case SQLITE_READONLY:
      return Error(ErrorCode::kReadOnly, why);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Error(ErrorCode::kCorruption, why + "; restore the file from a backup");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Error(ErrorCode::kLocked, why + "; another program has it open");
    case SQLITE_CANTOPEN:
      return sys != 0 ? Error::from_errno(sys, why) : Error(ErrorCode::kIo, why);
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return Error(ErrorCode::kPermissionDenied, why);
    case SQLITE_NOMEM:
      return Error(ErrorCode::kLimitExceeded, why);
    case SQLITE_IOERR:
      return Error(sys == ENOSPC ? ErrorCode::kNoSpace : ErrorCode::kIo, why);
    default:
      return Error(ErrorCode::kInternal, why);
  }
}

Result<std::unique_ptr<SqliteDb>> SqliteDb::open(const std::string& path, uint64_t max_bytes) {
  if (path.empty() || path.front() != '/') {
    return make_error(ErrorCode::kInvalidArgument, "the state store's path {} is not absolute",
                      path);
  }
  Result<int> lock = take_lock(path);
  if (!lock.ok()) return lock.error();
  std::unique_ptr<SqliteDb> db(new SqliteDb(path, lock.value()));
  HF_TRY(make_file(path));
  HF_TRY(db->connect(max_bytes));
  HF_TRY(db->make_or_check_schema());
  HF_TRY(db->check_rows());
  HF_TRY(sync_parent(path));
  return db;
}

SqliteDb::~SqliteDb() {
  if (db_ != nullptr) sqlite3_close_v2(db_);
  ::close(lock_fd_);
}

Status SqliteDb::connect(uint64_t max_bytes) {
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path_.c_str(), &db_, flags, nullptr);
  if (code != SQLITE_OK) return error(code, "open");
  sqlite3_busy_timeout(db_, 2000);
  // The first read tells whether it is a database at all, before anything is changed.
  Result<int64_t> version = number("PRAGMA user_version");
  if (!version.ok()) return version.error();
  if (version.value() > kSqliteSchemaVersion) {
    return make_error(
        ErrorCode::kNewerFormat,
        "the state store {} has format {}, this version knows up to {}; install the newer "
        "holdfast again",
        path_, version.value(), kSqliteSchemaVersion);
  }
  Result<int64_t> tables = number("SELECT count(*) FROM sqlite_schema");
  if (!tables.ok()) return tables.error();
  Result<int64_t> application = number("PRAGMA application_id");
  if (!application.ok()) return application.error();
  if (tables.value() > 0 && application.value() != kSqliteApplicationId) {
    return make_error(ErrorCode::kWrongOwner,
                      "{} is a database of another program, not a state store", path_);
  }
  // Exclusive: no shared-memory file, and no foreign writer between two of our transactions.
  HF_TRY(exec("PRAGMA locking_mode=EXCLUSIVE"));
  HF_TRY(exec("PRAGMA journal_mode=WAL"));
  HF_TRY(exec("PRAGMA synchronous=FULL"));
  HF_TRY(exec("PRAGMA journal_size_limit=16777216"));
  HF_TRY(exec("PRAGMA cache_size=-2048"));
  Result<int64_t> page = number("PRAGMA page_size");
  if (!page.ok()) return page.error();
  HF_ASSERT(page.value() > 0);
  const uint64_t pages = std::max<uint64_t>(max_bytes / static_cast<uint64_t>(page.value()), 16);
  return exec(fmt::format("PRAGMA max_page_count={}", pages).c_str());
}

Status SqliteDb::make_or_check_schema() {
  Result<int64_t> version = number("PRAGMA user_version");
  if (!version.ok()) return version.error();
  if (version.value() == 0) {
    HF_TRY(begin());
    Status made = exec(kSchema);
    if (made.ok())
      made = exec(fmt::format("PRAGMA application_id={}", kSqliteApplicationId).c_str());
    if (made.ok()) made = exec(fmt::format("PRAGMA user_version={}", kSqliteSchemaVersion).c_str());
    if (made.ok()) made = commit();
    if (!made.ok()) roll_back();
    HF_TRY(made);
  }
  Statement check(*this, "PRAGMA integrity_check(1)");
  Result<bool> row = check.step();
  if (!row.ok()) return row.error();
  const std::string verdict = row.value() ? check.bytes(0) : "no answer";
  if (verdict != "ok") {
    return make_error(ErrorCode::kCorruption,
                      "the state store {} is damaged ({}); restore the file from a backup", path_,
                      verdict);
  }
  return {};
}

Status SqliteDb::check_rows() {
  Result<int64_t> revision = number("SELECT value FROM meta WHERE name='revision'");
  if (!revision.ok()) return revision.error();
  revision_ = static_cast<Revision>(revision.value());
  Statement rows(*this, std::string(kColumns));
  while (true) {
    Result<bool> row = rows.step();
    if (!row.ok()) return row.error();
    if (!row.value()) return {};
    Result<Entry> entry = read_row(rows);
    if (!entry.ok()) return entry.error();
    if (entry->mod_revision > revision_) {
      return make_error(ErrorCode::kCorruption,
                        "the state store {}: {} has revision {}, the store has {}", path_,
                        entry->key, entry->mod_revision, revision_);
    }
  }
}

Status SqliteDb::exec(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return error(code, "statement");
  return {};
}

Result<int64_t> SqliteDb::number(const char* sql) {
  Statement statement(*this, sql);
  Result<bool> row = statement.step();
  if (!row.ok()) return row.error();
  if (!row.value())
    return make_error(ErrorCode::kCorruption, "the state store {}: {} is empty", path_, sql);
  return statement.number(0);
}

Status SqliteDb::usable() const {
  if (!failed_) return {};
  return make_error(
      ErrorCode::kIo,
      "the state store {} failed a durable write and is out of service; mend the disk and "
      "restart holdfastd",
      path_);
}

Status SqliteDb::begin() {
  return exec("BEGIN IMMEDIATE");
}

Status SqliteDb::commit() {
  const int code = sqlite3_exec(db_, "COMMIT", nullptr, nullptr, nullptr);
  if (code == SQLITE_OK) return {};
  const Error why = error(code, "commit");
  if (why.code() == ErrorCode::kNoSpace) return why;  // found before the commit record was written
  failed_ = true;
  HF_LOG(kError, "state", "commit_failed {}", why.to_string());
  return Error(ErrorCode::kAmbiguous, why.message());
}

void SqliteDb::roll_back() {
  // SQLite has rolled back by itself after some errors; then this one says so, and is right.
  if (sqlite3_get_autocommit(db_) == 0)
    (void)sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
}

Result<Entry> SqliteDb::read_row(Statement& row) {
  Entry entry;
  entry.key = row.bytes(0);
  entry.value = row.bytes(1);
  entry.create_revision = static_cast<Revision>(row.number(2));
  entry.mod_revision = static_cast<Revision>(row.number(3));
  entry.version = static_cast<uint64_t>(row.number(4));
  entry.lease = static_cast<LeaseId>(row.number(5));
  if (row_crc(entry) != static_cast<uint32_t>(row.number(6))) {
    return make_error(
        ErrorCode::kCorruption,
        "the state store {}: the checksum of {} does not match; restore the file from a backup",
        path_, entry.key);
  }
  return entry;
}

Result<std::optional<Entry>> SqliteDb::get(const std::string& key) {
  HF_TRY(usable());
  Statement statement(*this, std::string(kColumns) + "WHERE key=?1");
  statement.bind(1, key);
  Result<bool> row = statement.step();
  if (!row.ok()) return row.error();
  std::optional<Entry> found;
  if (row.value()) {
    Result<Entry> entry = read_row(statement);
    if (!entry.ok()) return entry.error();
    found = std::move(entry).value();
  }
  return found;
}

Result<Page> SqliteDb::range(const RangeRequest& request) {
  HF_TRY(usable());
  Page page;
  page.revision = revision_;
  const std::string end = prefix_end(request.prefix);
  const bool behind = !request.after.empty() && request.after >= request.prefix;
  std::string sql = std::string(kColumns) + (behind ? "WHERE key>?1 " : "WHERE key>=?1 ");
  if (!end.empty()) sql += "AND key<?2 ";
  sql += "ORDER BY key LIMIT ?3";
  Statement rows(*this, sql);
  rows.bind(1, behind ? request.after : request.prefix);
  if (!end.empty()) rows.bind(2, end);
  rows.bind(3, static_cast<int64_t>(request.limit) + 1);
  size_t bytes = 0;
  while (true) {
    Result<bool> row = rows.step();
    if (!row.ok()) return row.error();
    if (!row.value()) return page;
    if (page.entries.size() >= request.limit || bytes >= kMaxPageBytes) {
      page.more = true;
      return page;
    }
    Result<Entry> entry = read_row(rows);
    if (!entry.ok()) return entry.error();
    bytes += entry->key.size() + entry->value.size();
    page.entries.push_back(std::move(entry).value());
  }
}

Status SqliteDb::put_row(const Txn::Op& op, Revision revision) {
  if (op.lease != 0) {
    Statement lease(*this, "SELECT 1 FROM lease WHERE id=?1");
    lease.bind(1, static_cast<int64_t>(op.lease));
    Result<bool> there = lease.step();
    if (!there.ok()) return there.error();
    if (!there.value())
      return make_error(ErrorCode::kNotFound, "lease {} of {} is gone", op.lease, op.key);
  }
  Result<std::optional<Entry>> before = get(op.key);
  if (!before.ok()) return before.error();
  Entry entry;
  entry.key = op.key;
  entry.value = op.value;
  entry.create_revision = before.value() ? before.value()->create_revision : revision;
  entry.version = before.value() ? before.value()->version + 1 : 1;
  entry.mod_revision = revision;
  entry.lease = op.lease;
  Statement put(*this, "INSERT OR REPLACE INTO kv VALUES(?1,?2,?3,?4,?5,?6,?7)");
  put.bind(1, entry.key);
  put.bind(2, entry.value);
  put.bind(3, static_cast<int64_t>(entry.create_revision));
  put.bind(4, static_cast<int64_t>(entry.mod_revision));
  put.bind(5, static_cast<int64_t>(entry.version));
  put.bind(6, static_cast<int64_t>(entry.lease));
  put.bind(7, static_cast<int64_t>(row_crc(entry)));
  return put.run();
}

Result<bool> SqliteDb::remove_row(const std::string& key) {
  Statement remove(*this, "DELETE FROM kv WHERE key=?1");
  remove.bind(1, key);
  HF_TRY(remove.run());
  return sqlite3_changes(db_) > 0;
}

Status SqliteDb::set_meta(const char* name, uint64_t value) {
  Statement set(*this, "UPDATE meta SET value=?2 WHERE name=?1");
  set.bind_text(1, name);
  set.bind(2, static_cast<int64_t>(value));
  return set.run();
}

Status SqliteDb::write_changes(const Txn& txn, Revision next, std::vector<Event>* events) {
  for (const Txn::Op& op : txn.ops()) {
    Event event;
    event.key = op.key;
    event.mod_revision = next;
    if (op.put) {
      HF_TRY(put_row(op, next));
      event.value = op.value;
    } else {
      Result<bool> removed = remove_row(op.key);
      if (!removed.ok()) return removed.error();
      if (!removed.value()) continue;
      event.removed = true;
    }
    events->push_back(std::move(event));
  }
  if (events->empty()) return {};
  return set_meta("revision", next);
}

Result<Applied> SqliteDb::apply(const Txn& txn) {
  HF_TRY(usable());
  Applied applied;
  applied.outcome.committed = true;
  applied.outcome.revision = revision_;
  for (const Txn::Compare& compare : txn.compares()) {
    Result<std::optional<Entry>> entry = get(compare.key);
    if (!entry.ok()) return entry.error();
    const Revision have = entry.value() ? entry.value()->mod_revision : 0;
    if (have != compare.mod_revision) applied.outcome.committed = false;
    applied.outcome.current.push_back(std::move(entry).value());
  }
  if (!applied.outcome.committed || txn.ops().empty()) return applied;
  applied.outcome.current.clear();
  HF_TRY(begin());
  Status done = write_changes(txn, revision_ + 1, &applied.events);
  if (done.ok()) done = commit();
  if (!done.ok()) {
    roll_back();
    return done.error();
  }
  if (!applied.events.empty()) applied.outcome.revision = ++revision_;
  return applied;
}

Result<Lease> SqliteDb::add_lease(Duration ttl) {
  HF_TRY(usable());
  Result<int64_t> next = number("SELECT value FROM meta WHERE name='next_lease'");
  if (!next.ok()) return next.error();
  Lease lease;
  lease.id = static_cast<LeaseId>(next.value());
  lease.ttl = ttl;
  HF_TRY(begin());
  Statement add(*this, "INSERT INTO lease VALUES(?1,?2)");
  add.bind(1, static_cast<int64_t>(lease.id));
  add.bind(2, std::chrono::duration_cast<std::chrono::milliseconds>(ttl).count());
  Status done = add.run();
  if (done.ok()) done = set_meta("next_lease", lease.id + 1);
  if (done.ok()) done = commit();
  if (!done.ok()) {
    roll_back();
    return done.error();
  }
  return lease;
}

Result<Applied> SqliteDb::remove_lease(LeaseId lease) {
  HF_TRY(usable());
  Txn txn;
  Statement keys(*this, "SELECT key FROM kv WHERE lease=?1");
  keys.bind(1, static_cast<int64_t>(lease));
  while (true) {
    Result<bool> row = keys.step();
    if (!row.ok()) return row.error();
    if (!row.value()) break;
    txn.remove(keys.bytes(0));
  }
  Applied applied;
  HF_TRY(begin());
  Status done = write_changes(txn, revision_ + 1, &applied.events);
  if (done.ok()) {
    Statement remove(*this, "DELETE FROM lease WHERE id=?1");
    remove.bind(1, static_cast<int64_t>(lease));
    done = remove.run();
  }
  if (done.ok()) done = commit();
  if (!done.ok()) {
    roll_back();
    return done.error();
  }
  if (!applied.events.empty()) ++revision_;
  applied.outcome.committed = true;
  applied.outcome.revision = revision_;
  return applied;
}

Result<std::vector<Lease>> SqliteDb::leases() {
  HF_TRY(usable());
  std::vector<Lease> all;
  Statement rows(*this, "SELECT id, ttl_ms FROM lease ORDER BY id");
  while (true) {
    Result<bool> row = rows.step();
    if (!row.ok()) return row.error();
    if (!row.value()) return all;
    Lease lease;
    lease.id = static_cast<LeaseId>(rows.number(0));
    lease.ttl = std::chrono::milliseconds(rows.number(1));
    all.push_back(lease);
  }
}

}  // namespace hf::state
