#include "auth/join_wire.h"

#include "base/crc32c.h"
#include "base/id_bytes.h"
#include "base/known_code.h"

namespace hf::auth {
namespace {

constexpr uint32_t kMagic = 0x314a4648;  // "HFJ1"
constexpr uint16_t kVersion = 1;

template <typename T>
void put(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_bytes(std::string* out, ByteSpan bytes) {
  out->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}
void put_text(std::string* out, std::string_view text, size_t limit) {
  HF_ASSERT(text.size() <= limit && limit <= UINT16_MAX, "{} bytes", text.size());
  put(out, static_cast<uint16_t>(text.size()));
  out->append(text);
}
void put_list(std::string* out, const std::vector<std::string>& list, size_t count, size_t limit) {
  HF_ASSERT(list.size() <= count && count <= UINT8_MAX, "{} items", list.size());
  put(out, static_cast<uint8_t>(list.size()));
  for (const std::string& item : list) put_text(out, item, limit);
}

// The length comes first and is judged before anything is taken.
bool get_text(ByteReader& in, size_t limit, std::string* out) {
  const size_t size = in.get<uint16_t>();
  if (in.failed() || size > limit) return false;
  const ByteSpan bytes = in.get_bytes(size);
  if (in.failed()) return false;
  out->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return true;
}
bool get_list(ByteReader& in, size_t count, size_t limit, std::vector<std::string>* out) {
  const size_t items = in.get<uint8_t>();
  if (in.failed() || items > count) return false;
  for (size_t i = 0; i < items; ++i) {
    if (!get_text(in, limit, &out->emplace_back())) return false;
  }
  return true;
}
std::string framed(JoinMessage type, std::string* body, size_t limit) {
  HF_ASSERT(body->size() <= limit, "{} bytes", body->size());
  std::string out;
  put(&out, kMagic);
  put(&out, kVersion);
  put(&out, static_cast<uint16_t>(type));
  put(&out, static_cast<uint32_t>(body->size()));
  put(&out, uint32_t{0});  // reserved
  put(&out, crc32c(as_bytes(*body)));
  out += *body;
  wipe(body);
  return out;
}

Error malformed() {
  return make_error(ErrorCode::kProtocol, "a message about joining that is malformed");
}

bool is_sound(const JoinHead& head, ByteSpan body) {
  return head.length == body.size() && head.crc == crc32c(body);
}

}  // namespace

Result<JoinHead> decode_join_head(ByteSpan head, JoinMessage wanted) {
  HF_ASSERT(head.size() == kJoinHeadBytes);
  ByteReader in(head);
  if (in.get<uint32_t>() != kMagic) return malformed();
  const uint16_t version = in.get<uint16_t>();
  if (version == 0) return malformed();
  if (version != kVersion) {
    return make_error(
        ErrorCode::kNewerFormat,
        "a message about joining of version {}; this node knows version {}: install the version of "
        "Holdfast that the cluster runs",
        version, kVersion);
  }
  if (in.get<uint16_t>() != static_cast<uint16_t>(wanted)) return malformed();
  JoinHead out;
  out.length = in.get<uint32_t>();
  const bool reserved = in.get<uint32_t>() == 0;
  out.crc = in.get<uint32_t>();
  const size_t limit = wanted == JoinMessage::kAsk ? kMaxAskBytes : kMaxAnswerBytes;
  if (!reserved || out.length > limit) return malformed();
  return out;
}

std::string encode_ask(const JoinAsk& ask) {
  std::string body;
  put_bytes(&body, bytes_of(ask.cluster.bytes));
  put_bytes(&body, bytes_of(ask.token.bytes));
  put_bytes(&body, ask.secret.bytes());
  put(&body, ask.wall.ns);
  put_text(&body, ask.request, kMaxRequestBytes);
  put_list(&body, ask.names, kMaxNames, kMaxAddressBytes);
  return framed(JoinMessage::kAsk, &body, kMaxAskBytes);
}

Result<JoinAsk> decode_ask(const JoinHead& head, ByteSpan body) {
  if (!is_sound(head, body)) return malformed();
  ByteReader in(body);
  JoinAsk ask;
  ask.cluster = get_id<ClusterId>(in);
  ask.token = get_id<TokenId>(in);
  const ByteSpan secret = in.get_bytes(JoinSecret::kBytes);
  ask.wall.ns = in.get<int64_t>();
  if (in.failed()) return malformed();
  ask.secret = JoinSecret(secret);
  const bool good = get_text(in, kMaxRequestBytes, &ask.request) &&
                    get_list(in, kMaxNames, kMaxAddressBytes, &ask.names) && in.remaining() == 0;
  if (!good) return malformed();
  return ask;
}

std::string encode_answer(const JoinAnswer& answer) {
  std::string body;
  put(&body, static_cast<uint16_t>(answer.code));
  put_text(&body, answer.message, kMaxMessageBytes);
  put(&body, answer.wall.ns);
  if (answer.code == ErrorCode::kOk) {
    put_bytes(&body, bytes_of(answer.node.bytes));
    put_text(&body, answer.certificate, Certificate::kMaxDerBytes);
    put_list(&body, answer.authorities, kMaxAuthorities, Certificate::kMaxDerBytes);
    put_text(&body, answer.signer_pem, Certificate::kMaxDerBytes);
    put_list(&body, answer.endpoints, kMaxEndpoints, kMaxAddressBytes);
  }
  return framed(JoinMessage::kAnswer, &body, kMaxAnswerBytes);
}

Result<JoinAnswer> decode_answer(const JoinHead& head, ByteSpan body) {
  if (!is_sound(head, body)) return malformed();
  ByteReader in(body);
  JoinAnswer answer;
  const uint16_t code = in.get<uint16_t>();
  if (in.failed() || !get_text(in, kMaxMessageBytes, &answer.message)) return malformed();
  answer.wall.ns = in.get<int64_t>();
  if (code == 0) {
    answer.node = get_id<NodeId>(in);
    const bool good =
        get_text(in, Certificate::kMaxDerBytes, &answer.certificate) &&
        get_list(in, kMaxAuthorities, Certificate::kMaxDerBytes, &answer.authorities) &&
        get_text(in, Certificate::kMaxDerBytes, &answer.signer_pem) &&
        get_list(in, kMaxEndpoints, kMaxAddressBytes, &answer.endpoints);
    if (!good) return malformed();
  } else {
    // A code that this version does not know is an error all the same.
    answer.code = known_code(code).value_or(ErrorCode::kInternal);
  }
  if (in.failed() || in.remaining() != 0) return malformed();
  return answer;
}

}  // namespace hf::auth
