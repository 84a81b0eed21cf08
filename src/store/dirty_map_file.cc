#include "store/dirty_map_file.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "store/mutants.h"

namespace hf {
namespace {

constexpr uint64_t kPairBytes = 2 * kBlockSize;

// A copy that cannot be read counts as a broken one: its bytes become such as no page has.
Task<Status> read_pairs(File& file, uint64_t offset, MutableByteSpan out) {
  std::memset(out.data(), 0, out.size());
  Result<size_t> all = co_await file.read_at(offset, out);
  if (all.ok()) {
    std::memset(out.data() + *all, 0, out.size() - *all);
    co_return Status();
  }
  if (all.code() != ErrorCode::kIo) co_return all.error();
  for (uint64_t at = 0; at < out.size(); at += kBlockSize) {
    const MutableByteSpan block = out.subspan(at, kBlockSize);
    std::memset(block.data(), 0, kBlockSize);
    Result<size_t> one = co_await file.read_at(offset + at, block);
    if (one.ok()) continue;
    if (one.code() != ErrorCode::kIo) co_return one.error();
    HF_PROBE("store.map_copy_unreadable");
    HF_LOG(kError, "store", "map_unreadable {} at {}: {}", file.path(), offset + at,
           one.error().message());
    std::memset(block.data(), 0xff, kBlockSize);
  }
  co_return Status();
}

Result<LoadedMapPage> choose_copy(const File& file, ByteSpan pair, const DirtyMapPlace& place) {
  Result<DirtyMapPage> a = decode_dirty_map_page(pair.first(kBlockSize), place);
  Result<DirtyMapPage> b = decode_dirty_map_page(pair.subspan(kBlockSize), place);
  LoadedMapPage loaded;
  for (const Result<DirtyMapPage>* copy : {&a, &b}) {
    if (copy->code() == ErrorCode::kNewerFormat) return copy->error().with_context(file.path());
  }
  const bool first = a.ok() && (!b.ok() || a->generation > b->generation);
  loaded.other = first ? 1 : 0;
  if (first) {
    loaded.page = *a;
  } else if (b.ok()) {
    loaded.page = *b;
  }
  loaded.settled = a.ok() && b.ok() && *a == *b;
  if (a.ok() != b.ok()) {
    HF_PROBE("store.map_copy_broken");
    HF_LOG(kWarn, "store", "map_copy_broken {}: copy {} of page {}, the other holds", file.path(),
           a.ok() ? 1 : 0, place.page);
  }
  if (a.ok() || b.ok() || mutant(StoreMutant::kBrokenMapEmpty)) return loaded;
  HF_PROBE("store.map_page_lost");
  HF_LOG(kError, "store",
         "map_page_lost {}: both copies of page {} are broken; all that it stands for counts as "
         "changed",
         file.path(), place.page);
  loaded.page = DirtyMapPage();
  loaded.page.set(0, kUnitsPerPage, true);
  loaded.lost = true;
  return loaded;
}

struct NewPage {
  uint64_t number = 0;
  uint32_t first_copy = 0;  // to be written
  AlignedBuffer bytes;
};

uint64_t offset_in_round(const NewPage& page, uint32_t round) {
  return dirty_map_offset(page.number, round == 0 ? page.first_copy : 1 - page.first_copy);
}

Task<Status> write_copies(File& file, const std::vector<NewPage>& pages, uint32_t round) {
  for (const NewPage& page : pages) {
    Result<size_t> written =
        co_await file.write_at(offset_in_round(page, round), page.bytes.span());
    HF_CO_TRY(written);
  }
  if (mutant(StoreMutant::kMapNotSynced)) co_return Status();
  Result<size_t> synced = co_await file.sync_data();
  if (synced.code() == ErrorCode::kNoSpace) {  // final, unlike a write's
    co_return make_error(ErrorCode::kIo, "{}", synced.error().message());
  }
  HF_CO_TRY(synced);
  AlignedBuffer back(kBlockSize);
  for (const NewPage& page : pages) {
    const uint64_t at = offset_in_round(page, round);
    Result<size_t> n = co_await file.read_at(at, back.span());
    HF_CO_TRY(n);
    if (*n == kBlockSize && std::memcmp(back.data(), page.bytes.data(), kBlockSize) == 0) continue;
    HF_PROBE("store.lost_map_write");
    co_return make_error(ErrorCode::kIo, "{}: the device lost the write of a page at {}",
                         file.path(), at);
  }
  co_return Status();
}

Task<Status> write_pages(File& file, const std::vector<NewPage>& pages) {
  if (pages.empty()) co_return Status();
  Status first = co_await write_copies(file, pages, 0);
  HF_CO_TRY(first);
  if (mutant(StoreMutant::kOneMapCopy)) co_return Status();
  co_return co_await write_copies(file, pages, 1);
}

// The numbers of the pages to bring up to date, ascending.
std::vector<uint64_t> pages_touched(const UnitChanges& changes, const MapUpdate& update) {
  std::vector<uint64_t> numbers;
  if (update.all_lost) {
    for (uint64_t n = 0; n <= update.last_unit / kUnitsPerPage; ++n) numbers.push_back(n);
  }
  for (const auto& [first, run] : changes.runs()) {
    const uint64_t last = (first + run.count - 1) / kUnitsPerPage;
    for (uint64_t n = first / kUnitsPerPage; n <= last; ++n) {
      if (numbers.empty() || numbers.back() < n) numbers.push_back(n);
    }
  }
  return numbers;
}

}  // namespace

bool apply_changes(const UnitChanges& changes, uint64_t number, DirtyMapPage& page) {
  bool set = false;
  const uint64_t base = number * kUnitsPerPage;
  changes.visit(base, kUnitsPerPage,
                [&](uint64_t first, uint64_t count, std::optional<bool> change) {
                  if (!change) return;
                  page.set(first - base, count, *change);
                  set = set || *change;
                });
  return set;
}

Result<uint64_t> map_pages_in(const File& file) {
  Result<uint64_t> size = file.size();
  if (!size.ok()) return size.error();
  return (*size + kPairBytes - 1) / kPairBytes;
}

Task<Result<std::vector<LoadedMapPage>>> read_map_pages(File& file, DirtyMapPlace first,
                                                        uint64_t count) {
  HF_ASSERT(count > 0 && count <= kMapPagesAtOnce, "{}", count);
  AlignedBuffer memory(count * kPairBytes);
  Status read = co_await read_pairs(file, dirty_map_offset(first.page, 0), memory.span());
  HF_CO_TRY(read);
  std::vector<LoadedMapPage> pages;
  pages.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    DirtyMapPlace place = first;
    place.page += i;
    Result<LoadedMapPage> chosen =
        choose_copy(file, memory.span().subspan(i * kPairBytes, kPairBytes), place);
    HF_CO_TRY(chosen);
    pages.push_back(*chosen);
  }
  co_return std::move(pages);
}

