#include "store/journal_file.h"

#include <cstring>
#include <optional>

namespace hf {

Task<Result<std::unique_ptr<File>>> create_journal(FileSystem& fs, std::string path,
                                                   JournalCheckpoint first, uint64_t file_bytes) {
  OpenOptions options;
  options.write = options.create = options.truncate = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await fs.open(path, options);
  HF_CO_TRY(file);
  Status locked = (*file)->try_lock();
  HF_CO_TRY(locked);
  // One reservation, so that the ring lies in few pieces; where it is not to be had the writes do it.
  Result<size_t> reserved = co_await (*file)->allocate(0, file_bytes);
  if (reserved.code() == ErrorCode::kNoSpace) co_return reserved.error();
  const AlignedBuffer zeroes = AlignedBuffer::zeroed(1 * kMiB);
  for (uint64_t at = 0; at < file_bytes;) {
    const uint64_t n = std::min<uint64_t>(zeroes.size(), file_bytes - at);
    Result<size_t> written = co_await (*file)->write_at(at, zeroes.span().first(n));
    HF_CO_TRY(written);
    at += n;
  }
  Result<size_t> synced = co_await (*file)->sync_data();
  HF_CO_TRY(synced);
  Status checkpoint = co_await write_checkpoint(**file, first);
  HF_CO_TRY(checkpoint);
  Status named = co_await fs.sync_dir(path.substr(0, path.rfind('/')));
  HF_CO_TRY(named);
  co_return std::move(*file);
}

Task<Result<JournalCheckpoint>> read_checkpoint(File& file, PoolId pool) {
  AlignedBuffer block(kBlockSize);
  std::optional<JournalCheckpoint> best;
  std::optional<Error> worst;
  for (uint64_t slot = 0; slot < kCheckpointSlots; ++slot) {
    Result<size_t> n = co_await file.read_at(slot * kBlockSize, block.span());
    if (!n.ok()) {
      worst = n.error();
      continue;
    }
    Result<JournalCheckpoint> decoded = decode_checkpoint(block.span().first(*n));
    if (!decoded.ok()) {
      if (!worst || decoded.code() == ErrorCode::kNewerFormat) worst = decoded.error();
      continue;
    }
    if (!best || decoded->generation > best->generation) best = *decoded;
  }
  if (worst && worst->code() == ErrorCode::kNewerFormat) {
    co_return worst->with_context(file.path());
  }
  if (!best) co_return worst->with_context(file.path());
  if (best->pool != pool) {
    co_return make_error(ErrorCode::kWrongOwner, "{} belongs to pool {}, not to {}", file.path(),
                         best->pool.to_string(), pool.to_string());
  }
  co_return *best;
}

namespace {

Task<Status> write_checkpoint_slot(File& file, const AlignedBuffer& block, uint64_t at) {
  Result<size_t> written = co_await file.write_durable_at(at, block.span());
  HF_CO_TRY(written);
  AlignedBuffer back(kBlockSize);
  Result<size_t> n = co_await file.read_at(at, back.span());
  HF_CO_TRY(n);
  if (*n != kBlockSize || std::memcmp(back.data(), block.data(), kBlockSize) != 0) {
    co_return make_error(ErrorCode::kIo, "{}: the device lost the write of a checkpoint at {}",
                         file.path(), at);
  }
  co_return Status();
}

}  // namespace

Task<Status> write_checkpoint(File& file, const JournalCheckpoint& checkpoint) {
  AlignedBuffer block = AlignedBuffer::zeroed(kBlockSize);
  encode_checkpoint(checkpoint, block.span());
  const uint64_t first = checkpoint.generation % kCheckpointSlots * kBlockSize;
  Status written = co_await write_checkpoint_slot(file, block, first);
  HF_CO_TRY(written);
  co_return co_await write_checkpoint_slot(file, block, kBlockSize - first);
}

}  // namespace hf
