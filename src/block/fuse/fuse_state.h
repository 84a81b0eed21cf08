// What the holder keeps beside a FUSE descriptor (docs/formats/holder.md). Pure.
#pragma once

#include <optional>
#include <vector>

#include "base/bytes.h"
#include "block/fuse/fuse_session.h"

namespace hf::fuse {

inline constexpr uint16_t kStateVersion = 1;
inline constexpr size_t kStateBytes = 24;

struct HeldState {
  Negotiated agreed;
  int loop_number = -1;  // a hint for people: the device itself is found by its tag
};

inline std::vector<std::byte> encode_state(const Negotiated& agreed, int loop_number) {
  std::vector<std::byte> out(kStateBytes);
  ByteWriter w(out);
  w.put<uint16_t>(kStateVersion);
  w.put<uint16_t>(agreed.initialised ? 1 : 0);
  w.put<uint32_t>(agreed.minor);
  w.put<uint64_t>(agreed.flags);
  w.put<uint32_t>(agreed.max_write);
  w.put<uint32_t>(static_cast<uint32_t>(loop_number));
  return out;
}

// Nothing for another version, a wrong size, or what this server could not serve.
inline std::optional<HeldState> decode_state(ByteSpan in) {
  ByteReader r(in);
  if (r.get<uint16_t>() != kStateVersion || in.size() != kStateBytes) return std::nullopt;
  HeldState state;
  state.agreed.initialised = r.get<uint16_t>() != 0;
  state.agreed.minor = r.get<uint32_t>();
  state.agreed.flags = r.get<uint64_t>();
  state.agreed.max_write = r.get<uint32_t>();
  state.loop_number = static_cast<int>(r.get<uint32_t>());
  if (r.failed() || state.agreed.max_write > kMaxWrite) return std::nullopt;
  return state;
}

}  // namespace hf::fuse
