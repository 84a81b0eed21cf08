// Arbitrary bytes as a superblock copy, as they are and with the CRC put right.
#include "format/crc_field.h"
#include "format/superblock_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  if (size > kSuperblockStride) return 0;
  const size_t bytes = round_up(std::max<size_t>(size, 1), kBlockSize);
  AlignedBuffer memory = AlignedBuffer::zeroed(bytes);
  if (size > 0) std::memcpy(memory.data(), data, size);
  (void)decode_superblock(memory.span());
  uint32_t copy = 0;
  std::memcpy(&copy, memory.data() + 12, 4);
  if (copy < kBlockSize || copy > bytes) return 0;
  const uint32_t crc = crc_without_field(memory.span().first(copy), 16);
  std::memcpy(memory.data() + 16, &crc, 4);
  Result<Superblock> decoded = decode_superblock(memory.span());
  if (decoded.ok()) {
    AlignedBuffer again(superblock_encoded_bytes(*decoded));
    encode_superblock(*decoded, again.span());
    HF_ASSERT(decode_superblock(again.span()).ok());
  }
  return 0;
}
