// Arbitrary bytes as a checkpoint and as a batch header, as they are and with their CRCs put right (so that
// the checks behind the CRC are reached too). Whatever decodes must encode.
#include "format/crc_field.h"
#include "format/journal_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  const size_t bytes = round_up(std::max<size_t>(size, 1), kBlockSize);
  if (bytes > 2 * kMaxBatchHeader) return 0;
  AlignedBuffer memory = AlignedBuffer::zeroed(bytes);
  if (size > 0) std::memcpy(memory.data(), data, size);
  const ByteSpan first = memory.span().first(kBlockSize);
  (void)decode_checkpoint(first);
  (void)decode_batch_header(memory.span());
  PoolId pool;
  std::memcpy(pool.bytes.data(), memory.data() + 16, 16);
  const uint32_t header = peek_batch_header_bytes(first, pool);
  if (header != 0 && header <= bytes) {
    const MutableByteSpan span = memory.span().first(header);
    const uint32_t crc = crc_without_field(span, 76);
    std::memcpy(span.data() + 76, &crc, 4);
    Result<BatchHeader> decoded = decode_batch_header(span);
    if (decoded.ok()) {
      AlignedBuffer again(header);
      encode_batch_header(*decoded, again.span());
      HF_ASSERT(decode_batch_header(again.span()).ok());
    }
  }
  const uint32_t crc = crc32c(first.first(kBlockSize - 4));
  std::memcpy(memory.data() + kBlockSize - 4, &crc, 4);
  Result<JournalCheckpoint> checkpoint = decode_checkpoint(first);
  if (checkpoint.ok()) {
    AlignedBuffer again(kBlockSize);
    encode_checkpoint(*checkpoint, again.span());
    HF_ASSERT(decode_checkpoint(again.span()).ok());
  }
  return 0;
}
