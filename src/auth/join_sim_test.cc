// Joining under everything at once: several nodes with one token, nodes that sign and die, a state
// store that loses answers, connections that are reset, joiners that are killed between the
// question and the answer.
#include <gtest/gtest.h>

#include <map>

#include "auth/join.h"
#include "auth/testing/test_trust.h"
#include "base/log.h"
#include "runtime/contract/contract_support.h"
#include "sim/seed_runner.h"
#include "sim/simulation.h"
#include "state/memory_store.h"

namespace hf::auth {
namespace {

using sim::SimHost;
using sim::SimProcess;

class BadStore : public state::StoreFaults {
 public:
  explicit BadStore(Prng prng) : prng_(prng) {}
  state::StoreFate fate(bool is_write) override {
    if (!on || !prng_.chance(1, 4)) return state::StoreFate::kFine;
    if (!is_write) return state::StoreFate::kAway;
    return static_cast<state::StoreFate>(prng_.between(1, 4));
  }
  Duration latency() override { return Duration(prng_.below(3'000'000)); }
  Duration late_by() override { return Duration(prng_.below(2'000'000'000)); }
  bool on = true;

 private:
  Prng prng_;
};

// A node that signs, as long as its process lives.
struct Signer {
  Signer(World world, state::MemoryServer& server, BadStore& faults)
      : kv(server, world.clock, &faults),
        store(kv, world.clock, world.random),
        files(world.fs, "/state") {}
  state::MemoryStore kv;
  TrustStore store;
  TrustFiles files;
  std::unique_ptr<JoinService> service;
};

struct Joiner {
  explicit Joiner(SimHost& host) : process(host) {}
  SimProcess process;
  bool member = false;
  bool refused = false;  // for good
  std::string why;
  Membership membership;
};

class JoinWorld {
 public:
  explicit JoinWorld(uint64_t seed)
      : openssl_(seed),
        sim_(seed),
        prng_(seed * 77 + 1),
        server_(sim_.driver().clock),
        faults_(Prng(seed + 9)) {
    set_log_level(LogLevel::kOff);
    for (int i = 0; i < 2 + kJoiners; ++i) {
      SimHost& host = sim_.add_host(fmt::format("n{}", i));
      host.add_disk("/");
    }
    for (int i = 0; i < 2; ++i) signers_.push_back(std::make_unique<SimProcess>(sim_.host(i)));
    for (int i = 0; i < kJoiners; ++i)
      joiners_.push_back(std::make_unique<Joiner>(sim_.host(2 + i)));
    lives_.resize(2);
  }

  Status run() {
    sim_.run(everything());
    return verdict_;
  }
  uint64_t history() { return sim_.history().hash(); }
  void add_to(sim::ProbeCounts* probes) { sim_.plan().add_to(probes); }

 private:
  static constexpr int kJoiners = 3;
  static constexpr int kTries = 40;

  Duration up_to(Duration d) { return Duration(prng_.below(static_cast<uint64_t>(d.count()))); }
  void fail(std::string what) {
    if (verdict_.ok()) verdict_ = make_error(ErrorCode::kInternal, "{}", what);
  }
  std::string address(int i) { return fmt::format("tcp:10.0.0.{}:7510", i + 1); }

  static Task<void> make_state_dir(World world) {
    Status made = co_await world.fs.make_directory("/state", 0700);
    if (made.ok()) made = co_await world.fs.sync_dir("/");
  }

  // Starts what signs on node i; it must have its credentials on disk.
  Task<Status> start_signer(int i) {
    World& world = signers_[i]->world();
    lives_[i] = std::make_unique<Signer>(world, server_, faults_);
    Signer& life = *lives_[i];
    Result<std::optional<Authority>> authority = co_await life.files.load_signer();
    HF_CO_TRY(authority);
    Result<std::optional<Credentials>> credentials = co_await life.files.load();
    HF_CO_TRY(credentials);
    HF_ASSERT(authority->has_value() && credentials->has_value());
    std::function<std::vector<std::string>()> endpoints = [] {
      return std::vector<std::string>{"https://10.0.0.1:2379"};
    };
    life.service =
        std::make_unique<JoinService>(world, life.store, **authority, **credentials, endpoints);
    co_return co_await life.service->start(fmt::format("tcp:0.0.0.0:7510"));
  }

  Task<void> stop_signer(int i, bool kill) {
    if (kill) signers_[i]->kill();
    if (kill) lives_[i]->kv.kill();
    co_await lives_[i]->service->stop();
    co_await lives_[i]->kv.close();
    lives_[i].reset();
  }

  Task<Status> found_first() {
    World& world = signers_[0]->world();
    co_await make_state_dir(world);
    lives_[0] = std::make_unique<Signer>(world, server_, faults_);
    Signer& life = *lives_[0];
    std::vector<std::string> names = {"10.0.0.1"};
    Status status;
    for (int attempt = 0; attempt < kTries; ++attempt) {
      Result<Membership> first = co_await found_cluster(world, life.files, life.store, cluster_,
                                                        test_id<NodeId>(500), names);
      if (first.ok()) {
        authority_ = first->signer.certificate();
        status = Status();
        break;
      }
      status = first.error();
    }
    HF_CO_TRY(status);
    co_await life.kv.close();
    lives_[0].reset();
    co_return co_await start_signer(0);
  }

  Task<Result<JoinToken>> token(bool signer, std::vector<std::string> addresses) {
    TokenWish wish;
    wish.signer = signer;
    wish.addresses = std::move(addresses);
    Result<JoinToken> made = make_error(ErrorCode::kInternal, "never tried");
    for (int i = 0; i < kTries && !made.ok(); ++i)
      made = co_await lives_[0]->store.make_token(wish);
    co_return made;
  }

  Task<Status> join_second() {
    World& world = signers_[1]->world();
    co_await make_state_dir(world);
    std::vector<std::string> at = {address(0)};
    Result<JoinToken> ticket = co_await token(true, at);
    HF_CO_TRY(ticket);
    TrustFiles files(world.fs, "/state");
    std::vector<std::string> names = {"10.0.0.2"};
    Result<Membership> second = make_error(ErrorCode::kInternal, "never tried");
    for (int i = 0; i < kTries && !second.ok(); ++i) {
      second = co_await join_cluster(world, files, *ticket, names);
    }
    HF_CO_TRY(second);
    if (!second->signer)
      co_return make_error(ErrorCode::kInternal, "the second node got no CA key");
    co_return co_await start_signer(1);
  }

  static Task<void> attempt(World world, const JoinToken& ticket, std::string name,
                            Result<Membership>* out) {
    TrustFiles files(world.fs, "/state");
    std::vector<std::string> names = {name};
    *out = co_await join_cluster(world, files, ticket, names);
  }

  Task<void> live(int i) {
    Joiner& joiner = *joiners_[i];
    co_await make_state_dir(joiner.process.world());
    for (int n = 0; n < kTries && !joiner.member && !joiner.refused; ++n) {
      Result<Membership> result = make_error(ErrorCode::kInternal, "never ended");
      Gate gate;
      // The same name for all of them: only one may have it.
      spawn(gate, attempt(joiner.process.world(), *ticket_, "db.example", &result));
      if (faults_.on && prng_.chance(1, 3)) {
        Status slept = co_await sim_.driver().clock.sleep_for(up_to(60ms), CancelToken());
        HF_ASSERT(slept.ok());
        if (gate.inside() > 0) HF_PROBE("test.joiner_killed");
        joiner.process.kill();
        co_await gate.close();
        joiner.process.restart();
      }
      co_await gate.close();
      joiner.why = result.ok() ? "" : result.error().to_string();
      if (result.ok()) {
        joiner.member = true;
        joiner.membership = std::move(*result);
      } else if (result.code() == ErrorCode::kAlreadyExists) {
        // Killed after its certificate had been kept.
        TrustFiles files(joiner.process.world().fs, "/state");
        Result<std::optional<Credentials>> kept = co_await files.load();
        if (!kept.ok() || !kept->has_value()) {
          fail("a member without credentials");
          co_return;
        }
        joiner.member = true;
        joiner.membership.credentials = **kept;
        joiner.membership.self = *(*kept)->certificate.identity();
      } else {
        joiner.refused = result.code() == ErrorCode::kPermissionDenied;
        Status slept = co_await sim_.driver().clock.sleep_for(up_to(2s), CancelToken());
        HF_ASSERT(slept.ok());
      }
      // Faults end, so that everything can come to its end.
      if (n > kTries / 2) faults_.on = false;
    }
  }

  Task<void> trouble(CancelToken over) {
    Clock& clock = sim_.driver().clock;
    while (true) {
      Status slept = co_await clock.sleep_for(up_to(400ms), over);
      if (!slept.ok()) co_return;
      if (!faults_.on) continue;
      const int i = static_cast<int>(prng_.below(2));
      if (prng_.chance(1, 3)) {
        co_await stop_signer(i, true);
        HF_PROBE("test.signer_killed");
        Status off = co_await clock.sleep_for(up_to(300ms), CancelToken());
        HF_ASSERT(off.ok());
        signers_[i]->restart();
        Status started = co_await start_signer(i);
        if (!started.ok()) fail("a signer did not start: " + started.error().to_string());
      } else {
        sim_.net().reset_streams(fmt::format("n{}", i),
                                 fmt::format("n{}", 2 + prng_.below(kJoiners)));
      }
    }
  }

  Task<void> judge() {
    std::map<std::string, int> members;
    for (const auto& joiner : joiners_) {
      if (joiner->member) ++members[joiner->membership.self.node.to_string()];
      if (!joiner->member && !joiner->refused)
        fail("a joiner is neither in nor refused: " + joiner->why);
    }
    size_t all = 0;
    for (const auto& [node, count] : members) all += static_cast<size_t>(count);
    if (all != 1) fail(fmt::format("{} nodes joined by one token", all));
    for (const auto& joiner : joiners_) {
      if (!joiner->member) continue;
      const Credentials& mine = joiner->membership.credentials;
      const NodeId node = joiner->membership.self.node;
      const std::optional<state::Entry> entry = server_.get(node_key(node));
      if (!entry) {
        fail("the member has no record");
        continue;
      }
      const Result<NodeRecord> record = decode_record<NodeRecord>("k", entry->value);
      if (!record.ok() || record->public_key != to_hex(as_bytes(mine.key.public_der()))) {
        fail("the record is not of the member's key");
      }
      if (!server_.get(name_key("db.example"))) fail("the member's name is not its own");
      const Result<PeerIdentity> self =
          check_certificate(CaBundle::of({authority_}).value(), mine.certificate,
                            joiner->process.world().clock.wall());
      if (!self.ok() || self->node != node) fail("the member's certificate is not good");
    }
    co_return;
  }

  Task<void> everything() {
    Status first = co_await found_first();
    Status second = first;
    if (first.ok()) second = co_await join_second();
    if (!second.ok()) {
      fail("setting up: " + second.error().to_string());
      co_return;
    }
    std::vector<std::string> both = {address(0), address(1)};
    Result<JoinToken> ticket = co_await token(false, both);
    if (!ticket.ok()) {
      fail("no token: " + ticket.error().to_string());
      co_return;
    }
    // Through its text, as a person carries it.
    ticket_ = decode_token(encode_token(*ticket)).value();
    CancelSource over;
    Gate gate, background;
    spawn(background, trouble(over));
    for (int i = 0; i < kJoiners; ++i) spawn(gate, live(i));
    co_await gate.close();
    over.cancel();
    co_await background.close();
    co_await judge();
    for (int i = 0; i < 2; ++i) co_await stop_signer(i, false);
    co_await server_.close();
  }

  SeededOpenssl openssl_;
  sim::Simulation sim_;
  Prng prng_;
  state::MemoryServer server_;
  BadStore faults_;
  const ClusterId cluster_ = test_id<ClusterId>(1);
  Certificate authority_;
  std::optional<JoinToken> ticket_;
  std::vector<std::unique_ptr<SimProcess>> signers_;
  std::vector<std::unique_ptr<Signer>> lives_;
  std::vector<std::unique_ptr<Joiner>> joiners_;
  Status verdict_;
};

TEST(JoinSim, OneTokenOneNodeWhateverHappens) {
  const sim::SeedReport report = sim::run_seeds("JoinSim.OneTokenOneNodeWhateverHappens",
                                                sim::SeedOptions::from_command_line(300),
                                                [](uint64_t seed, sim::ProbeCounts* probes) {
                                                  JoinWorld world(seed);
                                                  Status status = world.run();
                                                  world.add_to(probes);
                                                  return status;
                                                });
  EXPECT_TRUE(report.ok()) << report.text();
  if (report.seeds_run >= 100) {
    EXPECT_EQ(sim::require_probes(report.probes, {"trust.admitted_before", "trust.admit_lost",
                                                  "trust.joining_again", "test.joiner_killed",
                                                  "test.signer_killed", "tls.truncated"}),
              "");
  }
}

TEST(JoinSim, SameSeedSameHistory) {
  uint64_t hashes[2] = {};
  for (uint64_t& hash : hashes) {
    JoinWorld world(5);
    EXPECT_TRUE(world.run().ok());
    hash = world.history();
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

}  // namespace
}  // namespace hf::auth
