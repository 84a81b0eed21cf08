#include "auth/certificate.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>

namespace hf::auth {
namespace {

constexpr std::string_view kUriHead = "holdfast://";
constexpr std::string_view kUriNode = "/node/";
constexpr size_t kIdLetters = 36;
constexpr size_t kMaxPemBytes = 16 * 1024;

Owned<BIO> memory_of(std::string_view text) {
  Owned<BIO> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  HF_ASSERT(bio != nullptr);
  return bio;
}

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

// i2d_…(object) as bytes.
template <typename T>
std::string to_der(int (*encode)(T*, unsigned char**), T* object) {
  unsigned char* out = nullptr;
  const int size = encode(object, &out);
  HF_ASSERT(size > 0, "{}", openssl_reason());
  std::string der(reinterpret_cast<const char*>(out), static_cast<size_t>(size));
  OPENSSL_free(out);
  return der;
}

std::string public_key_der(EVP_PKEY* key) {
  return to_der<const EVP_PKEY>(
      [](const EVP_PKEY* k, unsigned char** out) { return i2d_PUBKEY(k, out); }, key);
}

bool is_p256(EVP_PKEY* key) {
  char group[32] = {};
  size_t size = 0;
  return key != nullptr && EVP_PKEY_is_a(key, "EC") == 1 &&
         EVP_PKEY_get_utf8_string_param(key, "group", group, sizeof group, &size) == 1 &&
         std::string_view(group, size) == "prime256v1";
}

WallTime wall_of(const ASN1_TIME* time) {
  const Owned<ASN1_TIME> epoch(ASN1_TIME_set(nullptr, 0));
  int days = 0, seconds = 0;
  if (epoch == nullptr || ASN1_TIME_diff(&days, &seconds, epoch.get(), time) != 1) return {};
  // Past 2262 nanoseconds do not fit.
  const int64_t total =
      std::min<int64_t>(int64_t{days} * 86'400 + seconds, INT64_MAX / 1'000'000'000);
  return WallTime{total * 1'000'000'000};
}

std::string_view view_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<size_t>(ASN1_STRING_length(text))};
}

std::string address_text(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const unsigned byte = static_cast<unsigned char>(bytes[i]);
    if (bytes.size() == 4) {
      out += fmt::format("{}{}", i == 0 ? "" : ".", byte);
    } else {
      out += fmt::format("{}{:02x}", i > 0 && i % 2 == 0 ? ":" : "", byte);
    }
  }
  return out;
}

// "<cluster>" or "<cluster>/node/<node>" behind the head.
Result<PeerIdentity> parse_uri(std::string_view uri, bool of_node) {
  const Error malformed =
      make_error(ErrorCode::kUnauthenticated, "the certificate's URI is not {} of Holdfast",
                 of_node ? "that of a node" : "that of a cluster");
  const size_t wanted = kUriHead.size() + kIdLetters + (of_node ? kUriNode.size() + kIdLetters : 0);
  if (uri.size() != wanted || !uri.starts_with(kUriHead)) return malformed;
  const std::string_view rest = uri.substr(kUriHead.size());
  const auto cluster = ClusterId::parse(rest.substr(0, kIdLetters));
  if (!cluster) return malformed;
  PeerIdentity identity;
  identity.cluster = *cluster;
  if (!of_node) return identity;
  const auto node = NodeId::parse(rest.substr(kIdLetters + kUriNode.size()));
  if (!node || rest.substr(kIdLetters, kUriNode.size()) != kUriNode) return malformed;
  identity.node = *node;
  return identity;
}

// The one URI among its names.
Result<PeerIdentity> identity_of(const Certificate& certificate, bool of_node) {
  std::string uri;
  for (const std::string& name : certificate.names()) {
    if (!name.starts_with("uri:")) continue;
    if (!uri.empty()) {
      return make_error(ErrorCode::kUnauthenticated, "the certificate has more than one URI");
    }
    uri = name.substr(4);
  }
  return parse_uri(uri, of_node);
}

bool is_dns_name(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  size_t label = 0;
  bool letters = false;  // a name of digits and dots alone is a broken address
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    if (c == '.') {
      if (label == 0 || name[i - 1] == '-') return false;
      label = 0;
      continue;
    }
    const bool letter = c >= 'a' && c <= 'z';
    if (!letter && !(c >= '0' && c <= '9') && !(c == '-' && label > 0)) return false;
    letters = letters || letter;
    if (++label > 63) return false;
  }
  return letters && label > 0 && name.back() != '-';
}

}  // namespace

PrivateKey PrivateKey::make() {
  Owned<EVP_PKEY> key(EVP_EC_gen("P-256"));
  HF_ASSERT(key != nullptr, "no key could be made: {}", openssl_reason());
  return PrivateKey(std::move(key));
}

Result<PrivateKey> PrivateKey::from_pem(std::string_view pem) {
  if (pem.size() > kMaxPemBytes)
    return make_error(ErrorCode::kCorruption, "it is too large for a key");
  const Owned<BIO> in = memory_of(pem);
  // An encrypted one would ask for its pass phrase on the terminal.
  pem_password_cb* const no_phrase = [](char*, int, int, void*) { return -1; };
  Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(in.get(), nullptr, no_phrase, nullptr));
  if (key == nullptr) {
    return make_error(ErrorCode::kCorruption, "it holds no private key: {}", openssl_reason());
  }
  if (!is_p256(key.get())) {
    return make_error(ErrorCode::kNotSupported, "its key is not of the kind ECDSA P-256");
  }
  return PrivateKey(std::move(key));
}

