// Bytes of a client in the transmission phase: one that chooses the mode and how the stream is cut,
// then requests. Whatever comes: the device is asked for nothing outside it (it asserts), the
// session ends with everything given back, and what was sent is whole answers.
#include <cstdint>

#include "base/log.h"
#include "block/nbd/nbd_transmission.h"
#include "block/nbd/testing/script_stream.h"
#include "runtime/test_loop.h"
#include "volume/testing/memory_device.h"

namespace {

using namespace hf;
using namespace hf::nbd;

Task<void> serve(Stream& stream, std::shared_ptr<BlockDevice> device, TransmissionOptions options) {
  BufferPool buffers;
  Transmission transmission(stream, byte_granular(std::move(device)), buffers, options);
  Status ended = co_await transmission.run();
  HF_ASSERT(
      ended.ok() || ended.code() == ErrorCode::kProtocol || ended.code() == ErrorCode::kClosed,
      "{}", ended.error().to_string());
}

uint64_t big_endian(ByteSpan bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

// With structured replies, what a server sends can be divided without knowing the requests.
void check_output(ByteSpan out) {
  while (!out.empty()) {
    HF_ASSERT(out.size() >= 16);
    const uint64_t magic = big_endian(out, 0, 4);
    if (magic == kSimpleReplyMagic) {
      out = out.subspan(16);
      continue;
    }
    HF_ASSERT(magic == kChunkMagic && out.size() >= 20, "{:#x}", magic);
    const uint64_t length = big_endian(out, 16, 4);
    HF_ASSERT(length <= out.size() - 20);
    out = out.subspan(20 + length);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  set_log_level(LogLevel::kOff);
  TransmissionOptions options;
  options.structured = (data[0] & 1) != 0;
  options.allocation = options.structured && (data[0] & 2) != 0;
  options.read_only = (data[0] & 4) != 0;
  const size_t piece = (data[0] & 8) != 0 ? 1 + (data[0] >> 4) : SIZE_MAX;
  const auto* first = reinterpret_cast<const std::byte*>(data) + 1;
  TestLoop loop;
  Gate gate;
  ScriptStream stream(std::vector<std::byte>(first, first + size - 1), piece);
  const auto device = std::make_shared<MemoryDevice>(64 * kBlockSize);
  spawn(gate, serve(stream, device, options));
  loop.run();
  HF_ASSERT(gate.inside() == 0, "the session hangs");
  if (options.structured) check_output(stream.output);
  return 0;
}
