// etcd's members and its client take our certificates as they lie on disk: three members that talk
// TLS to each other, a client with a certificate, one without, one of another cluster, one that is
// revoked.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "auth/testing/test_trust.h"
#include "auth/trust_files.h"
#include "runtime/contract/contract_support.h"
#include "state/testing/free_ports.h"
#include "uring/real_world_under_test.h"

namespace hf::auth {
namespace {

using std::chrono_literals::operator""ms;

pid_t start(const std::vector<std::string>& argv, const std::string& log) {
  const pid_t child = fork();
  HF_ASSERT(child >= 0);
  if (child > 0) return child;
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(out, 1);
  dup2(out, 2);
  setenv("ETCDCTL_API", "3", 1);
  std::vector<char*> raw;
  for (const std::string& word : argv) raw.push_back(const_cast<char*>(word.c_str()));
  raw.push_back(nullptr);
  execvp(raw[0], raw.data());
  _exit(127);
}

int run_to_end(const std::vector<std::string>& argv, const std::string& log) {
  const pid_t child = start(argv, log);
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Task<void> save(World& world, std::string dir, Credentials credentials) {
  Status made = co_await world.fs.make_directory(dir, 0700);
  HF_CO_ASSERT_OK(made);
  TrustFiles files(world.fs, dir);
  Status prepared = co_await files.prepare();
  HF_CO_ASSERT_OK(prepared);
  Status saved = co_await files.save(std::move(credentials));
  HF_CO_ASSERT_OK(saved);
}

class Etcd : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access("/usr/bin/etcd", X_OK) != 0 || access("/usr/bin/etcdctl", X_OK) != 0) {
      GTEST_SKIP() << "etcd-server and etcd-client are not installed";
    }
    real_ = make_real_world();
    dir_ = real_->scratch_dir();
  }
  void TearDown() override {
    for (const pid_t member : members_) {
      kill(member, SIGKILL);
      waitpid(member, nullptr, 0);
    }
    if (HasFailure()) {
      for (int i = 0; i < 3; ++i) {
        std::ifstream log(fmt::format("{}/etcd{}.log", dir_, i));
        std::string line;
        for (int n = 0; n < 60 && std::getline(log, line); ++n)
          std::fprintf(stderr, "etcd%d: %s\n", i, line.c_str());
      }
    }
  }
  void save_as(const std::string& name, Credentials credentials) {
    real_->run(save(real_->world(), dir_ + "/" + name, std::move(credentials)));
  }
  std::string file(const std::string& who, const char* name) {
    return fmt::format("{}/{}/trust/{}", dir_, who, name);
  }
  int etcdctl(const std::string& who, std::vector<std::string> words,
              bool with_certificate = true) {
    std::vector<std::string> argv = {
        "etcdctl",           "--endpoints", endpoint_,  "--dial-timeout",   "5s",
        "--command-timeout", "10s",         "--cacert", file(who, "ca.pem")};
    if (with_certificate) {
      for (const char* option : {"--cert", "--key"}) {
        argv.push_back(option);
        argv.push_back(file(who, "node.pem"));
      }
    }
    argv.insert(argv.end(), words.begin(), words.end());
    return run_to_end(argv, dir_ + "/etcdctl.log");
  }
  // Again while the members find each other, or look for a leader on a machine under load.
  bool works(const std::string& who, const std::vector<std::string>& words) {
    for (int i = 0; i < 60; ++i) {
      if (etcdctl(who, words) == 0) return true;
      std::this_thread::sleep_for(500ms);
    }
    return false;
  }
  void start_members(const std::string& revocations) {
    const std::vector<int> peer = state::free_ports(3), client = state::free_ports(3);
    std::string all;
    for (int i = 0; i < 3; ++i) {
      all += fmt::format("{}n{}=https://127.0.0.1:{}", i == 0 ? "" : ",", i, peer[i]);
    }
    for (int i = 0; i < 3; ++i) {
      const std::string who = fmt::format("n{}", i);
      const std::string at = fmt::format("https://127.0.0.1:{}", client[i]);
      const std::string peers = fmt::format("https://127.0.0.1:{}", peer[i]);
      members_.push_back(start({"etcd",
                                "--name",
                                who,
                                "--data-dir",
                                fmt::format("{}/data{}", dir_, i),
                                "--listen-client-urls",
                                at,
                                "--advertise-client-urls",
                                at,
                                "--listen-peer-urls",
                                peers,
                                "--initial-advertise-peer-urls",
                                peers,
                                "--initial-cluster",
                                all,
                                "--initial-cluster-state",
                                "new",
                                "--client-cert-auth",
                                "--trusted-ca-file",
                                file(who, "ca.pem"),
                                "--cert-file",
                                file(who, "node.pem"),
                                "--key-file",
                                file(who, "node.pem"),
                                "--client-crl-file",
                                revocations,
                                "--peer-client-cert-auth",
                                "--peer-trusted-ca-file",
                                file(who, "ca.pem"),
                                "--peer-cert-file",
                                file(who, "node.pem"),
                                "--peer-key-file",
                                file(who, "node.pem")},
                               fmt::format("{}/etcd{}.log", dir_, i)));
    }
    endpoint_ = fmt::format("https://127.0.0.1:{}", client[0]);
  }

  std::unique_ptr<contract::WorldUnderTest> real_;
  std::string dir_, endpoint_;
  std::vector<pid_t> members_;
};

TEST_F(Etcd, MembersAndClientsTakeOurCertificates) {
  const WallTime now = real_->world().clock.wall();
  const TestCluster ours(now, 1), theirs(now, 2);
  for (uint64_t i = 0; i < 3; ++i) save_as(fmt::format("n{}", i), ours.credentials(1 + i));
  save_as("client", ours.credentials(7));
  save_as("revoked", ours.credentials(8));
  save_as("foreign", theirs.credentials(1));
  const std::string revocations = dir_ + "/revoked.crl";
  std::ofstream(revocations) << ours.authority.revocation_list_pem({test_serial(1008)}, now);
  start_members(revocations);
  ASSERT_TRUE(works("client", {"put", "k", "v"})) << "no put went through";
  EXPECT_TRUE(works("client", {"endpoint", "health"}));
  EXPECT_TRUE(works("n1", {"get", "k"}));
  EXPECT_NE(etcdctl("client", {"get", "k"}, false), 0) << "a client without a certificate";
  EXPECT_NE(etcdctl("foreign", {"get", "k"}), 0) << "a client of another cluster";
  EXPECT_NE(etcdctl("revoked", {"get", "k"}), 0) << "a client that is revoked";
}

}  // namespace
}  // namespace hf::auth
