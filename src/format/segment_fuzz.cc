// Arbitrary bytes as both copies of a CRC table, and as the name of a segment file.
#include "format/segment_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
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
  return 0;
}
