#include "auth/ca.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>

#include "base/utc.h"

namespace hf::auth {
namespace {

constexpr size_t kMaxBundleBytes = 64 * 1024;
constexpr int64_t kSecond = 1'000'000'000;

void must(bool ok) {
  HF_ASSERT(ok, "OpenSSL: {}", openssl_reason());
}

std::string utc(WallTime time) {
  return format_utc(time.ns / kSecond);
}

void add_extension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Owned<X509_EXTENSION> extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  must(extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1);
}

void add_name(GENERAL_NAMES* names, int type, std::string_view value) {
  ASN1_STRING* text =
      ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
  must(text != nullptr && ASN1_STRING_set(text, value.data(), static_cast<int>(value.size())) == 1);
  GENERAL_NAME* name = GENERAL_NAME_new();
  must(name != nullptr);
  GENERAL_NAME_set0_value(name, type, text);
  must(sk_GENERAL_NAME_push(names, name) > 0);
}

// Canonical, so either an address or a DNS name.
void add_host(GENERAL_NAMES* names, const std::string& host) {
  const std::optional<std::string> address = ip_bytes(host);
  if (address) {
    add_name(names, GEN_IPADD, *address);
  } else {
    add_name(names, GEN_DNS, host);
  }
}

void set_serial(X509* certificate, const std::string& serial) {
  HF_ASSERT(serial.size() == 32 && serial[0] < '8', "serial {}", serial);
  BIGNUM* raw = nullptr;
  must(BN_hex2bn(&raw, serial.c_str()) == 32);
  const Owned<BIGNUM> number(raw);
  must(BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr);
}

void set_life(X509* certificate, WallTime from, WallTime to) {
  must(ASN1_TIME_set(X509_getm_notBefore(certificate), from.ns / kSecond) != nullptr);
  must(ASN1_TIME_set(X509_getm_notAfter(certificate), to.ns / kSecond) != nullptr);
}

void set_common_name(X509_NAME* name, const std::string& text) {
  must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                  reinterpret_cast<const unsigned char*>(text.c_str()), -1, -1,
                                  0) == 1);
}

Error time_error(const std::string& who, const Certificate& certificate, WallTime now, int why) {
  if (why == X509_V_ERR_CERT_NOT_YET_VALID) {
    return make_error(
        ErrorCode::kFailedPrecondition,
        "{} has a certificate that is valid from {}, and the clock here says {}: one of the "
        "two clocks is wrong; set it (timedatectl, chrony) and try again",
        who, utc(certificate.not_before()), utc(now));
  }
  return make_error(
      ErrorCode::kFailedPrecondition,
      "{} has a certificate that ended at {}, and the clock here says {}: it was not renewed "
      "in time, or one of the two clocks is wrong",
      who, utc(certificate.not_after()), utc(now));
}

}  // namespace

Fingerprint fingerprint_of(const Certificate& authority) {
  const Hash hash = authority.fingerprint();
  Fingerprint out;
  std::copy_n(hash.begin(), out.size(), out.begin());
  return out;
}

std::string new_serial(Random& random) {
  // Positive, and never shorter for zeroes in front.
  const uint64_t high = (random.next() >> 1) | (uint64_t{1} << 60);
  return fmt::format("{:016x}{:016x}", high, random.next());
}

Result<CaBundle> CaBundle::of(std::vector<Certificate> authorities) {
  if (authorities.empty() || authorities.size() > kMaxAuthorities) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} CA certificates, where 1 to {} are meant to be", authorities.size(),
                      kMaxAuthorities);
  }
  CaBundle bundle;
  for (Certificate& authority : authorities) {
    const Result<ClusterId> cluster = authority.authority_of();
    if (!cluster.ok() || X509_check_ca(authority.get()) != 1) {
      return make_error(ErrorCode::kInvalidArgument,
                        "a certificate that is not that of a cluster's CA");
    }
    if (bundle.authorities_.empty()) bundle.cluster_ = *cluster;
    if (bundle.cluster_ != *cluster) {
      return make_error(ErrorCode::kInvalidArgument, "CA certificates of two clusters, {} and {}",
                        bundle.cluster_.to_string(), cluster->to_string());
    }
    bundle.authorities_.push_back(std::move(authority));
  }
  return bundle;
}

