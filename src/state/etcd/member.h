// EtcdMember: an etcd of our own, as a child of the daemon: Debian's program with flags from
// here, watched, started again when it ends, told to end with the daemon.
//
//   dir/            0700
//     etcd.log      0600, what it says; cut at kMaxEtcdLogBytes at every start
//     data/         etcd's own
//
// It dies with the daemon, however that ends (runtime/process.h), so there are never two on one
// data folder. No flag that weakens what etcd promises is ever given. The first start decides which
// cluster it belongs to; later ones find that in data/ and ignore `initial`.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/gate.h"
#include "runtime/process.h"
#include "runtime/world.h"
#include "state/etcd/session.h"

namespace hf::state {

inline constexpr uint64_t kMaxEtcdLogBytes = 16 * 1024 * 1024;

// Certificate files of one side of etcd; all or none. `revoked`, which may stay empty, is an X.509 list
// of what is refused (PEM), and is read by etcd with each connection.
struct EtcdTlsFiles {
  EtcdTlsFiles() = default;
  std::string ca;
  std::string cert;
  std::string key;
  std::string revoked;
  bool any() const { return !ca.empty() || !cert.empty() || !key.empty(); }
  bool all() const { return !ca.empty() && !cert.empty() && !key.empty(); }
};

struct EtcdMemberOptions {
  EtcdMemberOptions() = default;
  std::string program = "/usr/bin/etcd";
  std::string dir;
  std::string name;     // of this member, unique: letters, digits, '.', '_', '-', at most 64
  std::string address;  // numeric, where the other nodes reach it
  uint16_t client_port = kEtcdPort;
  uint16_t peer_port = 2380;
  // Of all first members, this one among them; or, with `join`, of those that are there and this
  // one, which must have been added (admin.h) before.
  std::vector<std::pair<std::string, std::string>> initial;  // name, peer URL
  std::string token;  // of the cluster, random: keeps members of different clusters apart
  bool join = false;
  EtcdTlsFiles client_tls;  // then clients must show a certificate of its ca
  EtcdTlsFiles peer_tls;
  uint64_t quota_bytes = uint64_t{2} << 30;
  uint32_t keep_history_minutes = 60;  // then compacted
  uint32_t heartbeat_ms = 50;
  uint32_t election_ms = 250;
  // For the first answer, which one of several members gives only when enough of them are up; without
  // `wait` it does not matter whether it answers.
  Duration patience = std::chrono::seconds(15);
  bool wait = true;

  std::string peer_url() const;
  std::string client_endpoint() const;  // "address:port"
};

// kInvalidArgument names what is wrong.
Status check_etcd_member(const EtcdMemberOptions& options);
// Its command line, without a secret. Pure. (A configuration file knows no lists of what is revoked.)
std::vector<std::string> etcd_member_command(const EtcdMemberOptions& options);

class EtcdMember {
 public:
  // Started, and it answers; a leader it has as soon as enough of `initial` are up.
  // kMissingFeature: no etcd is installed. kInUse: somebody listens at its ports.
  // kFailedPrecondition, with the end of its log: it ended at once (an address of another machine,
  // data of another cluster). kTimeout.
  static Task<Result<std::unique_ptr<EtcdMember>>> start(World& world, EtcdMemberOptions options);
  ~EtcdMember();  // after stop()

  // SIGTERM (a leader hands over), SIGKILL after five seconds. Idempotent.
  Task<void> stop();

  int pid() const { return child_ == nullptr ? 0 : child_->pid(); }  // 0: between two starts
  uint64_t starts() const { return starts_; }
  // It answers, is no learner, and has a leader.
  bool serves() const;
  bool answers() const;
  const EtcdMemberOptions& options() const { return options_; }

 private:
  EtcdMember(World& world, EtcdMemberOptions options);
  Task<Status> ports_are_free();
  Task<Status> prepare();
  Task<Status> open_session();
  Task<Status> wait_for_answer();
  Task<Status> trim_log();
  Status launch();
  Task<void> supervise();
  Task<std::string> last_words();

  World& world_;
  EtcdMemberOptions options_;
  std::unique_ptr<EtcdSession> session_;  // to itself alone, for its health
  std::unique_ptr<Child> child_;
  uint64_t starts_ = 0;
  int last_status_ = 0;
  CancelSource stopping_;
  bool stopped_ = false;
  Gate gate_;
};

}  // namespace hf::state
