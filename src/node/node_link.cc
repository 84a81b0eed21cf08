#include "node/node_link.h"

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/crc32c.h"
#include "base/known_code.h"
#include "base/log.h"
#include "node/cluster_file.h"
#include "node/membership.h"
#include "runtime/fault_point.h"
#include "uring/socket_address.h"

namespace hf::node {
namespace {

using nlohmann::json;

constexpr size_t kHeadBytes = 8;
constexpr Duration kQuestionWithin = 5s;  // from the connection to the question's last byte
constexpr size_t kMaxListed = 1000;

Error broken(std::string_view why) {
  return make_error(ErrorCode::kProtocol, "an answer that makes no sense: {}", why);
}

json to_json(const cluster::PoolInfo& pool) {
  return {{"id", pool.id.to_string()},         {"path", pool.path},
          {"on_device", pool.on_device},       {"state", static_cast<uint32_t>(pool.state)},
          {"message", pool.message},           {"total_bytes", pool.total_bytes},
          {"used_bytes", pool.used_bytes},     {"provisioned_bytes", pool.provisioned_bytes},
          {"io_class", pool.io_class},         {"replica_count", pool.replica_count},
          {"node", pool.node.to_string()}};
}

// What is there and of the right type, but makes no sense, is noted in `sound`.
template <typename Ids>
Ids id_at(const json& in, const char* name, bool* sound) {
  const std::optional<Ids> id = Ids::parse(in.at(name).get<std::string>());
  *sound = *sound && id.has_value();
  return id.value_or(Ids());
}

cluster::PoolInfo pool_from(const json& in, bool* sound) {
  cluster::PoolInfo pool;
  pool.id = id_at<PoolId>(in, "id", sound);
  pool.node = id_at<NodeId>(in, "node", sound);
  pool.path = in.at("path").get<std::string>();
  pool.on_device = in.at("on_device").get<bool>();
  const uint32_t state = in.at("state").get<uint32_t>();
  // One that a newer version may have: nothing is placed there.
  pool.state = state <= static_cast<uint32_t>(cluster::PoolState::kFailed) ? static_cast<cluster::PoolState>(state)
                                                                           : cluster::PoolState::kOffline;
  pool.message = in.at("message").get<std::string>();
  pool.total_bytes = in.at("total_bytes").get<uint64_t>();
  pool.used_bytes = in.at("used_bytes").get<uint64_t>();
  pool.provisioned_bytes = in.at("provisioned_bytes").get<uint64_t>();
  pool.io_class = in.at("io_class").get<uint32_t>();
  pool.replica_count = in.at("replica_count").get<uint32_t>();
  return pool;
}

json to_json(const cluster::NodeFacts& facts) {
  json pools = json::array();
  for (const cluster::PoolInfo& pool : facts.pools) pools.push_back(to_json(pool));
  return {{"node", facts.node.to_string()}, {"version", facts.version}, {"pools", pools}, {"exports", facts.exports}};
}

json to_json(const std::vector<cluster::MemberInfo>& members) {
  json out = json::array();
  for (const cluster::MemberInfo& member : members) {
    out.push_back({{"replica", member.replica.to_string()},
                   {"node", member.node.to_string()},
                   {"pool", member.pool.to_string()},
                   {"in_sync", member.in_sync},
                   {"reachable", member.reachable},
                   {"resync_bytes_total", member.resync_bytes_total},
                   {"resync_bytes_done", member.resync_bytes_done},
                   {"trouble", member.trouble}});
  }
  return out;
}

std::vector<cluster::MemberInfo> members_from(const json& in, bool* sound) {
  std::vector<cluster::MemberInfo> members;
  *sound = *sound && in.is_array() && in.size() <= kMaxListed;
  if (!*sound) return members;
  for (const json& from : in) {
    cluster::MemberInfo& member = members.emplace_back();
    member.replica = id_at<ReplicaId>(from, "replica", sound);
    member.node = id_at<NodeId>(from, "node", sound);
    member.pool = id_at<PoolId>(from, "pool", sound);
    member.in_sync = from.at("in_sync").get<bool>();
    member.reachable = from.at("reachable").get<bool>();
    member.resync_bytes_total = from.at("resync_bytes_total").get<uint64_t>();
    member.resync_bytes_done = from.at("resync_bytes_done").get<uint64_t>();
    member.trouble = from.at("trouble").get<std::string>();
  }
  return members;
}

json to_json(const cluster::ScrubFindings& seen) {
  return {{"done_to", seen.done_to},         {"compared_bytes", seen.compared_bytes},
          {"mended_bytes", seen.mended_bytes}, {"undecided_bytes", seen.undecided_bytes},
          {"lost_bytes", seen.lost_bytes},   {"all_members", seen.all_members}};
}

cluster::ScrubFindings findings_from(const json& in) {
  cluster::ScrubFindings seen;
  seen.done_to = in.at("done_to").get<uint64_t>();
  seen.compared_bytes = in.at("compared_bytes").get<uint64_t>();
  seen.mended_bytes = in.at("mended_bytes").get<uint64_t>();
  seen.undecided_bytes = in.at("undecided_bytes").get<uint64_t>();
  seen.lost_bytes = in.at("lost_bytes").get<uint64_t>();
  seen.all_members = in.at("all_members").get<bool>();
  return seen;
}

json to_json(const cluster::ScrubInfo& info) {
  return {{"volume", info.volume},           {"size_bytes", info.size_bytes}, {"running", info.running},
          {"begun_ns", info.begun.ns},       {"so_far", to_json(info.so_far)}, {"ended_ns", info.ended.ns},
          {"last", to_json(info.last)},      {"message", info.message}};
}

cluster::ScrubInfo scrub_from(const json& in) {
  cluster::ScrubInfo info;
  info.volume = in.at("volume").get<std::string>();
  info.size_bytes = in.at("size_bytes").get<uint64_t>();
  info.running = in.at("running").get<bool>();
  info.begun.ns = in.at("begun_ns").get<int64_t>();
  info.so_far = findings_from(in.at("so_far"));
  info.ended.ns = in.at("ended_ns").get<int64_t>();
  info.last = findings_from(in.at("last"));
  info.message = in.at("message").get<std::string>();
  return info;
}

cluster::NodeFacts facts_from(const json& in, bool* sound) {
  cluster::NodeFacts facts;
  facts.node = id_at<NodeId>(in, "node", sound);
  facts.version = in.at("version").get<std::string>();
  const json& pools = in.at("pools");
  *sound = *sound && pools.is_array() && pools.size() <= kMaxListed;
  if (!*sound) return facts;
  for (const json& pool : pools) facts.pools.push_back(pool_from(pool, sound));
  facts.exports = in.at("exports").get<std::vector<std::string>>();
  return facts;
}

std::string packed(const json& body) {
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

json question_of(const std::string& call) {
  json question = json::object();
  question["call"] = call;
  return question;
}

json question_of(const std::string& call, VolumeId volume) {
  json question = question_of(call);
  question["volume"] = volume.to_string();
  return question;
}

std::string answer_of(const Status& status, json more = json::object()) {
  more["version"] = kLinkVersion;
  more["code"] = static_cast<uint32_t>(status.code());
  more["message"] = status.ok() ? std::string() : status.error().message();
  return packed(more);
}

Task<Status> send(Stream& stream, std::string body) {
  const std::array<uint32_t, 2> words = {static_cast<uint32_t>(body.size()), crc32c(as_bytes(body))};
  std::string head(kHeadBytes, '\0');
  std::memcpy(head.data(), words.data(), kHeadBytes);
  const ByteSpan parts[] = {as_bytes(head), as_bytes(body)};
  co_return co_await stream.write_all(parts);
}

Task<Result<std::string>> receive(Stream& stream) {
  std::array<std::byte, kHeadBytes> head{};
  Status got = co_await stream.read_exact(head);
  HF_CO_TRY(got);
  std::array<uint32_t, 2> words{};
  std::memcpy(words.data(), head.data(), kHeadBytes);
  const auto [length, crc] = words;
  if (length == 0 || length > kMaxLinkBytes) co_return broken("its length");
  std::string body(length, '\0');
  got = co_await stream.read_exact(MutableByteSpan(reinterpret_cast<std::byte*>(body.data()), body.size()));
  HF_CO_TRY(got);
  if (crc32c(as_bytes(body)) != crc) co_return broken("its checksum");
  co_return std::move(body);
}

// Closes a stream whose other side says nothing.
struct Vigil {
  Vigil(std::shared_ptr<Stream> s, MonoTime now, Duration silence, Duration patience)
      : stream(std::move(s)), silent_at(now + silence), over_at(now + patience) {}
  std::shared_ptr<Stream> stream;
  MonoTime silent_at;
  MonoTime over_at;
  bool struck = false;
  CancelSource done;
};

Task<void> keep_vigil(Clock& clock, std::shared_ptr<Vigil> vigil) {
  while (!vigil->done.is_cancelled()) {
    const MonoTime at = std::min(vigil->silent_at, vigil->over_at);
    if (clock.now() >= at) {
      vigil->struck = true;
      vigil->stream->close();
      co_return;
    }
    Status slept = co_await clock.sleep_until(at, CancelToken(vigil->done));
    if (!slept.ok()) co_return;
  }
}

}  // namespace

// One other node.
class NodeLink::Calls final : public cluster::NodeCalls {
 public:
  Calls(NodeLink& link, NodeId node) : link_(link), node_(node) {}