Result<CaBundle> CaBundle::from_pem(std::string_view pem) {
  constexpr std::string_view kEnd = "-----END CERTIFICATE-----";
  if (pem.size() > kMaxBundleBytes) {
    return make_error(ErrorCode::kInvalidArgument, "{} bytes are too many for CA certificates",
                      pem.size());
  }
  std::vector<Certificate> authorities;
  for (size_t end = pem.find(kEnd); end != std::string_view::npos; end = pem.find(kEnd)) {
    Result<Certificate> certificate = Certificate::from_pem(pem.substr(0, end + kEnd.size()));
    HF_TRY(certificate);
    authorities.push_back(std::move(*certificate));
    pem.remove_prefix(end + kEnd.size());
  }
  return of(std::move(authorities));
}

std::string CaBundle::pem() const {
  std::string out;
  for (const Certificate& authority : authorities_) out += authority.pem();
  return out;
}

bool CaBundle::has(const Fingerprint& fingerprint) const {
  return std::any_of(authorities_.begin(), authorities_.end(), [&](const Certificate& authority) {
    return fingerprint_of(authority) == fingerprint;
  });
}

Authority Authority::make(ClusterId cluster, WallTime now, const std::string& serial) {
  Authority made;
  made.key_ = PrivateKey::make();
  made.cluster_ = cluster;
  Owned<X509> x(X509_new());
  must(x != nullptr && X509_set_version(x.get(), X509_VERSION_3) == 1);
  set_serial(x.get(), serial);
  set_life(x.get(), WallTime{now.ns - kBackdate.count()},
           WallTime{now.ns + kAuthorityLife.count()});
  set_common_name(X509_get_subject_name(x.get()), "holdfast cluster " + cluster.to_string());
  must(X509_set_issuer_name(x.get(), X509_get_subject_name(x.get())) == 1);
  must(X509_set_pubkey(x.get(), made.key_.get()) == 1);
  add_extension(x.get(), x.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  add_extension(x.get(), x.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  add_extension(x.get(), x.get(), NID_subject_key_identifier, "hash");
  const Owned<GENERAL_NAMES> names(GENERAL_NAMES_new());
  add_name(names.get(), GEN_URI, "holdfast://" + cluster.to_string());
  must(X509_add1_ext_i2d(x.get(), NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1);
  must(X509_sign(x.get(), made.key_.get(), EVP_sha256()) > 0);
  made.certificate_ = Certificate(std::move(x));
  return made;
}

Result<Authority> Authority::of(Certificate certificate, PrivateKey key) {
  const Result<ClusterId> cluster = certificate.authority_of();
  if (!cluster.ok())
    return make_error(ErrorCode::kCorruption, "the CA's certificate is not a cluster's");
  if (certificate.public_der() != key.public_der()) {
    return make_error(ErrorCode::kCorruption, "the CA's key does not belong to its certificate");
  }
  Authority authority;
  authority.certificate_ = std::move(certificate);
  authority.key_ = std::move(key);
  authority.cluster_ = *cluster;
  return authority;
}

Result<Certificate> Authority::issue(const CertificateOrder& order) const {
  HF_ASSERT(key_ && order.names.size() <= kMaxNames);
  const auto* at = reinterpret_cast<const unsigned char*>(order.public_der.data());
  const Owned<EVP_PKEY> key(d2i_PUBKEY(nullptr, &at, static_cast<long>(order.public_der.size())));
  if (key == nullptr) {
    return make_error(ErrorCode::kCorruption, "the public key of node {} cannot be read: {}",
                      order.node.to_string(), openssl_reason());
  }
  Owned<X509> x(X509_new());
  must(x != nullptr && X509_set_version(x.get(), X509_VERSION_3) == 1);
  set_serial(x.get(), order.serial);
  set_life(x.get(), order.not_before, order.not_after);
  set_common_name(X509_get_subject_name(x.get()), "holdfast-node-" + order.node.to_string());
  must(X509_set_issuer_name(x.get(), X509_get_subject_name(certificate_.get())) == 1);
  must(X509_set_pubkey(x.get(), key.get()) == 1);
  X509* issuer = certificate_.get();
  add_extension(x.get(), issuer, NID_basic_constraints, "critical,CA:FALSE");
  add_extension(x.get(), issuer, NID_key_usage, "critical,digitalSignature");
  add_extension(x.get(), issuer, NID_ext_key_usage, "serverAuth,clientAuth");
  add_extension(x.get(), issuer, NID_subject_key_identifier, "hash");
  add_extension(x.get(), issuer, NID_authority_key_identifier, "keyid");
  const Owned<GENERAL_NAMES> names(GENERAL_NAMES_new());
  add_name(names.get(), GEN_URI,
           fmt::format("holdfast://{}/node/{}", cluster_.to_string(), order.node.to_string()));
  for (const std::string& name : order.names) add_host(names.get(), name);
  for (const char* name : {"localhost", "127.0.0.1", "::1"}) add_host(names.get(), name);
  add_host(names.get(), cluster_dns_name(cluster_));
  must(X509_add1_ext_i2d(x.get(), NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1);
  must(X509_sign(x.get(), key_.get(), EVP_sha256()) > 0);
  return Certificate(std::move(x));
}

std::string Authority::revocation_list_pem(const std::vector<std::string>& serials,
                                           WallTime now) const {
  const Owned<X509_CRL> list(X509_CRL_new());
  must(list != nullptr && X509_CRL_set_version(list.get(), X509_CRL_VERSION_2) == 1);
  must(X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate_.get())) == 1);
  const Owned<ASN1_TIME> from(ASN1_TIME_set(nullptr, (now.ns - kBackdate.count()) / kSecond));
  // Whoever still has this one then goes on with it: its end would lock everybody out.
  const Owned<ASN1_TIME> to(ASN1_TIME_set(nullptr, (now.ns + kAuthorityLife.count()) / kSecond));
  must(X509_CRL_set1_lastUpdate(list.get(), from.get()) == 1 &&
       X509_CRL_set1_nextUpdate(list.get(), to.get()) == 1);
  for (const std::string& serial : serials) {
    BIGNUM* raw = nullptr;
    must(BN_hex2bn(&raw, serial.c_str()) > 0);
    const Owned<BIGNUM> number(raw);
    ASN1_INTEGER* integer = BN_to_ASN1_INTEGER(number.get(), nullptr);
    X509_REVOKED* revoked = X509_REVOKED_new();
    must(integer != nullptr && revoked != nullptr &&
         X509_REVOKED_set_serialNumber(revoked, integer) == 1 &&
         X509_REVOKED_set_revocationDate(revoked, from.get()) == 1 &&
         X509_CRL_add0_revoked(list.get(), revoked) == 1);
    ASN1_INTEGER_free(integer);
  }
  must(X509_CRL_sort(list.get()) == 1 && X509_CRL_sign(list.get(), key_.get(), EVP_sha256()) > 0);
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  must(out != nullptr && PEM_write_bio_X509_CRL(out.get(), list.get()) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string cluster_dns_name(ClusterId cluster) {
  return cluster.to_string() + ".holdfast.internal";
}

Result<PeerIdentity> check_certificate(const CaBundle& bundle, const Certificate& certificate,
                                       WallTime now, CheckOptions options) {
  const Result<PeerIdentity> claimed = certificate.identity();
  HF_TRY(claimed);
  const std::string who = "node " + claimed->node.to_string();
  if (claimed->cluster != bundle.cluster()) {
    return make_error(ErrorCode::kWrongOwner, "{} belongs to cluster {}, this is cluster {}", who,
                      claimed->cluster.to_string(), bundle.cluster().to_string());
  }
  const Owned<X509_STORE> store(X509_STORE_new());
  const Owned<X509_STORE_CTX> context(X509_STORE_CTX_new());
  must(store != nullptr && context != nullptr);
  for (const Certificate& authority : bundle.authorities()) {
    must(X509_STORE_add_cert(store.get(), authority.get()) == 1);
  }
  must(X509_STORE_CTX_init(context.get(), store.get(), certificate.get(), nullptr) == 1);
  X509_VERIFY_PARAM* rules = X509_STORE_CTX_get0_param(context.get());
  must(X509_VERIFY_PARAM_set_purpose(rules, X509_PURPOSE_SSL_CLIENT) == 1);
  unsigned long flags = X509_V_FLAG_X509_STRICT;
  // A time that is set would be checked all the same.
  if (options.any_time) {
    flags |= X509_V_FLAG_NO_CHECK_TIME;
  } else {
    X509_VERIFY_PARAM_set_time(rules, now.ns / kSecond);
  }
  must(X509_VERIFY_PARAM_set_flags(rules, flags) == 1);
  if (X509_verify_cert(context.get()) == 1) return *claimed;
  const int why = X509_STORE_CTX_get_error(context.get());
  (void)openssl_reason();
  // The CA's own time too: a clock far behind has it begin in the future.
  if (why == X509_V_ERR_CERT_NOT_YET_VALID || why == X509_V_ERR_CERT_HAS_EXPIRED) {
    return time_error(who, certificate, now, why);
  }
  return make_error(
      ErrorCode::kUnauthenticated,
      "who calls itself {} has a certificate that the CA of cluster {} does not vouch for ({})",
      who, bundle.cluster().to_string(), X509_verify_cert_error_string(why));
}

}  // namespace hf::auth
