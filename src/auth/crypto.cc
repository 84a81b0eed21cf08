#include "auth/crypto.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

namespace hf::auth {
namespace {

constexpr std::string_view kBase32 = "abcdefghijklmnopqrstuvwxyz234567";

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

Hash sha256(std::initializer_list<ByteSpan> parts) {
  Hash hash;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  bool ok = context != nullptr && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1;
  for (const ByteSpan part : parts) {
    ok = ok && EVP_DigestUpdate(context, part.data(), part.size()) == 1;
  }
  ok = ok && EVP_DigestFinal_ex(context, hash.data(), nullptr) == 1;
  EVP_MD_CTX_free(context);
  HF_ASSERT(ok, "SHA-256 is missing: {}", openssl_reason());
  return hash;
}

bool equal_in_constant_time(ByteSpan a, ByteSpan b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void wipe(std::string* secret) {
  OPENSSL_cleanse(secret->data(), secret->size());
  secret->clear();
}

std::string to_hex(ByteSpan bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::byte b : bytes) {
    out += kDigits[std::to_integer<unsigned>(b) >> 4];
    out += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

std::optional<std::string> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string out;
  out.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    const int high = digit_of(text[i]), low = digit_of(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
  }
  return out;
}

std::string to_base32(ByteSpan bytes) {
  std::string out;
  uint32_t bits = 0, count = 0;
  for (const std::byte b : bytes) {
    bits = (bits << 8) | std::to_integer<uint32_t>(b);
    for (count += 8; count >= 5; count -= 5) out += kBase32[(bits >> (count - 5)) & 31];
  }
  if (count > 0) out += kBase32[(bits << (5 - count)) & 31];
  return out;
}

std::optional<std::string> from_base32(std::string_view text) {
  std::string out;
  uint32_t bits = 0, count = 0;
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const size_t value = kBase32.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    bits = (bits << 5) | static_cast<uint32_t>(value);
    count += 5;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>((bits >> count) & 0xff);
    }
  }
  // What is left is padding: fewer than five bits, all zero.
  if (count >= 5 || (bits & ((1u << count) - 1)) != 0) return std::nullopt;
  return out;
}

std::optional<std::string> ip_bytes(const std::string& text) {
  // A C string there: it would end at a zero byte.
  if (text.size() > 64 || text.find('\0') != std::string::npos) return std::nullopt;
  ASN1_OCTET_STRING* parsed = a2i_IPADDRESS(text.c_str());
  if (parsed == nullptr) {
    (void)openssl_reason();
    return std::nullopt;
  }
  std::string bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(parsed)),
                    static_cast<size_t>(ASN1_STRING_length(parsed)));
  ASN1_OCTET_STRING_free(parsed);
  return bytes;
}

std::string openssl_reason() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("OpenSSL error {:x}", code);
}

}  // namespace hf::auth