  Task<Result<cluster::NodeFacts>> facts() override {
    Result<json> answer = co_await ask(question_of("facts"));
    HF_CO_TRY(answer);
    cluster::NodeFacts facts;
    bool sound = true;
    try {
      facts = facts_from(answer->at("facts"), &sound);
    } catch (const json::exception&) {
      sound = false;
    }
    if (!sound) co_return broken("what it says of the node");
    co_return facts;
  }
  Task<Status> converge(VolumeId volume) override { return simple("converge", volume); }
  Task<Status> settle(VolumeId volume) override { return simple("settle", volume); }
  Task<Status> detach(VolumeId volume) override { return simple("detach", volume); }
  Task<Status> take(VolumeId volume, bool stays, bool force) override {
    json question = question_of("take", volume);
    question["stays"] = stays;
    question["force"] = force;
    Result<json> answer = co_await ask(std::move(question));
    HF_CO_TRY(answer);
    co_return Status();
  }
  Task<Status> let_go(VolumeId volume) override { return simple("let_go", volume); }
  Task<Result<cluster::ScrubInfo>> scrub(VolumeId volume, uint64_t bytes_per_second, bool only_look) override {
    json question = question_of("scrub", volume);
    question["bytes_per_second"] = bytes_per_second;
    question["only_look"] = only_look;
    Result<json> answer = co_await ask(std::move(question));
    HF_CO_TRY(answer);
    cluster::ScrubInfo info;
    bool sound = true;
    try {
      info = scrub_from(answer->at("scrub"));
    } catch (const json::exception&) {
      sound = false;
    }
    if (!sound) co_return broken("what it says of the scrub");
    co_return info;
  }
  Task<Status> cut(cluster::CreateSnapshot request) override {
    json question = question_of("cut");
    question["volume"] = request.volume;
    question["name"] = request.name;
    question["labels"] = request.labels;
    question["freeze"] = request.freeze;
    Result<json> answer = co_await ask(std::move(question));
    HF_CO_TRY(answer);
    co_return Status();
  }
  Task<Result<std::vector<cluster::MemberInfo>>> members(VolumeId volume) override {
    Result<json> answer = co_await ask(question_of("members", volume));
    HF_CO_TRY(answer);
    std::vector<cluster::MemberInfo> members;
    bool sound = true;
    try {
      members = members_from(answer->at("members"), &sound);
    } catch (const json::exception&) {
      sound = false;
    }
    if (!sound) co_return broken("what it says of the members");
    co_return members;
  }
  Task<Result<std::vector<SnapshotId>>> snapshots(VolumeId volume) override {
    Result<json> answer = co_await ask(question_of("snapshots", volume));
    HF_CO_TRY(answer);
    std::vector<SnapshotId> ids;
    bool sound = true;
    try {
      const json& listed = answer->at("snapshots");
      sound = listed.is_array() && listed.size() <= kMaxListed;
      for (size_t i = 0; sound && i < listed.size(); ++i) {
        const std::optional<SnapshotId> id = SnapshotId::parse(listed.at(i).get<std::string>());
        sound = id.has_value();
        ids.push_back(id.value_or(SnapshotId()));
      }
    } catch (const json::exception&) {
      sound = false;
    }
    if (!sound) co_return broken("what it says of the snapshots");
    co_return ids;
  }

