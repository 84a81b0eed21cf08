// Arbitrary text as pool.json.
#include "format/pool_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  const Result<PoolFile> file =
      decode_pool_file(std::string_view(reinterpret_cast<const char*>(data), size));
  if (file.ok()) HF_ASSERT(decode_pool_file(encode_pool_file(*file)).ok());
  return 0;
}
