// Arbitrary bytes as a page of a dirty map, as they are and with the place and the CRC put right.
#include "base/crc32c.h"
#include "format/dirty_map_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  if (size > kBlockSize) return 0;
  AlignedBuffer memory = AlignedBuffer::zeroed(kBlockSize);
  if (size > 0) std::memcpy(memory.data(), data, size);
  DirtyMapPlace place;
  (void)decode_dirty_map_page(memory.span(), place);
  std::memcpy(&place.slot, memory.data() + 12, 4);
  std::memcpy(place.replica.bytes.data(), memory.data() + 16, 16);
  std::memcpy(&place.page, memory.data() + 32, 8);
  const uint32_t crc = crc32c(memory.span().first(kBlockSize - 4));
  std::memcpy(memory.data() + kBlockSize - 4, &crc, 4);
  Result<DirtyMapPage> decoded = decode_dirty_map_page(memory.span(), place);
  if (!decoded.ok() || decoded->generation == 0 || place.slot >= kMapSlots) return 0;
  AlignedBuffer again(kBlockSize);
  encode_dirty_map_page(*decoded, place, again.span());
  Result<DirtyMapPage> back = decode_dirty_map_page(again.span(), place);
  HF_ASSERT(back.ok() && *back == *decoded);
  uint64_t runs = 0;
  for (uint64_t at = decoded->find(0, true); at < kUnitsPerPage; at = decoded->find(at, true)) {
    const uint64_t end = decoded->find(at, false);
    runs += end - at;
    at = end;
    if (at >= kUnitsPerPage) break;
  }
  HF_ASSERT(runs == decoded->count());
  return 0;
}