Task<Status> update_map(File& file, MapUpdate update, const UnitChanges& changes) {
  const std::vector<uint64_t> numbers = pages_touched(changes, update);
  std::vector<NewPage> pages;
  for (const uint64_t number : numbers) {
    DirtyMapPlace place = update.place;
    place.page = number;
    Result<std::vector<LoadedMapPage>> loaded = co_await read_map_pages(file, place, 1);
    HF_CO_TRY(loaded);
    LoadedMapPage& was = loaded->front();
    if (update.all_lost) {
      was.page.set(0, kUnitsPerPage, true);
      was.lost = true;
    }
    DirtyMapPage page = was.page;
    if (was.lost) page.newest = update.newest_if_lost;
    const bool set = apply_changes(changes, number, page);
    if (set) page.newest = std::max(page.newest, update.newest);
    if (was.settled && page == was.page) continue;
    ++page.generation;
    NewPage& sealed = pages.emplace_back();
    sealed.number = number;
    sealed.first_copy = was.other;
    sealed.bytes = AlignedBuffer(kBlockSize);
    encode_dirty_map_page(page, place, sealed.bytes.span());
    if (pages.size() < kMapPagesAtOnce) continue;
    Status written = co_await write_pages(file, pages);
    HF_CO_TRY(written);
    pages.clear();
  }
  co_return co_await write_pages(file, pages);
}

}  // namespace hf
