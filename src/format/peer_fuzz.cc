// Arbitrary bytes as a frame header, a request and an answer of the peer protocol, as they are and
// with the header's CRC put right; what is understood must survive being written again.
#include "base/crc32c.h"
#include "format/peer_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  const ByteSpan bytes(reinterpret_cast<const std::byte*>(data), size);
  (void)decode_peer_frame(bytes.first(std::min(size, kPeerHeaderBytes)));
  if (size >= kPeerHeaderBytes) {
    std::vector<std::byte> header(bytes.begin(), bytes.begin() + kPeerHeaderBytes);
    const uint32_t crc = crc32c(ByteSpan(header).first(kPeerHeaderBytes - 4));
    std::memcpy(header.data() + kPeerHeaderBytes - 4, &crc, 4);
    Result<PeerFrame> frame = decode_peer_frame(header);
    if (frame.ok()) {
      std::vector<std::byte> again(kPeerHeaderBytes);
      encode_peer_frame(*frame, again);
      HF_ASSERT(decode_peer_frame(again).ok());
    }
  }
  if (Result<PeerRequest> request = decode_peer_request(bytes); request.ok()) {
    const std::vector<std::byte> again = encode_peer_request(*request);
    HF_ASSERT(decode_peer_request(again).ok() && again.size() == size);
  }
  if (Result<PeerAnswer> answer = decode_peer_answer(bytes); answer.ok()) {
    const std::vector<std::byte> again = encode_peer_answer(*answer);
    HF_ASSERT(decode_peer_answer(again).ok() && again.size() == size);
  }
  return 0;
}