std::string PrivateKey::pem() const {
  const Owned<BIO> out(BIO_new(BIO_s_secmem()));
  HF_ASSERT(out != nullptr &&
            PEM_write_bio_PrivateKey(out.get(), get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return text_of(out.get());
}

std::string PrivateKey::public_der() const {
  return public_key_der(get());
}

Result<Certificate> Certificate::from_der(ByteSpan der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  if (der.size() > kMaxDerBytes) {
    return make_error(ErrorCode::kCorruption, "a certificate of {} bytes is too large", der.size());
  }
  Owned<X509> certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (certificate == nullptr) {
    return make_error(ErrorCode::kCorruption, "it holds no certificate: {}", openssl_reason());
  }
  if (at != reinterpret_cast<const unsigned char*>(der.data()) + der.size()) {
    return make_error(ErrorCode::kCorruption, "there is something behind the certificate");
  }
  return Certificate(std::move(certificate));
}

Result<Certificate> Certificate::from_pem(std::string_view pem) {
  if (pem.size() > kMaxPemBytes) {
    return make_error(ErrorCode::kCorruption, "it is too large for a certificate");
  }
  const Owned<BIO> in = memory_of(pem);
  Owned<X509> certificate(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    return make_error(ErrorCode::kCorruption, "it holds no certificate: {}", openssl_reason());
  }
  return Certificate(std::move(certificate));
}

std::string Certificate::der() const {
  return to_der<const X509>([](const X509* x, unsigned char** out) { return i2d_X509(x, out); },
                            get());
}

std::string Certificate::pem() const {
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  HF_ASSERT(out != nullptr && PEM_write_bio_X509(out.get(), get()) == 1);
  return text_of(out.get());
}

Hash Certificate::fingerprint() const {
  return sha256({as_bytes(der())});
}

std::string Certificate::public_der() const {
  EVP_PKEY* key = X509_get0_pubkey(get());
  return key == nullptr ? std::string() : public_key_der(key);
}

std::string Certificate::serial() const {
  const Owned<BIGNUM> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(get()), nullptr));
  if (number == nullptr || BN_num_bytes(number.get()) > 32) return {};
  std::string bytes(static_cast<size_t>(BN_num_bytes(number.get())), '\0');
  BN_bn2bin(number.get(), reinterpret_cast<unsigned char*>(bytes.data()));
  return to_hex(as_bytes(bytes));
}

WallTime Certificate::not_before() const {
  return wall_of(X509_get0_notBefore(get()));
}
WallTime Certificate::not_after() const {
  return wall_of(X509_get0_notAfter(get()));
}

std::vector<std::string> Certificate::names() const {
  std::vector<std::string> out;
  const Owned<GENERAL_NAMES> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(get(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    const void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type);
    const auto* text = static_cast<const ASN1_STRING*>(value);
    if (type == GEN_URI) out.push_back("uri:" + std::string(view_of(text)));
    if (type == GEN_DNS) out.push_back("dns:" + std::string(view_of(text)));
    if (type == GEN_IPADD) out.push_back("ip:" + address_text(view_of(text)));
  }
  return out;
}

Result<PeerIdentity> Certificate::identity() const {
  return identity_of(*this, true);
}

Result<ClusterId> Certificate::authority_of() const {
  const Result<PeerIdentity> identity = identity_of(*this, false);
  if (!identity.ok()) return identity.error();
  return identity->cluster;
}

std::string make_request(const PrivateKey& key) {
  const Owned<X509_REQ> request(X509_REQ_new());
  HF_ASSERT(request != nullptr && X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) == 1 &&
                X509_REQ_set_pubkey(request.get(), key.get()) == 1 &&
                X509_REQ_sign(request.get(), key.get(), EVP_sha256()) > 0,
            "{}", openssl_reason());
  return to_der<const X509_REQ>(
      [](const X509_REQ* r, unsigned char** out) { return i2d_X509_REQ(r, out); }, request.get());
}

Result<std::string> key_of_request(ByteSpan request) {
  if (request.size() > kMaxRequestBytes) {
    return make_error(ErrorCode::kInvalidArgument, "a certificate request of {} bytes is too large",
                      request.size());
  }
  const auto* at = reinterpret_cast<const unsigned char*>(request.data());
  const Owned<X509_REQ> parsed(d2i_X509_REQ(nullptr, &at, static_cast<long>(request.size())));
  if (parsed == nullptr ||
      at != reinterpret_cast<const unsigned char*>(request.data()) + request.size()) {
    return make_error(ErrorCode::kInvalidArgument, "the certificate request cannot be read: {}",
                      openssl_reason());
  }
  EVP_PKEY* key = X509_REQ_get0_pubkey(parsed.get());
  if (!is_p256(key)) {
    (void)openssl_reason();
    return make_error(ErrorCode::kInvalidArgument,
                      "the certificate request's key is not of the kind ECDSA P-256");
  }
  if (X509_REQ_verify(parsed.get(), key) != 1) {
    (void)openssl_reason();
    return make_error(ErrorCode::kUnauthenticated,
                      "the certificate request is not signed by the key that it is for");
  }
  return public_key_der(key);
}

Result<std::string> canonical_name(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (const std::optional<std::string> raw = ip_bytes(lower)) {
    const size_t first = raw->find_first_not_of('\0');
    const bool loopback = raw->size() == 4 ? raw->front() == 127 : first == 15 && raw->back() == 1;
    if (first != std::string::npos && !loopback) return address_text(*raw);
  } else if (is_dns_name(lower) && lower != "localhost" && !lower.ends_with(".localhost") &&
             lower != "holdfast.internal" && !lower.ends_with(".holdfast.internal")) {
    return lower;
  }
  return make_error(
      ErrorCode::kInvalidArgument,
      "'{}' is no name of a node: give a DNS name or an IP address that other nodes reach it by",
      lower.substr(0, 64));
}

}  // namespace hf::auth
