// Arbitrary bytes as both copies of a CRC table, as they are and with tags and CRCs put right, and
// as the name of a segment file.
#include "base/crc32c.h"
#include "format/segment_format.h"

namespace {

using namespace hf;  // NOLINT: a fuzzer's main file

constexpr size_t kTagAt = 4088, kCrcAt = 4092;  // docs/formats/store.md

// Whole pages of the input's entries and generations: nothing is broken, the newer copy counts, and
// a page that is changed and sealed is the one that counts at the next load.
void check_sealed(const SegmentGeometry& geometry, const uint8_t* data, size_t size) {
  AlignedBuffer both(geometry.tables_bytes());
  CrcTable fresh(geometry, ReplicaId(), 0);
  fresh.initialise();
  fresh.encode_fresh(both.span());
  for (size_t at = 0; at < std::min(size, both.size()); at += kBlockSize) {
    std::memcpy(both.data() + at, data + at, std::min(kTagAt, size - at));
    const uint32_t crc = crc32c(both.span().subspan(at, kCrcAt));
    std::memcpy(both.data() + at + kCrcAt, &crc, sizeof crc);
  }
  CrcTable table(geometry, ReplicaId(), 0);
  const CrcTable::Loaded loaded = table.load(both.span());
  HF_ASSERT(loaded.broken.empty() && loaded.doubtful.empty());
  const uint32_t page = geometry.pages() - 1, block = table.first_block_of(page),
                 target = table.target_copy(page);
  uint64_t current = 0;
  std::memcpy(&current, table.page_bytes(page).data() + kBlockSize - 16, sizeof current);
  if (current == UINT64_MAX) return;  // no table is written so often
  table.set(block, 0x600d);
  table.seal(page);
  std::memcpy(both.data() + target * geometry.copy_bytes() + page * kBlockSize,
              table.page_bytes(page).data(), kBlockSize);
  table.commit(page);
  CrcTable again(geometry, ReplicaId(), 0);
  HF_ASSERT(again.load(both.span()).broken.empty());
  HF_ASSERT(again.get(block) == 0x600d && again.target_copy(page) != target);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view name(reinterpret_cast<const char*>(data), size);
  if (const auto key = parse_segment_name(name)) {
    HF_ASSERT(segment_name(key->index, key->layer) == name);
  }
  SegmentGeometry geometry;
  geometry.segment_bytes = 8 * kMiB;
  AlignedBuffer copies = AlignedBuffer::zeroed(geometry.tables_bytes());
  if (size > 0) std::memcpy(copies.data(), data, std::min(size, copies.size()));
  CrcTable table(geometry, ReplicaId(), 0);
  const CrcTable::Loaded loaded = table.load(copies.span());
  for (const uint32_t page : loaded.broken) {
    HF_ASSERT(table.get(table.first_block_of(page)) == kPoisonCrc);
  }
  check_sealed(geometry, data, size);
  return 0;
}
