#include "format/dirty_map_format.h"

#include <bit>

#include "base/crc32c.h"

namespace hf {
namespace {

constexpr size_t kBitsAt = 88;
constexpr size_t kCrcAt = kBlockSize - 4;
constexpr size_t kBitsBytes = kUnitsPerPage / 8;

static_assert(kBitsAt + kBitsBytes + 4 == kCrcAt);

Error bad(std::string_view what) {
  return make_error(ErrorCode::kCorruption, "dirty map: {}", what);
}

}  // namespace

std::string dirty_map_name(uint32_t slot) {
  return slot == kWindowSlot ? "window.map" : fmt::format("dirty-{}.map", slot);
}

void DirtyMapPage::set(uint64_t first, uint64_t count, bool value) {
  HF_ASSERT(first + count <= kUnitsPerPage, "{}+{}", first, count);
  const uint64_t end = first + count;
  for (uint64_t at = first; at < end;) {
    const uint64_t inside = at % 64;
    const uint64_t n = std::min(end - at, 64 - inside);
    const uint64_t mask = (n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1) << inside;
    if (value) {
      bits[at / 64] |= mask;
    } else {
      bits[at / 64] &= ~mask;
    }
    at += n;
  }
}

uint64_t DirtyMapPage::count() const {
  uint64_t n = 0;
  for (const uint64_t word : bits) n += static_cast<uint64_t>(std::popcount(word));
  return n;
}

uint64_t DirtyMapPage::find(uint64_t from, bool value) const {
  for (uint64_t at = from; at < kUnitsPerPage;) {
    const uint64_t word = (value ? bits[at / 64] : ~bits[at / 64]) >> (at % 64);
    if (word != 0) return at + static_cast<uint64_t>(std::countr_zero(word));
    at = (at / 64 + 1) * 64;
  }
  return kUnitsPerPage;
}

void encode_dirty_map_page(const DirtyMapPage& page, const DirtyMapPlace& place,
                           MutableByteSpan out) {
  HF_ASSERT(out.size() == kBlockSize && page.generation > 0 && place.slot < kMapSlots);
  ByteWriter w(out);
  w.put(kDirtyMapMagic);
  w.put(kDirtyMapVersion);
  w.put(place.slot);
  w.put_bytes({reinterpret_cast<const std::byte*>(place.replica.bytes.data()), 16});
  w.put(place.page);
  w.put(page.generation);
  w.put(page.newest.epoch);
  w.put(page.newest.sequence);
  w.put(static_cast<uint32_t>(page.count()));
  w.put_zeros(kBitsAt - w.position());
  w.put_bytes(std::as_bytes(std::span(page.bits)));
  w.put_zeros(kCrcAt - w.position());
  w.put(crc32c(out.first(kCrcAt)));
}

Result<DirtyMapPage> decode_dirty_map_page(ByteSpan block, const DirtyMapPlace& place) {
  if (block.size() != kBlockSize) return bad("short page");
  DirtyMapPage page;
  if (all_zero(block)) return page;
  ByteReader r(block);
  if (r.get<uint64_t>() != kDirtyMapMagic) return bad("magic");
  const uint32_t version = r.get<uint32_t>();
  const uint32_t slot = r.get<uint32_t>();
  const ByteSpan replica = r.get_bytes(16);
  const uint64_t number = r.get<uint64_t>();
  page.generation = r.get<uint64_t>();
  page.newest.epoch = r.get<uint64_t>();
  page.newest.sequence = r.get<uint64_t>();
  const uint32_t count = r.get<uint32_t>();
  ByteReader tail(block.subspan(kCrcAt));
  if (tail.get<uint32_t>() != crc32c(block.first(kCrcAt))) return bad("checksum");
  if (version != kDirtyMapVersion) {
    return make_error(ErrorCode::kNewerFormat, "dirty map version {}, this program knows {}",
                      version, kDirtyMapVersion);
  }
  if (slot != place.slot || number != place.page ||
      std::memcmp(replica.data(), place.replica.bytes.data(), 16) != 0) {
    return bad("page of another place");
  }
  std::memcpy(page.bits.data(), block.data() + kBitsAt, kBitsBytes);
  if (page.generation == 0 || count != page.count()) return bad("values");
  return page;
}

}  // namespace hf
