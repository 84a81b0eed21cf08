#include "sim/toy_log.h"

#include "base/bytes.h"
#include "base/crc32c.h"

namespace hf::sim {
namespace {

constexpr uint32_t kMagic = 0x746f794c;
constexpr size_t kHeader = 40;  // magic, crc, generation, sequence, key, length
constexpr uint64_t kFileLimit = 16 * kMiB;

}  // namespace

std::string ToyLog::record_of(uint64_t key, const std::string& value) {
  std::string out(kHeader + value.size(), '\0');
  MutableByteSpan bytes{reinterpret_cast<std::byte*>(out.data()), out.size()};
  ByteWriter writer(bytes);
  writer.put(kMagic);
  writer.put(uint32_t{0});
  writer.put(generation_);
  writer.put(++sequence_);
  writer.put(key);
  writer.put(static_cast<uint64_t>(value.size()));
  writer.put_bytes(as_bytes(value));
  ByteWriter(bytes.subspan(4)).put(crc32c(bytes.subspan(8)));
  return out;
}

size_t ToyLog::parse(const std::string& bytes, size_t at, uint64_t* key, std::string* value) const {
  ByteReader reader(as_bytes(bytes).subspan(at));
  const auto magic = reader.get<uint32_t>();
  const auto crc = reader.get<uint32_t>();
  const auto generation = reader.get<uint64_t>();
  const auto sequence = reader.get<uint64_t>();
  *key = reader.get<uint64_t>();
  const auto length = reader.get<uint64_t>();
  if (reader.failed() || magic != kMagic || length > reader.remaining()) return 0;
  if (generation != generation_ || sequence != sequence_ + 1) return 0;
  *value = bytes.substr(at + kHeader, length);
  const ByteSpan checked = as_bytes(bytes).subspan(at + 8, kHeader - 8 + length);
  if (bug_ != ToyBug::kNoChecksum && crc != crc32c(checked)) return 0;
  return kHeader + length;
}

Task<Status> ToyLog::sync_names() {
  if (bug_ == ToyBug::kNoDirSync) co_return Status();
  co_return co_await world_.fs.sync_dir(dir_);
}

Task<Status> ToyLog::open() {
  Status status = co_await world_.fs.make_directory(dir_, 0700);
  if (!status.ok() && status.code() != ErrorCode::kAlreadyExists) co_return status;
  if (bug_ != ToyBug::kNoDirSync) {
    status = co_await world_.fs.sync_dir("/");
    HF_CO_TRY(status);
  }
  status = co_await load_snapshot();
  HF_CO_TRY(status);
  co_return co_await replay();
}

Task<Status> ToyLog::load_snapshot() {
  Result<std::string> snap = co_await world_.fs.read_file(dir_ + "/snap", kFileLimit);
  if (snap.code() == ErrorCode::kNotFound) co_return Status();
  HF_CO_TRY(snap);
  // A snapshot is one record of generation 0: key = its generation, value = the pairs.
  uint64_t generation = 0;
  std::string body;
  if (parse(*snap, 0, &generation, &body) == 0) {
    co_return make_error(ErrorCode::kCorruption, "the snapshot is not whole");
  }
  generation_ = generation;
  ByteReader reader(as_bytes(body));
  while (reader.remaining() > 0) {
    const auto key = reader.get<uint64_t>();
    const auto length = reader.get<uint64_t>();
    const ByteSpan value = reader.get_bytes(length);
    if (reader.failed()) co_return make_error(ErrorCode::kCorruption, "the snapshot is cut");
    pairs_[key] = std::string(reinterpret_cast<const char*>(value.data()), value.size());
  }
  co_return Status();
}

Task<Status> ToyLog::replay() {
  OpenOptions options;
  options.write = options.create = true;
  Result<std::unique_ptr<File>> file = co_await world_.fs.open(dir_ + "/log", options);
  HF_CO_TRY(file);
  log_ = std::move(*file);
  Status named = co_await sync_names();
  HF_CO_TRY(named);
  // After a failed sync in an earlier life the cache may show what the medium does not have.
  log_->drop_cache();
  Result<std::string> bytes = co_await world_.fs.read_file(dir_ + "/log", kFileLimit);
  HF_CO_TRY(bytes);
  uint64_t key = 0;
  std::string value;
  while (const size_t n = parse(*bytes, tail_, &key, &value)) {
    pairs_[key] = value;
    ++sequence_;
    tail_ += n;
  }
  Status cut = co_await log_->set_size(tail_);
  HF_CO_TRY(cut);
  Result<size_t> synced = co_await log_->sync_data();
  HF_CO_TRY(synced);
  co_return Status();
}

Task<Status> ToyLog::append(uint64_t at, std::string record) {
  if (bug_ == ToyBug::kNoSync) {
    Result<size_t> n = co_await log_->write_at(at, as_bytes(record));
    HF_CO_TRY(n);
    co_return Status();
  }
  if (bug_ == ToyBug::kRetriesSync) {
    Result<size_t> n = co_await log_->write_at(at, as_bytes(record));
    HF_CO_TRY(n);
    n = co_await log_->sync_data();
    if (n.code() == ErrorCode::kIo) n = co_await log_->sync_data();
    HF_CO_TRY(n);
    co_return Status();
  }
  Result<size_t> n = co_await log_->write_durable_at(at, as_bytes(record));
  if (!n.ok()) failed_ = true;
  HF_CO_TRY(n);
  co_return Status();
}

Task<void> ToyLog::append_later(uint64_t at, std::string record) {
  Status ignored = co_await append(at, std::move(record));
  (void)ignored;
}

Task<Status> ToyLog::put(uint64_t key, std::string value) {
  co_await append_mutex_.lock();
  MutexGuard guard(append_mutex_);
  if (failed_) co_return make_error(ErrorCode::kFailedPool, "a durable write failed before");
  std::string record = record_of(key, value);
  const uint64_t at = tail_;
  tail_ += record.size();
  Status status;
  if (bug_ == ToyBug::kAckBeforeDurable) {
    spawn(gate_, append_later(at, std::move(record)));
  } else if (bug_ == ToyBug::kParallelAppends) {
    guard.unlock();
    status = co_await append(at, std::move(record));
  } else {
    status = co_await append(at, std::move(record));
  }
  HF_CO_TRY(status);
  pairs_[key] = std::move(value);
  co_return Status();
}

Task<Status> ToyLog::checkpoint() {
  co_await append_mutex_.lock();
  MutexGuard guard(append_mutex_);
  if (failed_) co_return make_error(ErrorCode::kFailedPool, "a durable write failed before");
  std::string body;
  for (const auto& [key, value] : pairs_) {
    std::string head(16, '\0');
    ByteWriter writer({reinterpret_cast<std::byte*>(head.data()), head.size()});
    writer.put(key);
    writer.put(static_cast<uint64_t>(value.size()));
    body += head + value;
  }
  const uint64_t next_generation = generation_ + 1;
  generation_ = sequence_ = 0;
  const std::string record = record_of(next_generation, body);
  const bool in_place = bug_ == ToyBug::kInPlaceCheckpoint;
  const std::string target = in_place ? dir_ + "/snap" : dir_ + "/snap.tmp";
  OpenOptions options;
  options.write = options.create = options.truncate = true;
  failed_ = true;  // until all of it has succeeded
  Result<std::unique_ptr<File>> file = co_await world_.fs.open(target, options);
  HF_CO_TRY(file);
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes(record));
  HF_CO_TRY(n);
  n = co_await (*file)->sync_data();
  HF_CO_TRY(n);
  if (!in_place) {
    Status renamed = co_await world_.fs.rename(target, dir_ + "/snap");
    HF_CO_TRY(renamed);
  }
  Status named = co_await sync_names();
  HF_CO_TRY(named);
  generation_ = next_generation;
  sequence_ = tail_ = 0;  // records of the old generation end a replay at once
  failed_ = false;
  co_return Status();
}

Task<void> ToyLog::stop() {
  co_await gate_.close();
  log_.reset();
}

}  // namespace hf::sim
