// The checksum of a structure that carries it in itself: of all bytes, with the field's own four as zeroes.
#pragma once

#include "base/bytes.h"
#include "base/crc32c.h"

namespace hf {

inline uint32_t crc_without_field(ByteSpan bytes, size_t field_at) {
  const std::byte zeroes[4] = {};
  const uint32_t crc = crc32c_extend(crc32c(bytes.first(field_at)), zeroes);
  return crc32c_extend(crc, bytes.subspan(field_at + 4));
}

}  // namespace hf
