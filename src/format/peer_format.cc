#include "format/peer_format.h"

#include "base/crc32c.h"
#include "base/id_bytes.h"

namespace hf {
namespace {

constexpr size_t kRangeBytes = 24;
constexpr size_t kRequestFixed = 4 * 16 + 8 * 7 + 4 + 4 + 8;
constexpr size_t kAnswerFixed = 8 + 8 * 6 + 16 + 8;

Error bad(std::string_view what) {
  return make_error(ErrorCode::kProtocol, "peer protocol: {}", what);
}

void put_tail(ByteWriter& out, const std::string& text, const std::vector<PeerRange>& ranges) {
  out.put_bytes(as_bytes(text));
  for (const PeerRange& range : ranges) {
    out.put(range.offset);
    out.put(range.length);
    out.put(static_cast<uint64_t>(range.flag));
  }
}

Status get_tail(ByteReader& in, uint32_t text_bytes, uint32_t ranges, std::string* text,
                std::vector<PeerRange>* into) {
  if (text_bytes > kPeerTextMax || ranges > kPeerRangesMax) return bad("counts above the bounds");
  const ByteSpan bytes = in.get_bytes(text_bytes);
  text->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (in.failed() || in.remaining() != ranges * kRangeBytes) return bad("length of a body");
  into->reserve(ranges);
  for (uint32_t i = 0; i < ranges; ++i) {
    PeerRange& range = into->emplace_back();
    range.offset = in.get<uint64_t>();
    range.length = in.get<uint64_t>();
    range.flag = static_cast<uint8_t>(in.get<uint64_t>() & 0xff);
    if (range.length > ~uint64_t{0} - range.offset) return bad("a range without an end");
  }
  return Status();
}

}  // namespace

void encode_peer_frame(const PeerFrame& frame, MutableByteSpan out) {
  HF_ASSERT(out.size() == kPeerHeaderBytes, "{}", out.size());
  HF_ASSERT(frame.body_bytes <= kPeerBodyMax && frame.data_bytes <= kPeerDataMax, "{} {}",
            frame.body_bytes, frame.data_bytes);
  ByteWriter w(out);
  w.put(kPeerMagic);
  w.put(kPeerVersion);
  w.put(static_cast<uint8_t>(frame.kind));
  w.put(static_cast<uint8_t>(frame.is_answer ? 1 : 0));
  w.put(frame.request);
  w.put(frame.body_bytes);
  w.put(frame.data_bytes);
  w.put(frame.body_crc);
  w.put(frame.data_crc);
  w.put_zeros(4);
  w.put(crc32c(out.first(kPeerHeaderBytes - 4)));
}

Result<PeerFrame> decode_peer_frame(ByteSpan header) {
  ByteReader r(header);
  if (r.get<uint32_t>() != kPeerMagic) return bad("not a frame of this protocol");
  const uint16_t version = r.get<uint16_t>();
  PeerFrame frame;
  const uint8_t kind = r.get<uint8_t>();
  const uint8_t answer = r.get<uint8_t>();
  frame.request = r.get<uint64_t>();
  frame.body_bytes = r.get<uint32_t>();
  frame.data_bytes = r.get<uint32_t>();
  frame.body_crc = r.get<uint32_t>();
  frame.data_crc = r.get<uint32_t>();
  r.skip(4);
  const uint32_t crc = r.get<uint32_t>();
  if (r.failed()) return bad("a header that ends early");
  if (crc32c(header.first(kPeerHeaderBytes - 4)) != crc) return bad("checksum of a header");
  if (version != kPeerVersion) {
    return make_error(ErrorCode::kNotSupported,
                      "peer protocol: the other side speaks version {}, this one {}", version,
                      kPeerVersion);
  }
  if (kind == 0 || kind > kPeerKindLast || answer > 1) return bad("an unknown kind of frame");
  if (frame.body_bytes > kPeerBodyMax || frame.data_bytes > kPeerDataMax) {
    return bad("a frame above the bounds");
  }
  frame.kind = static_cast<PeerKind>(kind);
  frame.is_answer = answer != 0;
  return frame;
}

std::vector<std::byte> encode_peer_request(const PeerRequest& r) {
  HF_ASSERT(r.text.size() <= kPeerTextMax && r.ranges.size() <= kPeerRangesMax);
  std::vector<std::byte> bytes(kRequestFixed + r.text.size() + r.ranges.size() * kRangeBytes);
  ByteWriter w(bytes);
  put_id(w, r.cluster);
  put_id(w, r.volume);
  put_id(w, r.replica);
  put_id(w, r.snapshot);
  w.put(r.epoch);
  w.put(r.number);
  w.put(r.generation);
  w.put(r.commit.epoch);
  w.put(r.commit.sequence);
  w.put(r.offset);
  w.put(r.length);
  w.put(r.limit);
  w.put(r.slots);
  w.put(r.absent);
  w.put_zeros(2);
  w.put(static_cast<uint32_t>(r.text.size()));
  w.put(static_cast<uint32_t>(r.ranges.size()));
  put_tail(w, r.text, r.ranges);
  return bytes;
}

Result<PeerRequest> decode_peer_request(ByteSpan body) {
  ByteReader in(body);
  PeerRequest r;
  r.cluster = get_id<ClusterId>(in);
  r.volume = get_id<VolumeId>(in);
  r.replica = get_id<ReplicaId>(in);
  r.snapshot = get_id<SnapshotId>(in);
  r.epoch = in.get<uint64_t>();
  r.number = in.get<uint64_t>();
  r.generation = in.get<uint64_t>();
  r.commit.epoch = in.get<uint64_t>();
  r.commit.sequence = in.get<uint64_t>();
  r.offset = in.get<uint64_t>();
  r.length = in.get<uint64_t>();
  r.limit = in.get<uint32_t>();
  r.slots = in.get<uint8_t>();
  r.absent = in.get<uint8_t>();
  in.skip(2);
  const uint32_t text = in.get<uint32_t>();
  const uint32_t ranges = in.get<uint32_t>();
  if (in.failed()) return bad("a request that ends early");
  HF_TRY(get_tail(in, text, ranges, &r.text, &r.ranges));
  return r;
}

std::vector<std::byte> encode_peer_answer(const PeerAnswer& a) {
  HF_ASSERT(a.ranges.size() <= kPeerRangesMax);
  const std::string text = a.text.substr(0, kPeerTextMax);
  std::vector<std::byte> bytes(kAnswerFixed + text.size() + a.ranges.size() * kRangeBytes);
  ByteWriter w(bytes);
  w.put(a.code);
  w.put_zeros(6);
  w.put(a.a);
  w.put(a.b);
  w.put(a.c);
  w.put(a.d);
  w.put(a.stamp.epoch);
  w.put(a.stamp.sequence);
  put_id(w, a.snapshot);
  w.put(static_cast<uint32_t>(text.size()));
  w.put(static_cast<uint32_t>(a.ranges.size()));
  put_tail(w, text, a.ranges);
  return bytes;
}

Result<PeerAnswer> decode_peer_answer(ByteSpan body) {
  ByteReader in(body);
  PeerAnswer a;
  a.code = in.get<uint16_t>();
  in.skip(6);
  a.a = in.get<uint64_t>();
  a.b = in.get<uint64_t>();
  a.c = in.get<uint64_t>();
  a.d = in.get<uint64_t>();
  a.stamp.epoch = in.get<uint64_t>();
  a.stamp.sequence = in.get<uint64_t>();
  a.snapshot = get_id<SnapshotId>(in);
  const uint32_t text = in.get<uint32_t>();
  const uint32_t ranges = in.get<uint32_t>();
  if (in.failed()) return bad("an answer that ends early");
  HF_TRY(get_tail(in, text, ranges, &a.text, &a.ranges));
  return a;
}

}  // namespace hf
