// A real etcd for tests: members as children of the test, in a folder of their own, on loopback
// ports of their own. They die with the test (PDEATHSIG) and are ended by their pids.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

namespace hf::state {

// "" when the machine has etcd and etcdctl; otherwise what is missing, for GTEST_SKIP.
std::string etcd_missing();

struct EtcdTestOptions {
  int members = 1;
  bool tls = false;  // certificates of a CA of the test's own, clients and members must show theirs
  std::vector<std::string> more;  // flags for every member
};

class EtcdTestCluster {
 public:
  // Started; not yet waited for: clients wait.
  explicit EtcdTestCluster(EtcdTestOptions options = {});
  ~EtcdTestCluster();
  EtcdTestCluster(const EtcdTestCluster&) = delete;
  EtcdTestCluster& operator=(const EtcdTestCluster&) = delete;

  std::vector<std::string> endpoints() const;  // of all members, in order
  const std::string& folder() const { return folder_; }
  std::string file(const std::string& name) const { return folder_ + "/" + name; }

  void start(int member);
  void kill_9(int member);
  void freeze(int member) const;  // SIGSTOP
  void thaw(int member) const;    // SIGCONT
  bool runs(int member) const { return members_[static_cast<size_t>(member)].pid > 0; }
  // The data of a member that does not run.
  void copy_data(int member, const std::string& to) const;
  void put_data_back(int member, const std::string& from);
  // etcdctl with these words; its output, or "failed: …". Through one member (-1: all).
  std::string ctl(const std::string& words, int member = -1) const;
  // Which member leads, by its own word, as soon as one does; -1 if none does for a minute.
  int leader() const;

 private:
  struct Member {
    pid_t pid = 0;
    int client_port = 0;
    int peer_port = 0;
    std::string data;
    std::string name;
  };
  void make_certificates() const;

  EtcdTestOptions options_;
  std::string folder_;
  std::vector<Member> members_;
};

}  // namespace hf::state
