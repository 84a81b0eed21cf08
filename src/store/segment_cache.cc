#include "store/segment_cache.h"

#include "base/log.h"
#include "runtime/fault_point.h"

namespace hf {

void SegmentCache::forget(Lru::iterator it) {
  table_bytes_ -= it->table_bytes;
  entries_.erase(it->key);
  lru_.erase(it);
}

void SegmentCache::trim() {
  auto it = lru_.end();
  while (it != lru_.begin() && (entries_.size() > max_files_ || table_bytes_ > max_table_bytes_)) {
    --it;
    if (it->segment == nullptr || it->segment.use_count() > 1) continue;
    HF_PROBE("store.segment_evicted");
    const auto victim = it++;
    forget(victim);
  }
}

// One copy of the page is broken. If a crash tore it, the other copy is the right one, and whatever it
// does not know yet is in the journal. If it rotted, the other copy may be older than the data: a CRC
// that is too old shows when the block is read, but "never written" would not. So those are looked at.
Task<Status> settle_doubtful_page(File& file, CrcTable& table, uint32_t page) {
  AlignedBuffer blocks(256 * kBlockSize);
  for (uint32_t b = table.first_block_of(page); b < table.end_block_of(page);) {
    if (table.get(b) != 0) {
      ++b;
      continue;
    }
    uint32_t stop = b + 1;
    while (stop < table.end_block_of(page) && table.get(stop) == 0 && stop - b < 256) ++stop;
    const uint64_t bytes = uint64_t{stop - b} * kBlockSize;
    Result<size_t> n = co_await file.read_at(b * kBlockSize, blocks.span().first(bytes));
    HF_CO_TRY(n);
    for (uint32_t i = b; i < stop; ++i) {
      if (!all_zero(blocks.span().subspan(uint64_t{i - b} * kBlockSize, kBlockSize))) {
        table.set(i, kPoisonCrc);
      }
    }
    b = stop;
  }
  co_return Status();
}

Task<Result<std::shared_ptr<Segment>>> SegmentCache::load(const SegmentPlace& place,
                                                          SegmentKey key) {
  const std::string path = place.directory + "/" + segment_name(key.index, key.layer);
  OpenOptions options;
  options.write = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await fs_.open(path, options);
  if (file.code() == ErrorCode::kNotFound) {
    co_return make_error(ErrorCode::kCorruption, "segment file {} is missing", path);
  }
  HF_CO_TRY(file);
  CrcTable table(place.geometry, place.family, key.index);
  AlignedBuffer copies(place.geometry.tables_bytes());
  Result<size_t> n = co_await (*file)->read_at(place.geometry.page_offset(0, 0), copies.span());
  HF_CO_TRY(n);
  if (*n != copies.size()) {
    co_return make_error(ErrorCode::kCorruption, "segment file {} is too short for its CRC table",
                         path);
  }
  const CrcTable::Loaded loaded = table.load(copies.span());
  if (!loaded.broken.empty()) {
    HF_PROBE("store.table_page_broken");
    broken_pages_ += loaded.broken.size();
    HF_LOG(kError, "store", "crc_table_broken file={} pages={}", path, loaded.broken.size());
  }
  for (const uint32_t page : loaded.doubtful) {
    HF_PROBE("store.table_page_doubtful");
    Status settled = co_await settle_doubtful_page(**file, table, page);
    HF_CO_TRY(settled);
  }
  std::shared_ptr<Segment> segment = std::make_shared<Segment>(std::move(*file), std::move(table));
  co_return segment;
}

std::shared_ptr<Segment> SegmentCache::find(const SegmentPlace& place, SegmentKey segment_key) {
  const auto found = entries_.find(Key{place.owner, segment_key});
  if (found == entries_.end()) return nullptr;
  if (found->second != lru_.begin()) lru_.splice(lru_.begin(), lru_, found->second);
  return found->second->segment;
}

Task<Result<std::shared_ptr<Segment>>> SegmentCache::get(const SegmentPlace& place,
                                                         SegmentKey segment_key) {
  const Key key{place.owner, segment_key};
  for (;;) {
    const auto found = entries_.find(key);
    if (found == entries_.end()) break;
    Entry& entry = *found->second;
    if (entry.segment != nullptr) {
      lru_.splice(lru_.begin(), lru_, found->second);
      co_return entry.segment;
    }
    const std::shared_ptr<Event> opened = entry.opened;
    co_await opened->wait();
  }
  const std::shared_ptr<Event> opened = std::make_shared<Event>();
  lru_.emplace_front();
  lru_.front().key = key;
  lru_.front().opened = opened;
  entries_[key] = lru_.begin();
  Result<std::shared_ptr<Segment>> loaded = co_await load(place, segment_key);
  // It may have been dropped meanwhile (then nobody else has it), or dropped and asked for again.
  const auto mine = entries_.find(key);
  if (mine != entries_.end() && mine->second->opened == opened) {
    if (loaded.ok()) {
      mine->second->segment = *loaded;
      mine->second->table_bytes = (*loaded)->table.memory_bytes();
      table_bytes_ += mine->second->table_bytes;
    } else {
      forget(mine->second);
    }
  }
  opened->set();
  trim();
  co_return loaded;
}

void SegmentCache::put(const SegmentPlace& place, SegmentKey segment_key,
                       std::shared_ptr<Segment> segment) {
  const Key key{place.owner, segment_key};
  HF_ASSERT(!entries_.contains(key), "segment {}.{} is known already", segment_key.index,
            segment_key.layer);
  lru_.emplace_front();
  Entry& entry = lru_.front();
  entry.key = key;
  entry.table_bytes = segment->table.memory_bytes();
  entry.segment = std::move(segment);
  table_bytes_ += entry.table_bytes;
  entries_[key] = lru_.begin();
  trim();
}

void SegmentCache::drop(uint64_t owner, SegmentKey segment_key) {
  const auto found = entries_.find(Key{owner, segment_key});
  if (found != entries_.end()) forget(found->second);
}

void SegmentCache::drop_owner(uint64_t owner) {
  for (auto it = lru_.begin(); it != lru_.end();) {
    const auto next = std::next(it);
    if (it->key.owner == owner) forget(it);
    it = next;
  }
}

}  // namespace hf
