// For tests: a cluster's CA and credentials of its nodes, without a state store; OpenSSL's
// randomness from a seed; a world whose network is TLS over another world's.
#pragma once

#include <openssl/rand.h>

#include <memory>

#include "auth/tls.h"
#include "base/prng.h"
#include "runtime/contract/world_factory.h"

namespace hf::auth {

inline std::string test_serial(uint64_t n) {
  return fmt::format("0000000000000001{:016x}", n);
}

template <typename IdType>
IdType test_id(uint64_t n) {
  return IdType::from_random(n * 0x9e3779b97f4a7c15, n);
}

struct TestCluster {
  explicit TestCluster(WallTime now, uint64_t n = 1)
      : id(test_id<ClusterId>(n)), authority(Authority::make(id, now, test_serial(n))), made(now) {}

  CertificateOrder order(uint64_t node, const PrivateKey& key) const {
    CertificateOrder order;
    order.node = test_id<NodeId>(node);
    order.public_der = key.public_der();
    order.serial = test_serial(1000 + node);
    order.not_before = WallTime{made.ns - kBackdate.count()};
    order.not_after = WallTime{made.ns + kCertificateLife.count()};
    return order;
  }
  Credentials credentials(uint64_t node) const {
    Credentials out;
    out.key = PrivateKey::make();
    out.certificate = authority.issue(order(node, out.key)).value();
    out.bundle = CaBundle::of({authority.certificate()}).value();
    return out;
  }

  ClusterId id;
  Authority authority;
  WallTime made;
};

// While it lives, OpenSSL's randomness on every thread comes from a seed: the same seed, the same
// keys, signatures and so the same bytes on the simulated network.
class SeededOpenssl {
 public:
  explicit SeededOpenssl(uint64_t seed) {
    prng() = Prng(seed);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    static const RAND_METHOD method = {nullptr, bytes, nullptr, nullptr, bytes, [] { return 1; }};
    HF_ASSERT(RAND_set_rand_method(&method) == 1);
  }
  ~SeededOpenssl() {
    RAND_set_rand_method(nullptr);
  }
#pragma GCC diagnostic pop

 private:
  static Prng& prng() {
    static Prng one(0);
    return one;
  }
  static int bytes(unsigned char* out, int size) {
    for (int i = 0; i < size; ++i) out[i] = static_cast<unsigned char>(prng().next());
    return 1;
  }
};

// Another world with TLS between its streams; all of them are of one node, which is its own peer.
class TlsWorldUnderTest final : public contract::WorldUnderTest {
 public:
  explicit TlsWorldUnderTest(std::unique_ptr<contract::WorldUnderTest> inner)
      : inner_(std::move(inner)),
        cluster_(inner_->world().clock.wall()),
        endpoint_(inner_->world().clock, TlsUse::kPeer, cluster_.credentials(1)),
        net_(inner_->world().net, endpoint_),
        world_{inner_->world().loop,
               inner_->world().clock,
               inner_->world().random,
               inner_->world().fs,
               net_,
               inner_->world().process,
               inner_->world().blocking} {}
  ~TlsWorldUnderTest() override { inner_->run(endpoint_.stop()); }
  World& world() override { return world_; }
  std::string scratch_dir() override { return inner_->scratch_dir(); }
  void run(Task<void> task) override { inner_->run(std::move(task)); }

 private:
  std::unique_ptr<contract::WorldUnderTest> inner_;
  TestCluster cluster_;
  TlsEndpoint endpoint_;
  TlsNetwork net_;
  World world_;
};

}  // namespace hf::auth
