// What the room needs of OpenSSL, in our terms: owners of its objects, hashes, secrets, its errors
// as text.
//
// Bytes that are not text (DER) travel as std::string. Nothing here knows what they mean.
#pragma once

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace hf::auth {

struct OpensslFree {
  void operator()(ASN1_TIME* p) const { ASN1_STRING_free(p); }
  void operator()(BIGNUM* p) const { BN_free(p); }
  void operator()(BIO* p) const { BIO_free_all(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(GENERAL_NAMES* p) const { GENERAL_NAMES_free(p); }
  void operator()(SSL* p) const { SSL_free(p); }
  void operator()(SSL_CTX* p) const { SSL_CTX_free(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(X509_CRL* p) const { X509_CRL_free(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
  void operator()(X509_REQ* p) const { X509_REQ_free(p); }
  void operator()(X509_STORE* p) const { X509_STORE_free(p); }
  void operator()(X509_STORE_CTX* p) const { X509_STORE_CTX_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, OpensslFree>;

using Hash = std::array<uint8_t, 32>;  // SHA-256

Hash sha256(std::initializer_list<ByteSpan> parts);
template <size_t N>
ByteSpan bytes_of(const std::array<uint8_t, N>& array) {
  return {reinterpret_cast<const std::byte*>(array.data()), N};
}
// In a time that does not depend on where they differ. Different lengths are unequal.
bool equal_in_constant_time(ByteSpan a, ByteSpan b);
void wipe(std::string* secret);

std::string to_hex(ByteSpan bytes);
// Lower-case digits only, an even number of them.
std::optional<std::string> from_hex(std::string_view text);
// RFC 4648, lower-case, without padding; the one encoding of its bytes (trailing bits are zero).
std::string to_base32(ByteSpan bytes);
// Either case. Nothing for other characters, lengths that no bytes have, trailing bits that are not
// zero.
std::optional<std::string> from_base32(std::string_view text);

// The 4 or 16 bytes of an IP address in text form; nothing for other text.
std::optional<std::string> ip_bytes(const std::string& text);

// What OpenSSL says about its last failure on this thread, and forgets it: "certificate verify
// failed".
std::string openssl_reason();

}  // namespace hf::auth
