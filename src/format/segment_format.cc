#include "format/segment_format.h"

#include <algorithm>
#include <charconv>

#include "base/crc32c.h"

namespace hf {
namespace {

constexpr size_t kGenerationAt = 4080;
constexpr size_t kTagAt = 4088;
constexpr size_t kCrcAt = 4092;

uint32_t load32(const std::byte* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
void store32(std::byte* p, uint32_t v) { std::memcpy(p, &v, sizeof v); }

std::optional<uint32_t> parse_number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

uint32_t block_crc(ByteSpan block) {
  const uint32_t crc = crc32c(block);
  if (crc == 0) return 1;
  return crc == kPoisonCrc ? kPoisonCrc - 1 : crc;
}

CrcTable::CrcTable(SegmentGeometry geometry, const ReplicaId& family, uint32_t segment)
    : geometry_(geometry),
      buffer_(AlignedBuffer::zeroed(geometry.copy_bytes())),
      has_((geometry.blocks() + 63) / 64, 0),
      current_copy_(geometry.pages(), 0),
      generation_(geometry.pages(), 0) {
  std::byte seed[20];
  std::memcpy(seed, family.bytes.data(), 16);
  store32(seed + 16, segment);
  tag_seed_ = crc32c(seed);
}

uint32_t CrcTable::tag_of(uint32_t page) const {
  std::byte number[4];
  store32(number, page);
  return crc32c_extend(tag_seed_, number);
}

uint32_t CrcTable::end_block_of(uint32_t page) const {
  return std::min((page + 1) * kCrcsPerPage, geometry_.blocks());
}

void CrcTable::seal_bytes(MutableByteSpan page, uint64_t generation, uint32_t tag) {
  std::memcpy(page.data() + kGenerationAt, &generation, sizeof generation);
  store32(page.data() + kTagAt, tag);
  store32(page.data() + kCrcAt, crc32c(page.first(kCrcAt)));
}

bool CrcTable::valid(ByteSpan bytes, uint32_t page) const {
  return load32(bytes.data() + kTagAt) == tag_of(page) &&
         load32(bytes.data() + kCrcAt) == crc32c(bytes.first(kCrcAt));
}

void CrcTable::initialise() {
  std::memset(buffer_.data(), 0, buffer_.size());
  std::fill(has_.begin(), has_.end(), 0);
  for (uint32_t p = 0; p < geometry_.pages(); ++p) {
    current_copy_[p] = 0;
    generation_[p] = 1;
  }
}

void CrcTable::encode_fresh(MutableByteSpan out) const {
  HF_ASSERT(out.size() == geometry_.tables_bytes());
  std::memset(out.data(), 0, out.size());
  for (uint32_t copy = 0; copy < 2; ++copy) {
    for (uint32_t p = 0; p < geometry_.pages(); ++p) {
      const uint64_t at = copy * geometry_.copy_bytes() + p * kBlockSize;
      seal_bytes(out.subspan(at, kBlockSize), 1 - copy, tag_of(p));
    }
  }
}

CrcTable::Loaded CrcTable::load(ByteSpan both) {
  HF_ASSERT(both.size() == geometry_.tables_bytes());
  Loaded loaded;
  for (uint32_t p = 0; p < geometry_.pages(); ++p) {
    const ByteSpan copies[2] = {both.subspan(p * kBlockSize, kBlockSize),
                                both.subspan(geometry_.copy_bytes() + p * kBlockSize, kBlockSize)};
    const bool ok[2] = {valid(copies[0], p), valid(copies[1], p)};
    uint64_t generations[2];
    for (int c = 0; c < 2; ++c) {
      std::memcpy(&generations[c], copies[c].data() + kGenerationAt, sizeof generations[c]);
    }
    std::byte* const page = buffer_.data() + p * kBlockSize;
    if (!ok[0] && !ok[1]) {
      loaded.broken.push_back(p);
      for (uint32_t b = first_block_of(p); b < end_block_of(p); ++b) set(b, kPoisonCrc);
      current_copy_[p] = 0;
      generation_[p] = 0;
      continue;
    }
    const int best = !ok[0] || (ok[1] && generations[1] > generations[0]) ? 1 : 0;
    if (!ok[1 - best]) loaded.doubtful.push_back(p);
    std::memcpy(page, copies[best].data(), kBlockSize);
    for (uint32_t b = first_block_of(p); b < end_block_of(p); ++b) mark(b, get(b) != 0);
    current_copy_[p] = static_cast<uint8_t>(best);
    generation_[p] = generations[best];
  }
  return loaded;
}

uint32_t CrcTable::get(uint32_t block) const {
  HF_ASSERT(block < geometry_.blocks(), "{}", block);
  return load32(buffer_.data() + offset_of(block));
}

void CrcTable::set(uint32_t block, uint32_t crc) {
  HF_ASSERT(block < geometry_.blocks(), "{}", block);
  store32(buffer_.data() + offset_of(block), crc);
  mark(block, crc != 0);
}

void CrcTable::mark(uint32_t block, bool has) {
  const uint64_t bit = uint64_t{1} << (block % 64);
  has_[block / 64] = has ? has_[block / 64] | bit : has_[block / 64] & ~bit;
}

void CrcTable::prefetch(uint32_t block, uint32_t count) const {
  constexpr uint32_t kPerLine = 16;
  for (uint32_t b = block; b < block + count; b += kPerLine) __builtin_prefetch(buffer_.data() + offset_of(b));
}

void CrcTable::seal(uint32_t page) {
  seal_bytes(buffer_.span().subspan(page * kBlockSize, kBlockSize), ++generation_[page],
             tag_of(page));
}

ByteSpan CrcTable::page_bytes(uint32_t page) const {
  return buffer_.span().subspan(page * kBlockSize, kBlockSize);
}

void CrcTable::copy_from(const CrcTable& other) {
  HF_ASSERT(other.buffer_.size() == buffer_.size() && other.tag_seed_ == tag_seed_);
  std::memcpy(buffer_.data(), other.buffer_.data(), buffer_.size());
  has_ = other.has_;
  current_copy_ = other.current_copy_;
  generation_ = other.generation_;
}

std::string segment_name(uint32_t index, uint32_t layer) {
  return fmt::format("{:08}.{:06}", index, layer);
}

std::optional<SegmentKey> parse_segment_name(std::string_view name) {
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto index = parse_number(name.substr(0, dot));
  const auto layer = parse_number(name.substr(dot + 1));
  if (!index || !layer || segment_name(*index, *layer) != name) return std::nullopt;
  return SegmentKey{*index, *layer};
}

}  // namespace hf
