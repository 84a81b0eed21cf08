#include "node/membership.h"

#include <algorithm>

#include "base/log.h"
#include "state/etcd/admin.h"
#include "uring/socket_address.h"

namespace hf::node {
namespace {

constexpr Duration kPause = 1s;           // between two attempts at start
constexpr Duration kListenAgain = 10s;    // a port that somebody else has
constexpr Duration kRenewalsAfter = 60s;  // of the daemon's start; then
constexpr Duration kRenewEvery = std::chrono::hours(24);
constexpr Duration kLookEvery = 30s;  // at etcd's members and who signs
constexpr Duration kPromoteEvery = 1s;

// What another attempt at the same may mend.
bool may_pass(ErrorCode code) {
  return code == ErrorCode::kUnavailable || code == ErrorCode::kTimeout ||
         code == ErrorCode::kInUse || code == ErrorCode::kFailedPrecondition ||
         code == ErrorCode::kAmbiguous;
}

Error missing(std::string_view what) {
  return make_error(ErrorCode::kNotFound,
                    "{} is missing, but cluster.json says that this node is a member; restore it "
                    "from a backup, or take the node out of the cluster and let it join anew",
                    what);
}

}  // namespace

Task<Status> make_empty_list(World& world, auth::TrustFiles& files, const auth::Authority& signer) {
  const std::string path = files.revoked_path();
  Result<FileInfo> there = co_await world.fs.stat(path);
  if (there.ok()) co_return Status();
  std::string list = signer.revocation_list_pem({}, world.clock.wall());
  co_return co_await world.fs.write_file_atomic(path, std::move(list), 0600);
}

Membership::Membership(World& world, std::string state_dir, uint16_t peer_port, ClusterFile file,
                       CancelToken stop, std::function<void(std::string)> tell)
    : world_(world),
      state_dir_(std::move(state_dir)),
      peer_port_(peer_port),
      file_(std::move(file)),
      stop_(stop),
      tell_(std::move(tell)),
      files_(world.fs, state_dir_) {}

Membership::~Membership() {
  HF_ASSERT(stopped_, "a membership destroyed before stop()");
}

Task<Result<std::unique_ptr<Membership>>> Membership::start(World& world, std::string state_dir,
                                                            uint16_t peer_port, ClusterFile file,
                                                            CancelToken stop,
                                                            std::function<void(std::string)> tell) {
  std::unique_ptr<Membership> made(new Membership(world, std::move(state_dir), peer_port,
                                                  std::move(file), stop, std::move(tell)));
  Status step = co_await made->load_trust();
  if (step.ok()) step = co_await made->renew_what_has_ended();
  if (step.ok()) step = co_await made->start_member();
  if (step.ok()) step = co_await made->open_store();
  if (step.ok()) step = co_await made->check_store();
  if (!step.ok()) {
    co_await made->stop();
    co_return step.error();
  }
  made->tls_ = std::make_unique<auth::TlsEndpoint>(world.clock, auth::TlsUse::kPeer,
                                                   made->credentials_);
  made->network_ = std::make_unique<auth::TlsNetwork>(world.net, *made->tls_);
  made->trust_ = std::make_unique<auth::TrustStore>(*made->store_, world.clock, world.random);
  co_return std::move(made);
}

// One line in the log, and in systemd's status, each time.
Task<Status> Membership::pause(std::string why) {
  HF_LOG(kWarn, "node", "waiting_to_start why=\"{}\"", why);
  tell_(why);
  co_return co_await world_.clock.sleep_for(kPause, stop_);
}

Task<Status> Membership::load_trust() {
  Result<std::optional<auth::Credentials>> kept = co_await files_.load();
  HF_CO_TRY(kept);
  if (!kept->has_value()) co_return missing(files_.node_path());
  credentials_ = **kept;
  const Result<auth::PeerIdentity> self = credentials_.certificate.identity();
  HF_CO_TRY(self);
  if (self->cluster != file_.cluster || self->node != file_.node) {
    co_return make_error(ErrorCode::kWrongOwner,
                         "{} is of node {} of cluster {}, and cluster.json of node {} of cluster {}",
                         files_.node_path(), self->node.to_string(), self->cluster.to_string(),
                         file_.node.to_string(), file_.cluster.to_string());
  }
  Result<std::optional<auth::Authority>> signer = co_await files_.load_signer();
  HF_CO_TRY(signer);
  if (signer->has_value()) signer_ = **signer;
  co_return Status();
}

// etcd takes no certificate that has ended, and the cluster's word for a new one is in etcd: a node
// that signs helps itself, another one asks them.
Task<Status> Membership::renew_what_has_ended() {
  const auto ended = [this] {
    return credentials_.certificate.not_after().ns <= world_.clock.wall().ns;
  };
  if (!ended()) co_return Status();
  if (signer_) {
    Result<auth::Credentials> longer =
        auth::extend_own(signer_, credentials_, world_.clock.wall(), world_.random);
    HF_CO_TRY(longer);
    credentials_ = std::move(*longer);
    HF_LOG(kWarn, "node", "certificate_had_ended extended=itself");
    co_return co_await files_.save(credentials_);
  }
  while (ended()) {
    Status renewed = co_await renew_once();
    if (renewed.ok()) break;
    const std::string why =
        "the certificate of this node has ended, and no node that signs gave a new one: " +
        renewed.error().message();
    Status waited = co_await pause(why);
    HF_CO_TRY(waited);
  }
  co_return Status();
}

Task<Status> Membership::start_member() {
  if (!file_.member) co_return Status();
  const std::string data = state_dir_ + "/etcd/data/member";
  Result<FileInfo> there = co_await world_.fs.stat(data);
  // Without it etcd would found a new and empty cluster under the same name.
  if (there.code() == ErrorCode::kNotFound) co_return missing(data);
  HF_CO_TRY(there);
  if (signer_) {
    Status listed = co_await make_empty_list(world_, files_, signer_);
    HF_CO_TRY(listed);
  }
  while (true) {
    state::EtcdMemberOptions options = member_options_of(file_, state_dir_);
    options.wait = false;  // alone of three it answers nobody
    Result<std::unique_ptr<state::EtcdMember>> member =
        co_await state::EtcdMember::start(world_, std::move(options));
    if (member.ok()) {
      member_ = std::move(*member);
      co_return Status();
    }
    if (!may_pass(member.code())) co_return member.error();
    const std::string why = member.error().message();
    Status waited = co_await pause(why);
    HF_CO_TRY(waited);
  }
}

Task<Status> Membership::open_store() {
  while (true) {
    // Read anew each time: somebody may mend a password or certificate file meanwhile.
    Result<state::EtcdOptions> options = etcd_options_of(file_, state_dir_);
    HF_CO_TRY(options);
    Result<std::unique_ptr<state::EtcdStore>> store =
        co_await state::EtcdStore::open(world_, std::move(*options));
    if (store.ok()) {
      store_ = std::move(*store);
      co_return Status();
    }
    if (!may_pass(store.code())) co_return store.error();
    const std::string why = store.error().message();
    Status waited = co_await pause(why);
    HF_CO_TRY(waited);
  }
}

// An etcd that was made anew, or lost what the cluster knows, is not begun on.
Task<Status> Membership::check_store() {
  while (true) {
    Result<std::optional<state::Entry>> ca = co_await store_->get(auth::ca_key());
    if (ca.ok() && !ca->has_value()) {
      co_return make_error(ErrorCode::kCorruption,
                           "{} holds nothing of cluster {}: it was emptied, or is another one; "
                           "bring its data back (docs/operations/cluster.md)",
                           store_->describe(), file_.cluster.to_string());
    }
    state::Txn txn;
    txn.remove(kMovingKey);
    Result<state::TxnOutcome> used = make_error(ErrorCode::kUnavailable, "not asked");
    if (ca.ok()) used = co_await store_->transact(txn);
    if (used.ok()) co_return Status();
    const Error& error = ca.ok() ? used.error() : ca.error();
    if (!may_pass(error.code())) co_return error;
    const std::string why = error.message();
    Status waited = co_await pause(why);
    HF_CO_TRY(waited);
  }
}

void Membership::serve() {
  (void)spawn(gate_, follow_revoked());
  (void)spawn(gate_, renew_daily());
  (void)spawn(gate_, watch_members());
  if (signer_) (void)spawn(gate_, answer_joins());
}

Task<void> Membership::stop_serving() {
  stopping_.cancel();
  co_await gate_.close();
  if (joins_) co_await joins_->stop();
  joins_.reset();
  if (tls_) co_await tls_->stop();
}

Task<void> Membership::stop() {
  co_await stop_serving();
  network_.reset();
  tls_.reset();
  trust_.reset();
  if (store_) co_await store_->close();
  store_.reset();
  if (member_) co_await member_->stop();
  member_.reset();
  stopped_ = true;
}

Task<void> Membership::follow_revoked() {
  std::function<void(std::set<NodeId>)> changed = [this](std::set<NodeId> nodes) {
    revoked_ = std::move(nodes);
    tls_->set_revoked(revoked_);
    if (joins_) joins_->set_revoked(revoked_);
    if (file_.member && signer_) (void)spawn(gate_, list_revoked());
  };
  co_await trust_->follow_revoked(std::move(changed), CancelToken(stopping_));
}

// etcd knows no node ids, only serials.
Task<void> Membership::list_revoked() {
  co_await listing_.lock();
  MutexGuard guard(listing_);
  Result<std::vector<auth::NodeRecord>> nodes = co_await trust_->nodes();
  Status written = nodes.ok() ? Status() : Status(nodes.error());
  if (nodes.ok()) {
    std::vector<std::string> serials;
    for (const auth::NodeRecord& node : *nodes) {
      if (node.revoked.ns == 0) continue;
      for (const auth::IssuedCertificate& one : node.certificates) serials.push_back(one.serial);
    }
    std::string list = signer_.revocation_list_pem(serials, world_.clock.wall());
    written = co_await world_.fs.write_file_atomic(files_.revoked_path(), std::move(list), 0600);
  }
  if (!written.ok()) {
    HF_LOG(kError, "node", "revoked_not_listed why=\"{}\"", written.error().to_string());
  }
}

Task<void> Membership::answer_joins() {
  const std::string address = "tcp:" + host_port(file_.address, peer_port_ + kJoinPortOffset);
  while (!stopping_.is_cancelled()) {
    std::function<std::vector<std::string>()> where = [this] { return endpoints(); };
    joins_ = std::make_unique<auth::JoinService>(world_, *trust_, signer_, credentials_,
                                                 std::move(where));
    joins_->set_revoked(revoked_);
    Status listening = co_await joins_->start(address);
    if (listening.ok()) {
      HF_LOG(kInfo, "node", "answers_joins address={}", address);
      co_return;
    }
    HF_LOG(kError, "node", "answers_no_joins address={} why=\"{}\"", address,
           listening.error().to_string());
    co_await joins_->stop();
    joins_.reset();
    Status slept = co_await world_.clock.sleep_for(kListenAgain, CancelToken(stopping_));
    if (!slept.ok()) co_return;
  }
}

// On disk it is already: etcd reads it there with each connection.
Task<void> Membership::use(auth::Credentials credentials) {
  credentials_ = std::move(credentials);
  if (tls_) tls_->replace(credentials_);
  if (joins_) joins_->replace(credentials_);
  if (!store_) co_return;
  Status reloaded = co_await store_->session().reload();
  if (!reloaded.ok()) {
    HF_LOG(kWarn, "node", "etcd_credentials_stay why=\"{}\"", reloaded.error().to_string());
  }
}

Task<Status> Membership::renew_once() {
  if (signer_) {
    Result<auth::Credentials> renewed =
        co_await auth::renew_here(files_, *trust_, signer_, credentials_);
    HF_CO_TRY(renewed);
    co_await use(std::move(*renewed));
    co_return Status();
  }
  Status last = make_error(ErrorCode::kUnavailable, "no node that signs is known");
  const std::vector<std::string> addresses = file_.joins;
  for (const std::string& address : addresses) {
    Result<auth::Credentials> renewed =
        co_await auth::renew_from(world_, files_, credentials_, address);
    if (renewed.ok()) {
      co_await use(std::move(*renewed));
      co_return Status();
    }
    last = renewed.error().with_context(address);
  }
  co_return last;
}

Task<void> Membership::renew_daily() {
  Duration wait = kRenewalsAfter;
  while (true) {
    Status slept = co_await world_.clock.sleep_for(wait, CancelToken(stopping_));
    if (!slept.ok()) co_return;
    wait = kRenewEvery;
    if (!auth::wants_renewal(credentials_.certificate, world_.clock.wall())) continue;
    Status renewed = co_await renew_once();
    if (renewed.ok()) {
      HF_LOG(kInfo, "node", "certificate_renewed serial={}", credentials_.certificate.serial());
      continue;
    }
    HF_LOG(kWarn, "node", "certificate_not_renewed why=\"{}\"", renewed.error().to_string());
    wait = kRenewalsAfter * 10;
  }
}

Task<void> Membership::watch_members() {
  while (true) {
    Status looked = co_await look_at_members();
    const bool again = looked.code() == ErrorCode::kFailedPrecondition;
    if (!looked.ok() && !again) {
      HF_LOG(kDebug, "node", "members_not_seen why=\"{}\"", looked.error().to_string());
    }
    Status slept = co_await world_.clock.sleep_for(again ? kPromoteEvery : kLookEvery,
                                                   CancelToken(stopping_));
    if (!slept.ok()) co_return;
  }
}

// Keeps cluster.json's list of where the state store and who signs are found, and makes the own
// member a voter once it has caught up (kFailedPrecondition until then).
Task<Status> Membership::look_at_members() {
  ClusterFile now = file_;
  Status promoted;
  if (file_.foreign.url.empty()) {
    Result<std::vector<state::EtcdMemberInfo>> members =
        co_await state::etcd_members(store_->session());
    HF_CO_TRY(members);
    now.endpoints.clear();
    size_t voters = 0;
    for (const state::EtcdMemberInfo& member : *members) {
      for (const std::string& url : member.client_urls) {
        now.endpoints.push_back(without_scheme(url));
      }
      if (!member.learner) ++voters;
      if (!member.learner || member.name != file_.node.to_string()) continue;
      promoted = co_await state::etcd_promote_member(store_->session(), member.id);
      if (promoted.ok()) HF_LOG(kInfo, "node", "etcd_member_votes name={}", member.name);
    }
    voters_ = voters;
    std::sort(now.endpoints.begin(), now.endpoints.end());
    if (file_.member) {  // the own one first: it is the nearest
      const std::string own = host_port(file_.address, file_.member->client_port);
      std::stable_partition(now.endpoints.begin(), now.endpoints.end(),
                            [&own](const std::string& endpoint) { return endpoint == own; });
    }
  }
  Result<std::vector<std::string>> joins = co_await join_addresses();
  if (joins.ok() && !joins->empty()) now.joins = *joins;
  if (!now.endpoints.empty() || !file_.foreign.url.empty()) {
    if (now.endpoints != file_.endpoints || now.joins != file_.joins) {
      Status saved = co_await save_cluster_file(world_.fs, state_dir_, now);
      HF_CO_TRY(saved);
      file_ = std::move(now);
      store_->session().learn(file_.endpoints);
    }
  }
  co_return promoted;
}

std::vector<std::string> Membership::endpoints() const {
  if (file_.foreign.url.empty()) return file_.endpoints;
  bool tls = false;
  Result<std::vector<std::string>> hosts = state::parse_etcd_url(file_.foreign.url, &tls);
  std::vector<std::string> out;
  if (!hosts.ok()) return out;
  for (const std::string& host : *hosts) out.push_back((tls ? "etcd+tls://" : "etcd://") + host);
  return out;
}

// A node that signs is asked at its address, which is among its names, at the port next to its
// peers' one, which is the same on all nodes unless somebody configured another.
Task<Result<std::vector<std::string>>> Membership::join_addresses() {
  Result<std::vector<auth::NodeRecord>> nodes = co_await trust_->nodes();
  HF_CO_TRY(nodes);
  std::vector<std::string> out;
  for (const auth::NodeRecord& node : *nodes) {
    if (!node.signer || node.revoked.ns != 0) continue;
    for (const std::string& name : node.names) {
      std::string at = "tcp:" + host_port(name, peer_port_ + kJoinPortOffset);
      const Result<SocketAddress> address = SocketAddress::parse(at);
      if (address.ok() && resolve_numeric(*address).ok()) out.push_back(std::move(at));
    }
  }
  const std::string own = "tcp:" + host_port(file_.address, peer_port_ + kJoinPortOffset);
  std::stable_partition(out.begin(), out.end(), [&own](const std::string& a) { return a == own; });
  co_return std::move(out);
}

}  // namespace hf::node
