// Keys, certificates, tokens, messages and records: what is accepted, what is refused and with
// which words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>

#include "auth/join.h"
#include "auth/testing/test_trust.h"

namespace hf::auth {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr WallTime kNow{1'800'000'000'000'000'000};  // 2027
WallTime later(Duration d) {
  return WallTime{kNow.ns + d.count()};
}

class CountingRandom : public Random {
 public:
  uint64_t next() override { return prng_.next(); }
  void fill(MutableByteSpan out) override {
    for (std::byte& b : out) b = static_cast<std::byte>(prng_.next());
  }

 private:
  Prng prng_{7};
};

TEST(Text, Base32AndHexAreExact) {
  EXPECT_EQ(to_base32(as_bytes("foobar")), "mzxw6ytboi");
  EXPECT_EQ(to_base32(as_bytes("")), "");
  for (const char* text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
    EXPECT_EQ(from_base32(to_base32(as_bytes(text))), std::string(text));
  }
  EXPECT_EQ(from_base32("MZXW6YTBOI"), "foobar");
  EXPECT_FALSE(from_base32("mz1w6"));    // 1 is no digit
  EXPECT_FALSE(from_base32("m"));        // five bits are no byte
  EXPECT_FALSE(from_base32("mzxw6yr"));  // bits left over that are not zero
  EXPECT_EQ(to_hex(as_bytes("\x01\xff")), "01ff");
  EXPECT_EQ(from_hex("01ff"), "\x01\xff");
  EXPECT_FALSE(from_hex("01f"));
  EXPECT_FALSE(from_hex("01FF"));
}

TEST(Names, AreCanonicalOrRefused) {
  EXPECT_EQ(canonical_name("Node-1.Example.COM").value(), "node-1.example.com");
  EXPECT_EQ(canonical_name("10.0.0.1").value(), "10.0.0.1");
  EXPECT_EQ(canonical_name("fd00::1").value(), canonical_name("FD00:0:0::1").value());
  for (const char* bad : {"",
                          "localhost",
                          "a.localhost",
                          "127.0.0.1",
                          "127.9.9.9",
                          "::1",
                          "0.0.0.0",
                          "::",
                          "10.0.0",
                          "10.0.0.256",
                          "-a",
                          "a-",
                          "a..b",
                          ".a",
                          "a.",
                          "a_b",
                          "a b",
                          "a/b",
                          "*.example.com",
                          "x.holdfast.internal",
                          "nöde"}) {
    EXPECT_EQ(canonical_name(bad).code(), ErrorCode::kInvalidArgument) << bad;
  }
  EXPECT_FALSE(canonical_name(std::string("10.0.0.1\0x", 10)).ok());
  EXPECT_FALSE(canonical_name(std::string(300, 'a')).ok());
}

TEST(Certificates, SayWhoTheNodeIs) {
  const TestCluster cluster(kNow);
  const PrivateKey key = PrivateKey::make();
  CertificateOrder order = cluster.order(5, key);
  order.names = {"node-5.example", "10.1.2.3", canonical_name("fd00::5").value()};
  const Certificate made = cluster.authority.issue(order).value();
  const Certificate read = Certificate::from_der(as_bytes(made.der())).value();
  EXPECT_EQ(read.identity()->cluster, cluster.id);
  EXPECT_EQ(read.identity()->node, test_id<NodeId>(5));
  EXPECT_EQ(read.public_der(), key.public_der());
  EXPECT_EQ(read.not_before().ns, order.not_before.ns);
  EXPECT_EQ(read.not_after().ns, order.not_after.ns);
  for (const char* name : {"dns:node-5.example", "ip:10.1.2.3", "dns:localhost", "ip:127.0.0.1"}) {
    EXPECT_THAT(read.names(), Contains(name));
  }
  EXPECT_EQ(Certificate::from_pem(made.pem())->fingerprint(), made.fingerprint());
  const CaBundle bundle = CaBundle::of({cluster.authority.certificate()}).value();
  EXPECT_EQ(*check_certificate(bundle, read, kNow), *read.identity());
  EXPECT_EQ(CaBundle::from_pem(bundle.pem())->pem(), bundle.pem());
}

TEST(Certificates, OfOtherClustersOrForgedAreRefused) {
  const TestCluster ours(kNow, 1), theirs(kNow, 2);
  const CaBundle bundle = CaBundle::of({ours.authority.certificate()}).value();
  const Result<PeerIdentity> foreign =
      check_certificate(bundle, theirs.credentials(1).certificate, kNow);
  EXPECT_EQ(foreign.code(), ErrorCode::kWrongOwner);
  EXPECT_THAT(foreign.error().message(), HasSubstr(theirs.id.to_string()));

  // Another CA that gives itself our cluster's name.
  const TestCluster forger(kNow, 1);
  ASSERT_EQ(forger.id, ours.id);
  EXPECT_EQ(check_certificate(bundle, forger.credentials(1).certificate, kNow).code(),
            ErrorCode::kUnauthenticated);
  // A node that signs a certificate itself, as if it were a CA.
  const Credentials node = ours.credentials(1);
  const PrivateKey key = PrivateKey::make();
  EXPECT_EQ(Authority::of(node.certificate, node.key).code(), ErrorCode::kCorruption);
  // The CA's own certificate is not that of a node.
  EXPECT_FALSE(check_certificate(bundle, ours.authority.certificate(), kNow).ok());
  EXPECT_FALSE(CaBundle::of({node.certificate}).ok());
  EXPECT_FALSE(CaBundle::of({ours.authority.certificate(), theirs.authority.certificate()}).ok());
}

TEST(Certificates, EveryFlippedByteIsNoticed) {
  const TestCluster cluster(kNow);
  const CaBundle bundle = CaBundle::of({cluster.authority.certificate()}).value();
  const std::string der = cluster.credentials(1).certificate.der();
  size_t accepted = 0;
  for (size_t i = 0; i < der.size(); ++i) {
    std::string bad = der;
    bad[i] = static_cast<char>(bad[i] ^ 0x01);
    const Result<Certificate> read = Certificate::from_der(as_bytes(bad));
    if (read.ok() && check_certificate(bundle, *read, kNow).ok()) ++accepted;
  }
  EXPECT_EQ(accepted, 0u);
}

TEST(Certificates, TimeIsJudgedAndSaid) {
  const TestCluster cluster(kNow);
  const CaBundle bundle = CaBundle::of({cluster.authority.certificate()}).value();
  const Certificate certificate = cluster.credentials(1).certificate;
  EXPECT_TRUE(check_certificate(bundle, certificate, later(-kBackdate + 1s)).ok())
      << "a clock behind";
  const Result<PeerIdentity> early = check_certificate(bundle, certificate, later(-2 * kBackdate));
  EXPECT_EQ(early.code(), ErrorCode::kFailedPrecondition);
  EXPECT_THAT(early.error().message(), HasSubstr("clock"));
  EXPECT_TRUE(check_certificate(bundle, certificate, later(kCertificateLife - 1s)).ok());
  const Result<PeerIdentity> late =
      check_certificate(bundle, certificate, later(kCertificateLife + 2s));
  EXPECT_EQ(late.code(), ErrorCode::kFailedPrecondition);
  EXPECT_THAT(late.error().message(), HasSubstr("ended at"));
  CheckOptions any_time;
  any_time.any_time = true;
  EXPECT_TRUE(check_certificate(bundle, certificate, later(kCertificateLife * 3), any_time).ok());
  EXPECT_FALSE(wants_renewal(certificate, later(kRenewAfter - 1s)));
  EXPECT_TRUE(wants_renewal(certificate, later(kRenewAfter)));
}

TEST(Certificates, BundleHoldsAnotherCaDuringAnExchange) {
  const TestCluster old_ca(kNow, 1), new_ca(kNow, 1);
  const CaBundle both =
      CaBundle::of({old_ca.authority.certificate(), new_ca.authority.certificate()}).value();
  EXPECT_TRUE(check_certificate(both, old_ca.credentials(1).certificate, kNow).ok());
  EXPECT_TRUE(check_certificate(both, new_ca.credentials(2).certificate, kNow).ok());
  EXPECT_TRUE(both.has(fingerprint_of(new_ca.authority.certificate())));
  const CaBundle only_new = CaBundle::of({new_ca.authority.certificate()}).value();
  EXPECT_FALSE(check_certificate(only_new, old_ca.credentials(1).certificate, kNow).ok());
}

TEST(Requests, ProveTheKeyAndCarryNothingElse) {
  const PrivateKey key = PrivateKey::make();
  const std::string request = make_request(key);
  EXPECT_EQ(key_of_request(as_bytes(request)).value(), key.public_der());
  std::string bad = request;
  bad[bad.size() - 5] = static_cast<char>(bad[bad.size() - 5] ^ 1);  // in the signature
  EXPECT_FALSE(key_of_request(as_bytes(bad)).ok());
  // Somebody else's key under my signature.
  const std::string other = PrivateKey::make().public_der();
  std::string stolen = request;
  const size_t at = stolen.find(key.public_der());
  ASSERT_NE(at, std::string::npos);
  stolen.replace(at, other.size(), other);
  EXPECT_EQ(key_of_request(as_bytes(stolen)).code(), ErrorCode::kUnauthenticated);
  EXPECT_EQ(key_of_request(as_bytes(request + "x")).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(key_of_request(as_bytes("")).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(key_of_request(as_bytes(std::string(3000, 'a'))).code(), ErrorCode::kInvalidArgument);
}

TEST(Keys, PemIsReadBackAndStrangersAreRefused) {
  const PrivateKey key = PrivateKey::make();
  EXPECT_EQ(PrivateKey::from_pem(key.pem())->public_der(), key.public_der());
  EXPECT_EQ(PrivateKey::from_pem("no key").code(), ErrorCode::kCorruption);
  Owned<EVP_PKEY> ed25519(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  ASSERT_EQ(
      PEM_write_bio_PrivateKey(out.get(), ed25519.get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  EXPECT_EQ(PrivateKey::from_pem({data, static_cast<size_t>(size)}).code(),
            ErrorCode::kNotSupported);
}

JoinToken some_token() {
  CountingRandom random;
  JoinToken token;
  token.cluster = test_id<ClusterId>(1);
  token.id = test_id<TokenId>(2);
  token.authority.fill(0xab);
  token.secret = JoinSecret::make(random);
  token.addresses = {"tcp:10.0.0.1:7510", "tcp:[fd00::1]:7510"};
  return token;
}

TEST(Tokens, AreOneWordAndComeBack) {
  const JoinToken token = some_token();
  const std::string text = encode_token(token);
  EXPECT_EQ(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz234567hf1."), std::string::npos)
      << text;
  const JoinToken back =
      decode_token("  " + text.substr(0, 40) + "\n" + text.substr(40) + "\n").value();
  EXPECT_EQ(back.cluster, token.cluster);
  EXPECT_EQ(back.id, token.id);
  EXPECT_EQ(back.authority, token.authority);
  EXPECT_EQ(back.addresses, token.addresses);
  EXPECT_TRUE(equal_in_constant_time(back.secret.bytes(), token.secret.bytes()));
  std::string upper = text;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  EXPECT_FALSE(decode_token(upper).ok()) << "the head is lower case";
}

TEST(Tokens, EveryTypoIsTold) {
  const std::string text = encode_token(some_token());
  for (size_t i = 4; i < text.size(); ++i) {
    for (const char other : {'a', 'q', '7', '1', '!'}) {
      std::string bad = text;
      if (bad[i] == other) continue;
      bad[i] = other;
      const Result<JoinToken> read = decode_token(bad);
      EXPECT_EQ(read.code(), ErrorCode::kInvalidArgument) << i;
      if (read.ok()) continue;
      EXPECT_EQ(read.error().message().find(text.substr(30, 20)), std::string::npos);
    }
    EXPECT_FALSE(decode_token(text.substr(0, i)).ok()) << i;
    if (i + 1 < text.size() && text[i] != text[i + 1]) {
      std::string swapped = text;
      std::swap(swapped[i], swapped[i + 1]);
      EXPECT_FALSE(decode_token(swapped).ok()) << i;
    }
  }
  EXPECT_FALSE(decode_token(text + "a").ok());
  EXPECT_EQ(decode_token("hf2." + text.substr(4)).code(), ErrorCode::kNewerFormat);
  for (const char* bad : {"", "hf1", "hf1.", "hf.aaaa", "token", "hf1.1"}) {
    EXPECT_EQ(decode_token(bad).code(), ErrorCode::kInvalidArgument) << bad;
  }
}

TokenRecord some_record(const JoinSecret& secret) {
  TokenRecord record;
  record.id = test_id<TokenId>(2);
  record.secret_hash = to_hex(bytes_of(secret.hash(record.id)));
  record.node = test_id<NodeId>(3);
  record.created = kNow;
  record.expires = later(kTokenLife);
  return record;
}

TEST(Claims, AreJudged) {
  CountingRandom random;
  JoinClaim claim;
  claim.token = test_id<TokenId>(2);
  claim.secret = JoinSecret::make(random);
  claim.public_der = "key of mine";
  TokenRecord token = some_record(claim.secret);
  EXPECT_TRUE(judge_claim(token, claim, kNow).value());
  EXPECT_TRUE(judge_claim(token, claim, later(kTokenLife - 1s)).value());
  const Result<bool> expired = judge_claim(token, claim, later(kTokenLife));
  EXPECT_EQ(expired.code(), ErrorCode::kFailedPrecondition);
  EXPECT_THAT(expired.error().message(), HasSubstr("expired at"));
  JoinClaim wrong = claim;
  wrong.secret = JoinSecret::make(random);
  EXPECT_EQ(judge_claim(token, wrong, kNow).code(), ErrorCode::kUnauthenticated);
  // A wrong secret learns nothing about the token.
  EXPECT_EQ(judge_claim(token, wrong, later(kTokenLife)).code(), ErrorCode::kUnauthenticated);

  token.used = kNow;
  token.used_by = to_hex(as_bytes("key of mine"));
  EXPECT_FALSE(judge_claim(token, claim, later(1min)).value());
  EXPECT_FALSE(judge_claim(token, claim, later(kRepeatTime)).value());
  EXPECT_EQ(judge_claim(token, claim, later(kRepeatTime + 1s)).code(),
            ErrorCode::kPermissionDenied);
  claim.public_der = "another's";
  const Result<bool> used = judge_claim(token, claim, later(1min));
  EXPECT_EQ(used.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(used.error().message(), HasSubstr("used already"));
}

TEST(Messages, ComeBackAndDamageIsNoticed) {
  JoinAsk ask;
  ask.cluster = test_id<ClusterId>(1);
  ask.token = test_id<TokenId>(2);
  ask.wall = kNow;
  ask.request = make_request(PrivateKey::make());
  ask.names = {"a.example", "10.0.0.1"};
  const std::string text = encode_ask(ask);
  const ByteSpan all = as_bytes(text);
  const JoinHead head = decode_join_head(all.first(kJoinHeadBytes), JoinMessage::kAsk).value();
  const JoinAsk back = decode_ask(head, all.subspan(kJoinHeadBytes)).value();
  EXPECT_EQ(back.request, ask.request);
  EXPECT_EQ(back.names, ask.names);
  EXPECT_EQ(encode_ask(back), text);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string bad = text;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    const Result<JoinHead> h =
        decode_join_head(as_bytes(bad).first(kJoinHeadBytes), JoinMessage::kAsk);
    EXPECT_FALSE(h.ok() && decode_ask(*h, as_bytes(bad).subspan(kJoinHeadBytes)).ok()) << i;
  }
  EXPECT_FALSE(decode_join_head(all.first(kJoinHeadBytes), JoinMessage::kAnswer).ok());
  JoinAnswer refusal;
  refusal.code = ErrorCode::kPermissionDenied;
  refusal.message = "used already";
  const std::string no = encode_answer(refusal);
  const JoinHead no_head =
      decode_join_head(as_bytes(no).first(kJoinHeadBytes), JoinMessage::kAnswer).value();
  const JoinAnswer no_back = decode_answer(no_head, as_bytes(no).subspan(kJoinHeadBytes)).value();
  EXPECT_EQ(no_back.code, ErrorCode::kPermissionDenied);
  EXPECT_EQ(no_back.message, "used already");
}

TEST(Records, ComeBackAndDamageIsNoticed) {
  CountingRandom random;
  const JoinSecret secret = JoinSecret::make(random);
  const TokenRecord record = some_record(secret);
  const std::string text = encode_record(record);
  EXPECT_EQ(encode_record(decode_record<TokenRecord>("k", text).value()), text);
  EXPECT_EQ(text.find(to_hex(secret.bytes())), std::string::npos) << "the secret itself is stored";
  for (size_t i = 0; i < text.size(); ++i) {
    std::string bad = text;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_EQ(decode_record<TokenRecord>("k", bad).code(), ErrorCode::kCorruption) << i;
  }
  EXPECT_FALSE(decode_record<NodeRecord>("k", text).ok());
}

TEST(Files, FirstLineHoldsKindVersionAndChecksum) {
  const std::string text = seal_trust_file("node", "-----BEGIN X-----\n");
  EXPECT_EQ(open_trust_file("p", "node", text).value(), "-----BEGIN X-----\n");
  EXPECT_EQ(open_trust_file("p", "ca", text).code(), ErrorCode::kCorruption);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string bad = text;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_EQ(open_trust_file("p", "node", bad).code(), ErrorCode::kCorruption) << i;
  }
}

TEST(Renewal, ANodeThatSignsExtendsItsOwnAfterASeason) {
  CountingRandom random;
  const TestCluster cluster(kNow);
  Credentials mine = cluster.credentials(1);
  CertificateOrder order = cluster.order(1, mine.key);
  order.names = {"n1.example", "10.0.0.1"};
  mine.certificate = cluster.authority.issue(order).value();
  const WallTime now = later(kCertificateLife * 2);
  EXPECT_FALSE(check_certificate(mine.bundle, mine.certificate, now).ok());
  const Credentials fresh = extend_own(cluster.authority, mine, now, random).value();
  EXPECT_TRUE(check_certificate(fresh.bundle, fresh.certificate, now).ok());
  EXPECT_EQ(fresh.certificate.names(), mine.certificate.names());
  EXPECT_EQ(fresh.certificate.public_der(), mine.key.public_der());
}

TEST(Revocation, ListNamesSerials) {
  const TestCluster cluster(kNow);
  const std::string pem = cluster.authority.revocation_list_pem({test_serial(1001)}, kNow);
  const Owned<BIO> in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  const Owned<X509_CRL> list(PEM_read_bio_X509_CRL(in.get(), nullptr, nullptr, nullptr));
  ASSERT_NE(list, nullptr);
  EXPECT_EQ(X509_CRL_verify(list.get(), cluster.authority.key().get()), 1);
  X509_REVOKED* found = nullptr;
  EXPECT_EQ(X509_CRL_get0_by_cert(list.get(), &found, cluster.credentials(1).certificate.get()), 1);
  EXPECT_EQ(X509_CRL_get0_by_cert(list.get(), &found, cluster.credentials(2).certificate.get()), 0);
}

}  // namespace
}  // namespace hf::auth
