#include "auth/token.h"

#include <algorithm>

#include "base/crc32c.h"

namespace hf::auth {
namespace {

constexpr std::string_view kHead = "hf";
constexpr uint8_t kVersion = 1;
constexpr std::string_view kScheme = "tcp:";

Error bad(const char* why) {
  return make_error(
      ErrorCode::kInvalidArgument,
      "this is no join token ({}); paste it whole, as `holdfast cluster token` printed it", why);
}

ByteSpan bytes_of_id(const IdBytes& id) {
  return bytes_of(id);
}

IdBytes read_id(ByteReader& in) {
  IdBytes id{};
  const ByteSpan bytes = in.get_bytes(id.size());
  if (!bytes.empty()) std::memcpy(id.data(), bytes.data(), id.size());
  return id;
}

}  // namespace

JoinSecret::JoinSecret(ByteSpan bytes) {
  HF_ASSERT(bytes.size() == kBytes, "{}", bytes.size());
  std::memcpy(bytes_.data(), bytes.data(), kBytes);
}

JoinSecret JoinSecret::make(Random& random) {
  JoinSecret secret;
  random.fill({reinterpret_cast<std::byte*>(secret.bytes_.data()), kBytes});
  return secret;
}

JoinSecret::~JoinSecret() {
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
}

Hash JoinSecret::hash(TokenId token) const {
  return sha256({as_bytes("holdfast join secret 1"), bytes_of_id(token.bytes), bytes()});
}

std::string encode_token(const JoinToken& token) {
  HF_ASSERT(!token.addresses.empty() && token.addresses.size() <= kMaxTokenAddresses);
  std::string raw;
  auto add = [&raw](ByteSpan bytes) {
    raw.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  add(bytes_of_id(token.cluster.bytes));
  add(bytes_of_id(token.id.bytes));
  add(bytes_of(token.authority));
  add(token.secret.bytes());
  raw += static_cast<char>(token.addresses.size());
  for (const std::string& address : token.addresses) {
    HF_ASSERT(address.starts_with(kScheme) && address.size() <= kMaxAddressBytes, "{}", address);
    raw += static_cast<char>(address.size() - kScheme.size());
    raw += address.substr(kScheme.size());
  }
  const uint32_t crc = crc32c_extend(kVersion, as_bytes(raw));
  add({reinterpret_cast<const std::byte*>(&crc), sizeof crc});
  std::string text = fmt::format("{}{}.{}", kHead, kVersion, to_base32(as_bytes(raw)));
  wipe(&raw);
  return text;
}

Result<JoinToken> decode_token(std::string_view text) {
  if (text.size() > kMaxTokenText) return bad("it is too long");
  std::string dense;
  std::copy_if(text.begin(), text.end(), std::back_inserter(dense),
               [](char c) { return c != ' ' && c != '\n' && c != '\r' && c != '\t'; });
  const size_t dot = dense.find('.');
  if (!dense.starts_with(kHead) || dot == std::string::npos || dot > 5) {
    return bad("it does not begin with hf1.");
  }
  const std::string version = dense.substr(kHead.size(), dot - kHead.size());
  if (version != "1") {
    if (version.empty() || version.find_first_not_of("0123456789") != std::string::npos) {
      return bad("it does not begin with hf1.");
    }
    return make_error(
        ErrorCode::kNewerFormat,
        "the join token is of version {}, this program knows version 1: install the version "
        "of Holdfast that the cluster runs",
        version);
  }
  std::optional<std::string> raw = from_base32(std::string_view(dense).substr(dot + 1));
  wipe(&dense);
  if (!raw) return bad("a letter in it is wrong, or it is cut short");
  ByteReader in(as_bytes(*raw));
  JoinToken token;
  token.cluster = ClusterId(read_id(in));
  token.id = TokenId(read_id(in));
  const IdBytes authority = read_id(in);
  std::copy(authority.begin(), authority.end(), token.authority.begin());
  const ByteSpan secret = in.get_bytes(JoinSecret::kBytes);
  if (!in.failed()) token.secret = JoinSecret(secret);
  const size_t count = in.get<uint8_t>();
  for (size_t i = 0; i < count && !in.failed(); ++i) {
    const ByteSpan address = in.get_bytes(in.get<uint8_t>());
    token.addresses.emplace_back(kScheme);
    token.addresses.back().append(reinterpret_cast<const char*>(address.data()), address.size());
  }
  const size_t covered = in.position();
  const uint32_t crc = in.get<uint32_t>();
  const bool whole = !in.failed() && in.remaining() == 0;
  const bool sound = whole && crc == crc32c_extend(kVersion, as_bytes(*raw).first(covered));
  wipe(&*raw);
  if (!whole) return bad("it is cut short, or has something behind it");
  if (!sound) return bad("a letter in it is wrong");
  if (count == 0 || count > kMaxTokenAddresses) return bad("it has no address to ask, or too many");
  for (const std::string& address : token.addresses) {
    if (address.size() > kMaxAddressBytes) return bad("an address in it is too long");
  }
  return token;
}

}  // namespace hf::auth
