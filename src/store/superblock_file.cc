#include "store/superblock_file.h"

#include <cstring>
#include <optional>

#include "store/mutants.h"

namespace hf {
namespace {

Task<Status> write_slot(File& file, const AlignedBuffer& copy, uint64_t at) {
  Result<size_t> written = co_await file.write_durable_at(at, copy.span());
  HF_CO_TRY(written);
  AlignedBuffer back(copy.size());
  Result<size_t> n = co_await file.read_at(at, back.span());
  HF_CO_TRY(n);
  if (*n != copy.size() || std::memcmp(back.data(), copy.data(), copy.size()) != 0) {
    co_return make_error(ErrorCode::kIo, "{}: the device lost the write of a superblock at {}",
                         file.path(), at);
  }
  co_return Status();
}

// Both slots, one behind the other: a torn write leaves the other copy whole, and rot in one copy later
// does not take back a promise.
Task<Status> write_copies(File& file, const Superblock& superblock) {
  AlignedBuffer copy(superblock_encoded_bytes(superblock));
  encode_superblock(superblock, copy.span());
  const uint64_t first = superblock.generation % 2 * kSuperblockStride;
  if (mutant(StoreMutant::kOneSuperblockCopy)) co_return co_await write_slot(file, copy, 0);
  Status written = co_await write_slot(file, copy, first);
  HF_CO_TRY(written);
  co_return co_await write_slot(file, copy, kSuperblockStride - first);
}

// Most copies have no snapshots and fit the first read: thousands of replicas are opened at a start.
Task<Result<size_t>> read_copy(File& file, uint64_t at, AlignedBuffer& slot) {
  constexpr uint64_t kUsual = kSuperblockFirstRoom;
  Result<size_t> first = co_await file.read_at(at, slot.span().first(kUsual));
  if (!first.ok() || *first < kUsual) co_return first;
  const uint32_t bytes = superblock_bytes_hint(slot.span());
  if (bytes <= kUsual || bytes > slot.size()) co_return first;
  co_return co_await file.read_at(at, slot.span().first(round_up(bytes, kBlockSize)));
}

}  // namespace

Task<Status> create_superblock(FileSystem& fs, std::string path, const Superblock& superblock) {
  OpenOptions options;
  options.write = options.create = options.truncate = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await fs.open(path, options);
  HF_CO_TRY(file);
  Status sized = co_await (*file)->set_size(kSuperblockFileBytes);
  HF_CO_TRY(sized);
  Status written = co_await write_copies(**file, superblock);
  HF_CO_TRY(written);
  Result<size_t> synced = co_await (*file)->sync_data();
  HF_CO_TRY(synced);
  co_return Status();
}

Task<Result<Superblock>> load_superblock(FileSystem& fs, std::string path, bool settle) {
  OpenOptions options;
  options.direct = true;
  options.write = settle;
  Result<std::unique_ptr<File>> file = co_await fs.open(path, options);
  HF_CO_TRY(file);
  if (settle) {
    Result<size_t> synced = co_await (*file)->sync_data();
    HF_CO_TRY(synced);
  }
  AlignedBuffer slot(kSuperblockStride);
  std::optional<Superblock> best;
  std::optional<Error> worst;
  for (uint64_t i = 0; i < 2; ++i) {
    Result<size_t> n = co_await read_copy(**file, i * kSuperblockStride, slot);
    if (!n.ok()) {
      worst = n.error();
      continue;
    }
    Result<Superblock> decoded = decode_superblock(slot.span().first(*n));
    if (!decoded.ok()) {
      if (!worst || decoded.code() == ErrorCode::kNewerFormat) worst = decoded.error();
      continue;
    }
    if (!best || decoded->generation > best->generation) best = std::move(*decoded);
  }
  if (!best || (worst && worst->code() == ErrorCode::kNewerFormat)) {
    co_return worst->with_context(path);
  }
  co_return std::move(*best);
}

Task<Status> store_superblock(FileSystem& fs, std::string path, const Superblock& superblock) {
  OpenOptions options;
  options.write = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await fs.open(path, options);
  HF_CO_TRY(file);
  co_return co_await write_copies(**file, superblock);
}

Task<Status> reserve_superblock(FileSystem& fs, std::string path, uint64_t copy_bytes) {
  HF_ASSERT(copy_bytes <= kSuperblockStride, "{}", copy_bytes);
  OpenOptions options;
  options.write = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await fs.open(path, options);
  HF_CO_TRY(file);
  for (uint64_t slot = 0; slot < 2; ++slot) {
    Result<size_t> room = co_await (*file)->allocate(slot * kSuperblockStride, copy_bytes);
    if (room.code() == ErrorCode::kMissingFeature) co_return Status();  // then the writes find out
    HF_CO_TRY(room);
  }
  Result<size_t> synced = co_await (*file)->sync_data();
  if (synced.code() == ErrorCode::kNoSpace) {  // final, unlike an allocation's
    co_return make_error(ErrorCode::kIo, "{}", synced.error().message());
  }
  HF_CO_TRY(synced);
  co_return Status();
}

}  // namespace hf