 private:
  Task<Status> simple(std::string call, VolumeId volume) {
    Result<json> answer = co_await ask(question_of(call, volume));
    HF_CO_TRY(answer);
    co_return Status();
  }
  Task<Result<json>> ask(json question) {
    question["version"] = kLinkVersion;
    question["to"] = node_.to_string();
    Result<std::string> text = co_await link_.ask(node_, packed(question));
    HF_CO_TRY(text);
    json answer = json::parse(*text, nullptr, false);
    if (!answer.is_object() || !answer.contains("code") || !answer["code"].is_number_unsigned()) {
      co_return broken("it has no code");
    }
    const uint64_t code = answer["code"].get<uint64_t>();
    if (code == 0) co_return std::move(answer);
    std::string message;
    if (answer.contains("message") && answer["message"].is_string()) message = answer["message"].get<std::string>();
    co_return Error(known_code(code).value_or(ErrorCode::kInternal), message);
  }

  NodeLink& link_;
  const NodeId node_;
};

NodeLink::~NodeLink() { HF_ASSERT(gate_.inside() == 0 && listener_ == nullptr, "stop() was not awaited"); }

void NodeLink::know(NodeId node, std::string address) { addresses_[node] = std::move(address); }

cluster::NodeCalls& NodeLink::node(NodeId node) {
  std::unique_ptr<cluster::NodeCalls>& calls = nodes_[node];
  if (!calls) calls = std::make_unique<Calls>(*this, node);
  return *calls;
}

std::string NodeLink::replicas_at(NodeId node) const {
  const auto found = addresses_.find(node);
  return found == addresses_.end() || found->second.empty() ? std::string() : "tcp:" + found->second;
}

std::string NodeLink::link_at(NodeId node) const {
  const auto found = addresses_.find(node);
  if (found == addresses_.end()) return {};
  const Result<SocketAddress> first = SocketAddress::parse("tcp:" + found->second);
  if (!first.ok() || first->port() == 0 || first->port() + kNodePortOffset > 65535) return {};
  return "tcp:" + host_port(first->host(), first->port() + uint32_t{kNodePortOffset});
}

Task<Result<std::string>> NodeLink::ask(NodeId node, std::string question) {
  Gate::Pass pass(gate_);
  if (!pass) co_return Error(ErrorCode::kClosed, "holdfastd is stopping");
  const std::string address = link_at(node);
  if (address.empty()) co_return Error(ErrorCode::kUnavailable, "its address is not known");
  Result<std::unique_ptr<Stream>> connected = co_await net_.connect(address, kLinkConnect);
  if (!connected.ok()) co_return Error(ErrorCode::kUnavailable, connected.error().message());
  const std::shared_ptr<Stream> stream = std::move(*connected);
  Clock& clock = world_.clock;
  const std::shared_ptr<Vigil> vigil = std::make_shared<Vigil>(stream, clock.now(), kLinkSilence, kLinkPatience);
  (void)spawn(gate_, keep_vigil(clock, vigil));
  Status sent = co_await send(*stream, std::move(question));
  Result<std::string> answer = Error(ErrorCode::kClosed, "");
  if (!sent.ok()) answer = sent.error();
  while (sent.ok()) {
    answer = co_await receive(*stream);
    if (!answer.ok()) break;
    const json beat = json::parse(*answer, nullptr, false);
    if (!beat.is_object() || !beat.contains("working")) break;
    vigil->silent_at = clock.now() + kLinkSilence;
  }
  vigil->done.cancel();
  stream->close();
  if (answer.ok()) co_return std::move(answer);
  if (vigil->struck) {
    HF_PROBE("node.link_silent");
    co_return make_error(ErrorCode::kTimeout, "{} says nothing", address);
  }
  if (answer.code() == ErrorCode::kProtocol) co_return answer.error().with_context(address);
  co_return Error(ErrorCode::kUnavailable, address + ": " + answer.error().message());
}

// ---- Answers ------------------------------------------------------------------------------------

Task<Status> NodeLink::start(std::string address, cluster::NodeCalls& calls) {
  calls_ = &calls;
  Result<std::unique_ptr<Listener>> listener = co_await net_.listen(std::move(address), ListenOptions());
  HF_CO_TRY(listener);
  listener_ = std::move(*listener);
  address_ = listener_->address();
  (void)spawn(serving_gate_, accept_all());
  co_return Status();
}

Task<void> NodeLink::stop_serving() {
  if (listener_ != nullptr) listener_->close();
  co_await serving_gate_.close();
  listener_.reset();
}

Task<void> NodeLink::stop() {
  co_await stop_serving();
  stopping_.cancel();
  co_await gate_.close();
}

Task<void> NodeLink::accept_all() {
  for (;;) {
    Result<std::unique_ptr<Stream>> stream = co_await accept_next(*listener_, world_.clock, "link", CancelToken(stopping_));
    if (!stream.ok()) co_return;
    if (serving_gate_.inside() > kMaxLinkCalls) {
      HF_LOG(kWarn, "node", "link_full peer={}", (*stream)->peer());
      continue;
    }
    const std::shared_ptr<Stream> accepted = std::move(*stream);
    (void)spawn(serving_gate_, serve(accepted));
  }
}

struct NodeLink::Beating {
  explicit Beating(std::shared_ptr<Stream> s) : stream(std::move(s)) {}
  std::shared_ptr<Stream> stream;
  Mutex writing;
  CancelSource done;
};

Task<void> NodeLink::beat(std::shared_ptr<Beating> beating) {
  json sign = json::object();
  sign["version"] = kLinkVersion;
  sign["working"] = true;
  const std::string working = packed(sign);
  while (!beating->done.is_cancelled()) {
    Status slept = co_await world_.clock.sleep_for(kLinkBeat, CancelToken(beating->done));
    if (!slept.ok()) co_return;
    co_await beating->writing.lock();
    MutexGuard guard(beating->writing);
    if (beating->done.is_cancelled()) co_return;
    Status sent = co_await send(*beating->stream, working);
    if (!sent.ok()) co_return;  // who asked has gone; what was asked goes on
  }
}

Task<void> NodeLink::serve(std::shared_ptr<Stream> stream) {
  Clock& clock = world_.clock;
  const std::shared_ptr<Vigil> vigil =
      std::make_shared<Vigil>(stream, clock.now(), kQuestionWithin, kQuestionWithin);
  (void)spawn(serving_gate_, keep_vigil(clock, vigil));
  Result<std::string> question = co_await receive(*stream);
  vigil->done.cancel();
  if (!question.ok()) {
    HF_LOG(kWarn, "node", "link_question peer={} why=\"{}\"", stream->peer(), question.error().to_string());
    stream->close();
    co_return;
  }
  const std::shared_ptr<Beating> beating = std::make_shared<Beating>(stream);
  (void)spawn(serving_gate_, beat(beating));
  std::string said = co_await answer(std::move(*question));
  beating->done.cancel();
  co_await beating->writing.lock();
  {
    MutexGuard guard(beating->writing);
    Status sent = co_await send(*stream, std::move(said));
    if (!sent.ok()) HF_PROBE("node.link_answer_lost");
  }
  stream->close();
}

Task<std::string> NodeLink::answer(std::string text) {
  const json question = json::parse(text, nullptr, false);
  std::string call, to, name;
  cluster::CreateSnapshot cut;
  VolumeId volume;
  uint64_t version = 0;
  bool stays = false, force = false, only_look = false;
  uint64_t bytes_per_second = 0;
  bool sound = question.is_object();
  try {
    version = question.at("version").get<uint64_t>();
    call = question.at("call").get<std::string>();
    to = question.at("to").get<std::string>();
    if (call == "cut") {
      cut.volume = question.at("volume").get<std::string>();
      cut.name = question.at("name").get<std::string>();
      cut.labels = question.at("labels").get<std::map<std::string, std::string>>();
      cut.freeze = question.at("freeze").get<bool>();
    } else if (call != "facts") {
      volume = id_at<VolumeId>(question, "volume", &sound);
    }
    if (call == "scrub") {
      bytes_per_second = question.at("bytes_per_second").get<uint64_t>();
      only_look = question.at("only_look").get<bool>();
    }
    if (call == "take") {
      stays = question.at("stays").get<bool>();
      force = question.at("force").get<bool>();
    }
  } catch (const json::exception&) {
    sound = false;
  }
  if (!sound) co_return answer_of(Error(ErrorCode::kProtocol, "a question that makes no sense"));
  if (version != kLinkVersion) {
    co_return answer_of(make_error(ErrorCode::kNewerFormat, "this node speaks version {}, not {}", kLinkVersion, version));
  }
  if (to != self_.to_string()) {
    co_return answer_of(make_error(ErrorCode::kUnavailable, "this is node {}, not {}", self_.to_string(), to));
  }
  if (call == "facts") {
    Result<cluster::NodeFacts> facts = co_await calls_->facts();
    if (!facts.ok()) co_return answer_of(facts.error());
    json more = json::object();
    more["facts"] = to_json(facts.value());
    co_return answer_of(Status(), std::move(more));
  }
  if (call == "members") {
    Result<std::vector<cluster::MemberInfo>> members = co_await calls_->members(volume);
    if (!members.ok()) co_return answer_of(members.error());
    json more = json::object();
    more["members"] = to_json(members.value());
    co_return answer_of(Status(), std::move(more));
  }
  if (call == "scrub") {
    Result<cluster::ScrubInfo> scrub = co_await calls_->scrub(volume, bytes_per_second, only_look);
    if (!scrub.ok()) co_return answer_of(scrub.error());
    json more = json::object();
    more["scrub"] = to_json(scrub.value());
    co_return answer_of(Status(), std::move(more));
  }
  if (call == "snapshots") {
    Result<std::vector<SnapshotId>> snapshots = co_await calls_->snapshots(volume);
    if (!snapshots.ok()) co_return answer_of(snapshots.error());
    json more = json::object();
    more["snapshots"] = json::array();
    for (const SnapshotId& id : snapshots.value()) more["snapshots"].push_back(id.to_string());
    co_return answer_of(Status(), std::move(more));
  }
  Status done = make_error(ErrorCode::kMissingFeature, "this version does not know the call {}", call);
  if (call == "converge") done = co_await calls_->converge(volume);
  if (call == "settle") done = co_await calls_->settle(volume);
  if (call == "let_go") done = co_await calls_->let_go(volume);
  if (call == "detach") done = co_await calls_->detach(volume);
  if (call == "take") done = co_await calls_->take(volume, stays, force);
  if (call == "cut") done = co_await calls_->cut(cut);
  co_return answer_of(done);
}

}  // namespace hf::node
