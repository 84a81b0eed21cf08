// Ids in binary formats: their 16 bytes as they are.
#pragma once

#include <cstring>

#include "base/bytes.h"
#include "base/id.h"

namespace hf {

template <typename Tag>
void put_id(ByteWriter& out, const Id<Tag>& id) {
  out.put_bytes({reinterpret_cast<const std::byte*>(id.bytes.data()), id.bytes.size()});
}

// Nil when too few bytes are left, which the reader remembers.
template <typename IdType>
IdType get_id(ByteReader& in) {
  IdType id;
  const ByteSpan bytes = in.get_bytes(id.bytes.size());
  if (!bytes.empty()) std::memcpy(id.bytes.data(), bytes.data(), bytes.size());
  return id;
}

}  // namespace hf
