// Arbitrary bytes as a volume's configuration, as they are and with the CRC put right.
#include "format/config_format.h"
#include "format/crc_field.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  std::string text(reinterpret_cast<const char*>(data), size);
  (void)decode_config(text);
  if (size < 16) return 0;
  const uint32_t bytes = static_cast<uint32_t>(size);
  std::memcpy(text.data() + 8, &bytes, 4);
  const uint32_t crc = crc_without_field(as_bytes(text), 12);
  std::memcpy(text.data() + 12, &crc, 4);
  if (Result<VolumeConfig> config = decode_config(text); config.ok()) {
    HF_ASSERT(decode_config(encode_config(*config)).ok());
  }
  return 0;
}
