#include "node/cluster_verbs.h"

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "node/move_records.h"
#include "state/etcd/admin.h"
#include "uring/socket_address.h"

namespace hf::node {
namespace {

constexpr Duration kEtcdPatience = 20s;  // for a member that was just begun to have a leader
constexpr Duration kAddPatience = 40s;   // for the members to take one more: one at a time, connected
constexpr Duration kPause = 500ms;
constexpr size_t kMaxListed = 5;

std::string file_error(std::string_view option) {
  return fmt::format("{}: give the absolute path of a file", option);
}

Status check_access(const api::EtcdAccess& kv) {
  const std::pair<std::string_view, const std::string*> files[] = {
      {"--etcd-ca", &kv.ca},
      {"--etcd-cert", &kv.cert},
      {"--etcd-key", &kv.key},
      {"--etcd-password-file", &kv.password_file}};
  for (const auto& [option, path] : files) {
    if (!path->empty() && path->front() != '/') {
      return make_error(ErrorCode::kInvalidArgument, "{}", file_error(option));
    }
  }
  return {};
}

bool any_file(const api::EtcdAccess& kv) {
  return !kv.ca.empty() || !kv.cert.empty() || !kv.key.empty() || !kv.user.empty() ||
         !kv.password_file.empty();
}

ForeignEtcd foreign_of(const api::EtcdAccess& kv) {
  ForeignEtcd out;
  out.url = kv.url;
  out.ca = kv.ca;
  out.cert = kv.cert;
  out.key = kv.key;
  out.user = kv.user;
  out.password_file = kv.password_file;
  return out;
}

// What a cluster says of an etcd that was there: "etcd://host:port" each. "": it carries its own.
std::string foreign_url(const std::vector<std::string>& endpoints) {
  std::string url;
  for (const std::string& endpoint : endpoints) {
    const size_t at = endpoint.find("://");
    if (at == std::string::npos) return "";
    url += url.empty() ? endpoint : "," + endpoint.substr(at + 3);
  }
  return url;
}

}  // namespace

ClusterVerbs::ClusterVerbs(ClusterVerbsPorts ports)
    : ports_(std::move(ports)),
      world_(ports_.world),
      instance_(fmt::format("{:016x}", ports_.world.random.next())) {}

api::MembershipInfo ClusterVerbs::now() const {
  api::MembershipInfo info;
  info.instance = instance_;
  info.cluster = ports_.identity.cluster.to_string();
  info.node = ports_.identity.node.to_string();
  info.state_store = ports_.held != nullptr ? ports_.held->describe() : "";
  if (ports_.membership == nullptr) return info;
  Membership& membership = *ports_.membership;
  info.member = true;
  info.address = membership.address();
  info.state_store = membership.store().describe();
  info.carries_state_store = membership.file().member.has_value();
  info.state_store_voters = static_cast<uint32_t>(membership.voters());
  info.signs = membership.signs();
  return info;
}

Task<Result<api::MembershipInfo>> ClusterVerbs::membership() { co_return now(); }

Status ClusterVerbs::must_be_member() const {
  if (ports_.membership != nullptr) return {};
  return make_error(ErrorCode::kFailedPrecondition,
                    "this node is not in a cluster; make one here with `holdfast cluster init`, or "
                    "join one with `holdfast cluster join`");
}

// ---- What both need -----------------------------------------------------------------------------

Task<Result<std::string>> ClusterVerbs::settle_address(std::string wished) {
  if (wished.empty()) {
    Result<std::string> own = own_address();
    if (!own.ok()) co_return own.error().with_context("give --address");
    wished = *own;
  }
  const Result<SocketAddress> parsed = SocketAddress::parse("tcp:" + host_port(wished, 1));
  Result<std::vector<RawAddress>> raw = make_error(ErrorCode::kInvalidArgument, "no address");
  if (parsed.ok()) raw = resolve_numeric(*parsed);
  const Result<std::string> name = auth::canonical_name(wished);
  if (!raw.ok() || !name.ok()) {
    co_return make_error(ErrorCode::kInvalidArgument,
                         "--address {}: give the numeric address of this machine by which the other "
                         "nodes reach it, not loopback's",
                         wished.substr(0, 64));
  }
  co_return *name;
}

Task<Status> ClusterVerbs::ports_are_free(std::string address, bool own_etcd) {
  std::vector<uint16_t> ports;
  for (uint16_t offset = 0; offset <= kNodePortOffset; ++offset) {
    ports.push_back(static_cast<uint16_t>(ports_.config.peer_port + offset));
  }
  if (own_etcd) {
    ports.push_back(ports_.config.etcd_client_port);
    ports.push_back(ports_.config.etcd_peer_port);
  }
  for (const uint16_t port : ports) {
    const ListenOptions options;
    Result<std::unique_ptr<Listener>> listener =
        co_await world_.net.listen("tcp:" + host_port(address, port), options);
    if (!listener.ok()) {
      co_return listener.error().with_context(
          "--address must be this machine's, and the ports of the cluster free (peer_port, "
          "etcd_client_port, etcd_peer_port in holdfastd.toml)");
    }
    (*listener)->close();
  }
  co_return Status();
}

Task<Status> ClusterVerbs::remove_tree(std::string path) {
  std::function<Status()> remove = [path] {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return Status(Error::from_errno(error.value(), "removing of " + path));
    return Status();
  };
  co_return co_await run_blocking<Status>(world_.blocking, std::move(remove));
}

// What an attempt that did not come to its end has left: nobody has relied on it.
Task<Status> ClusterVerbs::forget_attempt(bool keep_joining) {
  Status removed = co_await remove_tree(etcd_dir());
  HF_CO_TRY(removed);
  auth::TrustFiles files(world_.fs, ports_.config.state_dir);
  if (!keep_joining) co_return co_await remove_tree(ports_.config.state_dir + "/trust");
  const std::string paths[] = {files.node_path(), files.signer_path()};
  for (const std::string& path : paths) {
    Status gone = co_await world_.fs.unlink(path);
    if (!gone.ok() && gone.code() != ErrorCode::kNotFound) co_return gone;
  }
  co_return Status();
}

Task<Result<std::unique_ptr<state::EtcdStore>>> ClusterVerbs::open_patiently(
    state::EtcdOptions options) {
  const MonoTime deadline = world_.clock.now() + kEtcdPatience;
  while (true) {
    state::EtcdOptions copy = options;
    Result<std::unique_ptr<state::EtcdStore>> store =
        co_await state::EtcdStore::open(world_, std::move(copy));
    if (store.code() != ErrorCode::kUnavailable || world_.clock.now() >= deadline) co_return store;
    Status slept = co_await world_.clock.sleep_for(kPause, CancelToken());
    HF_CO_TRY(slept);
  }
}

// ---- init ---------------------------------------------------------------------------------------

Task<Result<api::ClusterChange>> ClusterVerbs::init(api::InitCluster request) {
  co_await one_at_a_time_.lock();
  MutexGuard guard(one_at_a_time_);
  api::ClusterChange change;
  change.before = now();
  if (leaving_) co_return Error(ErrorCode::kUnavailable, "the daemon begins anew; ask again");
  if (ports_.membership != nullptr) {
    const std::string& url = ports_.membership->file().foreign.url;
    change.already = true;
    if (request.kv.url.empty() || request.kv.url == url) co_return change;
    co_return make_error(ErrorCode::kAlreadyExists,
                         "this node is in cluster {} already, whose state is kept in {}",
                         change.before.cluster, change.before.state_store);
  }
  const Status access = check_access(request.kv);
  HF_CO_TRY(access);
  if (request.kv.url.empty() && any_file(request.kv)) {
    co_return make_error(ErrorCode::kInvalidArgument, "an etcd's files without --kv etcd://…");
  }
  ClusterFile file;
  file.cluster = ports_.identity.cluster;
  file.node = ports_.identity.node;
  file.foreign = foreign_of(request.kv);
  Result<std::string> address = co_await settle_address(request.address);
  HF_CO_TRY(address);
  file.address = *address;
  const bool own = file.foreign.url.empty();
  if (!own) {  // before anything is made
    const Result<state::EtcdOptions> options = etcd_options_of(file, ports_.config.state_dir);
    HF_CO_TRY(options);
  }
  Status free = co_await ports_are_free(file.address, own);
  HF_CO_TRY(free);
  Result<uint64_t> records = co_await found(std::move(file));
  if (!records.ok()) {
    ports_.held->release();
    co_return records.error();
  }
  change.records = *records;
  leaving_ = true;
  HF_LOG(kInfo, "node", "cluster_made cluster={} records={}", change.before.cluster, *records);
  ports_.restart();
  co_return change;
}

Task<Result<uint64_t>> ClusterVerbs::found(ClusterFile file) {
  Status step = co_await forget_attempt(false);
  HF_CO_TRY(step);
  state::KvStore& embedded = ports_.held->inner();
  Result<std::vector<state::Entry>> old =
      co_await state::range_all(embedded, std::string(auth::kTrustPrefix), 100'000);
  HF_CO_TRY(old);
  for (const state::Entry& entry : *old) {
    state::Txn txn;
    txn.remove(entry.key);
    Result<state::TxnOutcome> removed = co_await embedded.transact(txn);
    HF_CO_TRY(removed);
  }
  auth::TrustFiles files(world_.fs, ports_.config.state_dir);
  auth::TrustStore trust(embedded, world_.clock, world_.random);
  std::vector<std::string> names = {file.address};
  Result<auth::Membership> founded = co_await auth::found_cluster(
      world_, files, trust, file.cluster, file.node, std::move(names));
  HF_CO_TRY(founded);
  file.joins.push_back(
      "tcp:" + host_port(file.address, ports_.config.peer_port + uint32_t{kJoinPortOffset}));
  if (!file.foreign.url.empty()) co_return co_await move_to(&file);
  step = co_await make_empty_list(world_, files, founded->signer);
  HF_CO_TRY(step);
  file.endpoints.push_back(host_port(file.address, ports_.config.etcd_client_port));
  file.member.emplace();
  file.member->client_port = ports_.config.etcd_client_port;
  file.member->peer_port = ports_.config.etcd_peer_port;
  state::EtcdMemberOptions options = member_options_of(file, ports_.config.state_dir);
  options.initial.emplace_back(options.name, options.peer_url());
  file.member->initial = options.initial;
  Result<std::unique_ptr<state::EtcdMember>> member =
      co_await state::EtcdMember::start(world_, std::move(options));
  HF_CO_TRY(member);
  Result<uint64_t> moved = co_await move_to(&file);
  co_await (*member)->stop();
  co_return moved;
}

// Everything that is known, then cluster.json: from there on this node is a member.
Task<Result<uint64_t>> ClusterVerbs::move_to(ClusterFile* file) {
  Result<state::EtcdOptions> options = etcd_options_of(*file, ports_.config.state_dir);
  HF_CO_TRY(options);
  Result<std::unique_ptr<state::EtcdStore>> store = co_await open_patiently(std::move(*options));
  HF_CO_TRY(store);
  co_await ports_.held->hold(
      "the cluster's state is being moved to etcd, and the daemon begins anew; ask again in some "
      "seconds");
  Result<uint64_t> moved = co_await move_records(ports_.held->inner(), **store);
  file->etcd_id = (*store)->etcd_id();
  co_await (*store)->close();
  HF_CO_TRY(moved);
  Status committed = co_await commit(*file);
  HF_CO_TRY(committed);
  co_return moved;
}

// After an error nobody knows whether the file is there: the node goes on as what it was, so it must not
// be one at the next start.
Task<Status> ClusterVerbs::commit(ClusterFile file) {
  Status saved =
      co_await save_cluster_file(world_.fs, ports_.config.state_dir, std::move(file));
  if (saved.ok()) co_return Status();
  Status gone = co_await world_.fs.unlink(cluster_file_path(ports_.config.state_dir));
  if (!gone.ok() && gone.code() != ErrorCode::kNotFound) {
    HF_LOG(kError, "node", "cluster_file_stays why=\"{}\"", gone.error().to_string());
  }
  co_return saved;
}

// ---- join ---------------------------------------------------------------------------------------

Task<Status> ClusterVerbs::has_nothing_of_its_own() {
  Result<std::vector<cluster::VolumeInfo>> volumes = co_await ports_.control.list_volumes();
  HF_CO_TRY(volumes);
  Result<std::vector<cluster::PoolInfo>> pools = co_await ports_.control.list_pools();
  HF_CO_TRY(pools);
  std::string names;
  for (size_t i = 0; i < std::min(kMaxListed, pools->size()); ++i) {
    names += " pool " + (*pools)[i].path;
  }
  for (size_t i = 0; i < std::min(kMaxListed, volumes->size()); ++i) {
    names += " volume " + (*volumes)[i].name;
  }
  if (names.empty()) co_return Status();
  co_return make_error(ErrorCode::kFailedPrecondition,
                       "this node has pools or volumes of its own ({} and {}:{}); they would be lost "
                       "from sight. Make the cluster here (`holdfast cluster init`) and let the "
                       "others join it, or use a node without any",
                       pools->size(), volumes->size(), names);
}

Task<Result<api::ClusterChange>> ClusterVerbs::join(api::JoinCluster request) {
  co_await one_at_a_time_.lock();
  MutexGuard guard(one_at_a_time_);
  api::ClusterChange change;
  change.before = now();
  if (leaving_) co_return Error(ErrorCode::kUnavailable, "the daemon begins anew; ask again");
  Result<auth::JoinToken> token = auth::decode_token(request.token);
  auth::wipe(&request.token);
  HF_CO_TRY(token);
  if (ports_.membership != nullptr) {
    co_return make_error(ErrorCode::kAlreadyExists, "this node is in {} already, as node {}",
                         token->cluster == ports_.identity.cluster
                             ? "this cluster"
                             : "another cluster, " + change.before.cluster + ",",
                         change.before.node);
  }
  const Status access = check_access(request.kv);
  HF_CO_TRY(access);
  Result<std::string> address = co_await settle_address(request.address);
  HF_CO_TRY(address);
  Status step = co_await ports_are_free(*address, true);
  HF_CO_TRY(step);
  step = co_await has_nothing_of_its_own();
  HF_CO_TRY(step);
  co_await ports_.held->hold("this node joins a cluster, and the daemon begins anew; ask again");
  step = co_await has_nothing_of_its_own();  // that came to be meanwhile
  auth::JoinToken used = std::move(*token);
  if (step.ok()) step = co_await enter(std::move(request), std::move(used), *address);
  if (!step.ok()) {
    ports_.held->release();
    co_return step.error();
  }
  leaving_ = true;
  ports_.restart();
  co_return change;
}

Task<Status> ClusterVerbs::enter(api::JoinCluster request, auth::JoinToken token,
                                 std::string address) {
  Status step = co_await forget_attempt(true);
  HF_CO_TRY(step);
  auth::TrustFiles files(world_.fs, ports_.config.state_dir);
  ClusterFile file;
  file.address = address;
  file.joins = token.addresses;
  std::vector<std::string> names = {address};
  Result<auth::Membership> joined =
      co_await auth::join_cluster(world_, files, std::move(token), std::move(names));
  HF_CO_TRY(joined);
  file.cluster = joined->self.cluster;
  file.node = joined->self.node;
  file.foreign = foreign_of(request.kv);
  file.foreign.url = foreign_url(joined->endpoints);
  if (file.foreign.url.empty()) {
    if (any_file(request.kv)) {
      co_return make_error(ErrorCode::kInvalidArgument,
                           "this cluster carries its state store itself: leave the --etcd options "
                           "away and ask again; the token is still good on this node");
    }
    file.endpoints = joined->endpoints;
    if (joined->signer) step = co_await make_empty_list(world_, files, joined->signer);
    HF_CO_TRY(step);
    if (joined->signer) step = co_await add_member(&file);
    HF_CO_TRY(step);
  }
  Result<state::EtcdOptions> options = etcd_options_of(file, ports_.config.state_dir);
  if (!options.ok()) {
    co_return options.error().with_context(
        "the cluster's state is in " + file.foreign.url +
        "; ask again with the same token and the --etcd options");
  }
  Result<std::unique_ptr<state::EtcdStore>> store = co_await open_patiently(std::move(*options));
  HF_CO_TRY(store);
  file.etcd_id = (*store)->etcd_id();
  Result<std::optional<state::Entry>> ca = co_await (*store)->get(auth::ca_key());
  co_await (*store)->close();
  HF_CO_TRY(ca);
  if (!ca->has_value()) {
    co_return make_error(ErrorCode::kWrongOwner, "the etcd at {} holds nothing of cluster {}",
                         file.foreign.url, file.cluster.to_string());
  }
  Status committed = co_await commit(std::move(file));
  HF_CO_TRY(committed);
  Status forgotten = co_await files.forget_joining();
  if (!forgotten.ok()) {
    HF_LOG(kWarn, "node", "joining_key_stays why=\"{}\"", forgotten.error().to_string());
  }
  co_return Status();
}

// Begun here once, so that what is wrong with it is said now. As a learner it harms nobody if it is
// never seen again.
Task<Status> ClusterVerbs::add_member(ClusterFile* file) {
  Result<state::EtcdOptions> reach = etcd_options_of(*file, ports_.config.state_dir);
  HF_CO_TRY(reach);
  file->member.emplace();
  file->member->join = true;
  file->member->client_port = ports_.config.etcd_client_port;
  file->member->peer_port = ports_.config.etcd_peer_port;
  state::EtcdMemberOptions options = member_options_of(*file, ports_.config.state_dir);
  Result<std::unique_ptr<state::EtcdStore>> store = co_await open_patiently(std::move(*reach));
  HF_CO_TRY(store);
  state::EtcdSession& session = (*store)->session();
  const MonoTime deadline = world_.clock.now() + kAddPatience;
  Result<std::vector<state::EtcdMemberInfo>> members = co_await state::etcd_members(session);
  Result<state::EtcdMemberInfo> added = make_error(ErrorCode::kUnavailable, "not asked");
  while (members.ok()) {
    for (const state::EtcdMemberInfo& member : *members) {  // of an earlier attempt
      const auto& urls = member.peer_urls;
      if (std::find(urls.begin(), urls.end(), options.peer_url()) == urls.end()) continue;
      Status removed = co_await state::etcd_remove_member(session, member.id);
      if (!removed.ok()) HF_LOG(kWarn, "node", "etcd_member_stays why=\"{}\"", removed.error().to_string());
    }
    added = co_await state::etcd_add_member(session, options.peer_url(), true);
    if (added.ok() || world_.clock.now() >= deadline) break;
    Status slept = co_await world_.clock.sleep_for(kPause, CancelToken());
    if (!slept.ok()) break;
    members = co_await state::etcd_members(session);
  }
  if (added.ok()) members = co_await state::etcd_members(session);
  co_await (*store)->close();
  HF_CO_TRY(members);
  if (!added.ok()) co_return added.error().with_context("this node's etcd member");
  for (const state::EtcdMemberInfo& member : *members) {
    const std::string name = member.id == added->id ? options.name : member.name;
    if (name.empty() || member.peer_urls.empty()) continue;
    options.initial.emplace_back(name, member.peer_urls.front());
    if (member.id != added->id) {
      for (const std::string& url : member.client_urls) {
        const std::string endpoint = without_scheme(url);
        const auto& known = file->endpoints;
        if (std::find(known.begin(), known.end(), endpoint) == known.end()) {
          file->endpoints.push_back(endpoint);
        }
      }
    }
  }
  file->member->initial = options.initial;
  Result<std::unique_ptr<state::EtcdMember>> member =
      co_await state::EtcdMember::start(world_, std::move(options));
  HF_CO_TRY(member);
  co_await (*member)->stop();
  co_return Status();
}

// ---- Tokens -------------------------------------------------------------------------------------

Task<Result<api::NewToken>> ClusterVerbs::create_token(Duration life) {
  const Status member = must_be_member();
  HF_CO_TRY(member);
  co_await one_at_a_time_.lock();
  MutexGuard guard(one_at_a_time_);
  auth::TrustStore& trust = ports_.membership->trust();
  Result<std::vector<auth::NodeRecord>> nodes = co_await trust.nodes();
  HF_CO_TRY(nodes);
  Result<std::vector<auth::TokenRecord>> tokens = co_await trust.tokens();
  HF_CO_TRY(tokens);
  const int64_t wall = world_.clock.wall().ns;
  size_t carriers = 0;
  for (const auth::NodeRecord& node : *nodes) carriers += node.signer && node.revoked.ns == 0;
  for (const auth::TokenRecord& token : *tokens) {
    carriers += token.signer && token.used_by.empty() && token.expires.ns > wall;
  }
  Result<std::vector<std::string>> addresses = co_await ports_.membership->join_addresses();
  HF_CO_TRY(addresses);
  auth::TokenWish wish;
  wish.life = life;
  wish.signer = carriers < kStateStoreNodes;
  wish.addresses = *addresses;
  if (wish.addresses.size() > auth::kMaxTokenAddresses) {
    wish.addresses.resize(auth::kMaxTokenAddresses);
  }
  const bool signer = wish.signer;
  Result<auth::JoinToken> token = co_await trust.make_token(std::move(wish));
  HF_CO_TRY(token);
  api::NewToken out;
  out.id = token->id.to_string();
  out.text = auth::encode_token(*token);
  out.expires = WallTime{world_.clock.wall().ns + life.count()};
  out.carries_state_store = signer && ports_.membership->file().foreign.url.empty();
  HF_LOG(kInfo, "node", "join_token_made id={} signer={}", out.id, signer);
  co_return out;
}

Task<Result<std::vector<api::TokenInfo>>> ClusterVerbs::list_tokens() {
  const Status member = must_be_member();
  HF_CO_TRY(member);
  Result<std::vector<auth::TokenRecord>> tokens = co_await ports_.membership->trust().tokens();
  HF_CO_TRY(tokens);
  std::vector<api::TokenInfo> out;
  for (const auth::TokenRecord& token : *tokens) {
    api::TokenInfo info;
    info.id = token.id.to_string();
    info.node = token.node.to_string();
    info.created = token.created;
    info.expires = token.expires;
    info.used = !token.used_by.empty();
    info.expired = token.expires.ns <= world_.clock.wall().ns;
    info.carries_state_store = token.signer && ports_.membership->file().foreign.url.empty();
    out.push_back(std::move(info));
  }
  co_return std::move(out);
}

Task<Status> ClusterVerbs::revoke_token(std::string id) {
  const Status member = must_be_member();
  HF_CO_TRY(member);
  const auto token = auth::TokenId::parse(id);
  if (!token) {
    co_return make_error(ErrorCode::kInvalidArgument,
                         "\"{}\" is no token's id; `holdfast cluster token list` shows them",
                         id.substr(0, 64));
  }
  co_return co_await ports_.membership->trust().remove_token(*token);
}

// ---- Leaving ------------------------------------------------------------------------------------

// The etcd member first: the others must not count on it. The records last: until then the same
// request finds the node and finishes.
Task<Result<api::NodeGone>> ClusterVerbs::decommission(std::string node, bool force) {
  const Status member = must_be_member();
  HF_CO_TRY(member);
  co_await one_at_a_time_.lock();
  MutexGuard guard(one_at_a_time_);
  Result<cluster::NodeInfo> info = co_await ports_.control.check_decommission(std::move(node), force);
  HF_CO_TRY(info);
  const NodeId id = info->id;
  api::NodeGone gone;
  gone.id = id.to_string();
  gone.name = info->name;
  gone.replicas = info->replicas;
  Result<uint32_t> voters = co_await remove_etcd_member(id);
  if (!voters.ok()) co_return voters.error().with_context("the etcd member of node " + gone.name);
  gone.voters = *voters;
  Status revoked = co_await ports_.membership->trust().revoke(id);
  if (!revoked.ok() && revoked.code() != ErrorCode::kNotFound) co_return revoked.error();
  Status forgotten = co_await ports_.control.forget_node(id);
  HF_CO_TRY(forgotten);
  HF_LOG(kInfo, "node", "decommissioned node={} replicas={} voters={}", gone.name, gone.replicas, gone.voters);
  co_return std::move(gone);
}

// How many are left that vote. Members have the names of their nodes' ids.
Task<Result<uint32_t>> ClusterVerbs::remove_etcd_member(NodeId node) {
  if (!ports_.membership->file().foreign.url.empty()) co_return 0u;
  state::EtcdSession& session = ports_.membership->store().session();
  Result<std::vector<state::EtcdMemberInfo>> members = co_await state::etcd_members(session);
  HF_CO_TRY(members);
  uint32_t left = 0;
  for (const state::EtcdMemberInfo& member : *members) {
    if (member.name != node.to_string()) {
      left += member.learner ? 0 : 1;
      continue;
    }
    Status removed = co_await state::etcd_remove_member(session, member.id);
    HF_CO_TRY(removed);
  }
  co_return left;
}

}  // namespace hf::node
