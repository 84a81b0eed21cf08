#include "state/testing/etcd_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "base/assert.h"
#include "state/testing/free_ports.h"

namespace hf::state {
namespace {

constexpr char kEtcd[] = "/usr/bin/etcd";
constexpr char kEtcdctl[] = "/usr/bin/etcdctl";

std::string run(const std::string& command) {
  std::string output;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  HF_ASSERT(pipe != nullptr);
  std::array<char, 4096> buffer;
  size_t n = 0;
  while ((n = ::fread(buffer.data(), 1, buffer.size(), pipe)) > 0) output.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  return status == 0 ? output : "failed: " + output;
}

// The parent is checked after the prctl: it could have died before.
pid_t spawn_child(const std::vector<std::string>& argv, const std::string& log) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  HF_ASSERT(pid >= 0, "fork: {}", errno);
  if (pid > 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(126);
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::close_range(3, ~0U, 0);
  ::execv(words[0], words.data());
  ::_exit(127);
}

}  // namespace

std::string etcd_missing() {
  for (const char* program : {kEtcd, kEtcdctl}) {
    if (::access(program, X_OK) != 0) {
      return std::string(program) + " is not installed: tools/deps.sh test";
    }
  }
  return "";
}

EtcdTestCluster::EtcdTestCluster(EtcdTestOptions options) : options_(std::move(options)) {
  char name[] = "/tmp/hf-etcd-XXXXXX";
  HF_ASSERT(::mkdtemp(name) != nullptr);
  folder_ = name;
  if (options_.tls) make_certificates();
  const auto count = static_cast<size_t>(options_.members);
  const std::vector<int> ports = free_ports(count * 2);
  for (size_t i = 0; i < count; ++i) {
    Member member;
    member.name = "m" + std::to_string(i);
    member.client_port = ports[2 * i];
    member.peer_port = ports[2 * i + 1];
    member.data = file(member.name);
    members_.push_back(std::move(member));
  }
  for (int i = 0; i < options_.members; ++i) start(i);
}

EtcdTestCluster::~EtcdTestCluster() {
  for (int i = 0; i < options_.members; ++i) {
    if (runs(i)) kill_9(i);
  }
  // Only what mkdtemp made for us.
  if (folder_.starts_with("/tmp/hf-etcd-")) (void)run("rm -rf '" + folder_ + "'");
}

void EtcdTestCluster::make_certificates() const {
  const std::string in = "cd '" + folder_ + "' && ";
  const char* steps[] = {
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key "
      "-out ca.crt -subj /CN=hf-test-ca",
      "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout node.key -out "
      "node.csr "
      "-subj /CN=hf-test-node",
      "printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > node.ext",
      "openssl x509 -req -in node.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile "
      "node.ext -out node.crt",
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout "
      "other.key -out other.crt -subj /CN=another-ca",
  };
  for (const char* step : steps) {
    const std::string output = run(in + step);
    HF_ASSERT(!output.starts_with("failed"), "{}", output);
  }
}

std::vector<std::string> EtcdTestCluster::endpoints() const {
  std::vector<std::string> all;
  for (const Member& member : members_) {
    all.push_back("127.0.0.1:" + std::to_string(member.client_port));
  }
  return all;
}

void EtcdTestCluster::start(int index) {
  Member& member = members_[static_cast<size_t>(index)];
  HF_ASSERT(member.pid == 0);
  const std::string scheme = options_.tls ? "https://127.0.0.1:" : "http://127.0.0.1:";
  const std::string client = scheme + std::to_string(member.client_port);
  const std::string peer = scheme + std::to_string(member.peer_port);
  std::string cluster;
  for (const Member& one : members_) {
    cluster +=
        (cluster.empty() ? "" : ",") + one.name + "=" + scheme + std::to_string(one.peer_port);
  }
  std::vector<std::string> argv = {kEtcd,       "--name",
                                   member.name, "--data-dir",
                                   member.data, "--listen-client-urls",
                                   client,      "--advertise-client-urls",
                                   client,      "--listen-peer-urls",
                                   peer,        "--initial-advertise-peer-urls",
                                   peer,        "--initial-cluster",
                                   cluster,     "--logger",
                                   "zap",       "--log-level",
                                   "warn"};
  if (options_.tls) {
    for (const char* flag : {"", "peer-"}) {
      for (const auto& [what, name] : {std::pair("cert-file", "node.crt"),
                                       {"key-file", "node.key"},
                                       {"trusted-ca-file", "ca.crt"}}) {
        argv.push_back(std::string("--") + flag + what);
        argv.push_back(file(name));
      }
    }
    argv.insert(argv.end(), {"--client-cert-auth", "--peer-client-cert-auth"});
  }
  argv.insert(argv.end(), options_.more.begin(), options_.more.end());
  member.pid = spawn_child(argv, file(member.name + ".log"));
}

void EtcdTestCluster::kill_9(int index) {
  Member& member = members_[static_cast<size_t>(index)];
  HF_ASSERT(member.pid > 0);
  ::kill(member.pid, SIGKILL);
  ::waitpid(member.pid, nullptr, 0);
  member.pid = 0;
}

void EtcdTestCluster::freeze(int index) const {
  ::kill(members_[static_cast<size_t>(index)].pid, SIGSTOP);
}

void EtcdTestCluster::thaw(int index) const {
  ::kill(members_[static_cast<size_t>(index)].pid, SIGCONT);
}

void EtcdTestCluster::copy_data(int index, const std::string& to) const {
  const std::string output =
      run("cp -a '" + members_[static_cast<size_t>(index)].data + "' '" + file(to) + "'");
  HF_ASSERT(output.empty(), "{}", output);
}

void EtcdTestCluster::put_data_back(int index, const std::string& from) {
  const std::string data = members_[static_cast<size_t>(index)].data;
  HF_ASSERT(!runs(index) && data.starts_with(folder_));
  const std::string output =
      run("rm -rf '" + data + "' && cp -a '" + file(from) + "' '" + data + "'");
  HF_ASSERT(output.empty(), "{}", output);
}

std::string EtcdTestCluster::ctl(const std::string& words, int index) const {
  std::string where;
  for (int i = 0; i < options_.members; ++i) {
    if (index >= 0 && i != index) continue;
    where += (where.empty() ? "" : ",") + endpoints()[static_cast<size_t>(i)];
  }
  // Of its own accord etcdctl gives up after 5 s, which a machine under load may need. Of two such
  // flags the last one counts.
  std::string command =
      std::string("ETCDCTL_API=3 ") + kEtcdctl + " --command-timeout=30s --endpoints=" + where;
  if (options_.tls) {
    command += " --cacert='" + file("ca.crt") + "' --cert='" + file("node.crt") + "' --key='" +
               file("node.key") + "'";
  }
  return run(command + " " + words);
}

int EtcdTestCluster::leader() const {
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < options_.members; ++i) {
      if (!runs(i)) continue;
      // Fields: endpoint, id, version, size, is leader, …
      const std::string line = ctl("--command-timeout=2s endpoint status", i);
      size_t at = 0;
      for (int comma = 0; comma < 4 && at != std::string::npos; ++comma) {
        at = line.find(',', at + 1);
      }
      if (at != std::string::npos && line.compare(at, 6, ", true") == 0) return i;
    }
    ::usleep(200'000);
  }
  return -1;
}

}  // namespace hf::state
