#include "state/etcd/member.h"

#include <signal.h>

#include <algorithm>

#include "base/log.h"
#include "runtime/file.h"
#include "runtime/net.h"

namespace hf::state {
namespace {

constexpr Duration kFirstPause = 100ms;
constexpr Duration kLongestPause = 10s;
constexpr Duration kSteady = 60s;  // one that ran for so long is started again at once
constexpr Duration kPolite = 5s;   // from SIGTERM to SIGKILL
constexpr size_t kLastWords = 600;
constexpr size_t kMaxMembers = 9;

bool is_word(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
         });
}

// What stands in quotes in the file as it is.
bool is_plain(std::string_view text) {
  return !text.empty() && text.size() <= 4096 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '\'' && c != ',' &&
                  c != '=';
         });
}

bool is_path(const std::string& path) {
  return is_plain(path) && path[0] == '/';
}

std::string host_of(const std::string& address) {
  return address.find(':') == std::string::npos ? address : "[" + address + "]";
}

bool is_numeric(std::string_view address) {
  return address.size() >= 2 && address.size() <= 45 &&
         address.find_first_not_of("0123456789abcdefABCDEF.:") == std::string_view::npos;
}

Error wrong(std::string_view what) {
  return make_error(ErrorCode::kInvalidArgument, "etcd member: {}", what);
}

Status check_tls(const EtcdTlsFiles& files, std::string_view side) {
  if (!files.any()) return {};
  const bool list_is_path = files.revoked.empty() || is_path(files.revoked);
  if (!files.all() || !is_path(files.ca) || !is_path(files.cert) || !is_path(files.key) ||
      !list_is_path) {
    return wrong(
        fmt::format("give the absolute paths of all three {} files: CA, certificate, key", side));
  }
  return {};
}

void add_tls(std::vector<std::string>* command, std::string_view side, const EtcdTlsFiles& files) {
  if (!files.any()) return;
  const std::string_view prefix = side == "peer" ? "peer-" : "";
  command->push_back(fmt::format("--{}cert-file={}", prefix, files.cert));
  command->push_back(fmt::format("--{}key-file={}", prefix, files.key));
  command->push_back(fmt::format("--{}client-cert-auth=true", prefix));
  command->push_back(fmt::format("--{}trusted-ca-file={}", prefix, files.ca));
  if (!files.revoked.empty()) {
    command->push_back(fmt::format("--{}-crl-file={}", side, files.revoked));
  }
}

}  // namespace

std::string EtcdMemberOptions::peer_url() const {
  return fmt::format("{}://{}:{}", peer_tls.any() ? "https" : "http", host_of(address), peer_port);
}

std::string EtcdMemberOptions::client_endpoint() const {
  return fmt::format("{}:{}", host_of(address), client_port);
}

Status check_etcd_member(const EtcdMemberOptions& options) {
  if (!is_path(options.program)) return wrong("the program must be an absolute path");
  if (!is_path(options.dir)) return wrong("the folder must be an absolute path");
  if (!is_word(options.name)) return wrong("the name must be 1 to 64 of A-Z a-z 0-9 . _ -");
  if (!is_word(options.token)) return wrong("the token must be 1 to 64 of A-Z a-z 0-9 . _ -");
  if (!is_numeric(options.address)) return wrong("the address must be numeric");
  if (options.client_port == 0 || options.peer_port == 0 ||
      options.client_port == options.peer_port) {
    return wrong("give two different ports");
  }
  if (options.initial.empty() || options.initial.size() > kMaxMembers) {
    return wrong(
        fmt::format("{} first members, give 1 to {}", options.initial.size(), kMaxMembers));
  }
  bool found = false;
  for (const auto& [name, url] : options.initial) {
    if (!is_word(name) || !is_plain(url)) return wrong("a first member's name or URL is malformed");
    if (name == options.name) found = url == options.peer_url();
  }
  if (!found) {
    return wrong(
        fmt::format("the first members do not name {} at {}", options.name, options.peer_url()));
  }
  HF_TRY(check_tls(options.client_tls, "client"));
  HF_TRY(check_tls(options.peer_tls, "peer"));
  if (options.quota_bytes < (uint64_t{16} << 20) || options.quota_bytes > (uint64_t{8} << 30)) {
    return wrong("the quota must be 16 MiB to 8 GiB");
  }
  if (options.keep_history_minutes < 1 || options.keep_history_minutes > 7 * 24 * 60) {
    return wrong("history is kept for a minute to a week");
  }
  if (options.heartbeat_ms < 10 || options.election_ms < 5 * options.heartbeat_ms ||
      options.election_ms > 50000) {
    return wrong("the election timeout must be 5 heartbeats (of 10 ms or more) to 50 s");
  }
  return {};
}

std::vector<std::string> etcd_member_command(const EtcdMemberOptions& options) {
  const std::string client = fmt::format("{}://{}", options.client_tls.any() ? "https" : "http",
                                         options.client_endpoint());
  std::string initial;
  for (const auto& [name, url] : options.initial) {
    initial += fmt::format("{}{}={}", initial.empty() ? "" : ",", name, url);
  }
  std::vector<std::string> command = {options.program};
  const auto add = [&command](std::string_view flag, std::string_view value) {
    command.push_back(fmt::format("--{}={}", flag, value));
  };
  add("name", options.name);
  add("data-dir", options.dir + "/data");
  add("listen-client-urls", client);
  add("advertise-client-urls", client);
  add("listen-peer-urls", options.peer_url());
  add("initial-advertise-peer-urls", options.peer_url());
  add("initial-cluster", initial);
  add("initial-cluster-token", options.token);
  add("initial-cluster-state", options.join ? "existing" : "new");
  add("auto-compaction-mode", "periodic");
  add("auto-compaction-retention", fmt::format("{}m", options.keep_history_minutes));
  add("quota-backend-bytes", fmt::format("{}", options.quota_bytes));
  add("heartbeat-interval", fmt::format("{}", options.heartbeat_ms));
  add("election-timeout", fmt::format("{}", options.election_ms));
  // A member that comes back does not unseat a leader that serves; a change of members that would
  // lose the majority is refused; a member compares its data with the others' before it serves.
  add("pre-vote", "true");
  add("strict-reconfig-check", "true");
  add("enable-v2", "false");
  add("experimental-initial-corrupt-check", "true");
  add("logger", "zap");
  add("log-level", "warn");
  add("log-outputs", "stderr");
  add_tls(&command, "client", options.client_tls);
  add_tls(&command, "peer", options.peer_tls);
  return command;
}

EtcdMember::EtcdMember(World& world, EtcdMemberOptions options)
    : world_(world), options_(std::move(options)) {}

EtcdMember::~EtcdMember() {
  HF_ASSERT(stopped_, "an etcd member destroyed before stop()");
}

Task<Result<std::unique_ptr<EtcdMember>>> EtcdMember::start(World& world,
                                                            EtcdMemberOptions options) {
  const Status checked = check_etcd_member(options);
  HF_CO_TRY(checked);
  std::unique_ptr<EtcdMember> member(new EtcdMember(world, std::move(options)));
  Status step = co_await member->ports_are_free();
  if (step.ok()) step = co_await member->prepare();
  if (step.ok()) step = member->launch();
  if (step.ok()) {
    (void)spawn(member->gate_, member->supervise());
    step = co_await member->open_session();
  }
  if (step.ok() && member->options_.wait) step = co_await member->wait_for_answer();
  if (!step.ok()) {
    co_await member->stop();
    co_return step.error();
  }
  HF_LOG(kInfo, "state", "etcd_member_started name={} pid={} endpoint={}", member->options_.name,
         member->pid(), member->options_.client_endpoint());
  co_return std::move(member);
}

// Or another's answers would be taken for this one's.
Task<Status> EtcdMember::ports_are_free() {
  const uint16_t ports[] = {options_.client_port, options_.peer_port};
  for (const uint16_t port : ports) {
    std::string address = fmt::format("tcp:{}:{}", host_of(options_.address), port);
    Result<std::unique_ptr<Stream>> stream = co_await world_.net.connect(address, 500ms);
    if (!stream.ok()) continue;
    (*stream)->close();
    co_return make_error(
        ErrorCode::kInUse,
        "etcd member {}: somebody listens at {} already; end it, or give other ports",
        options_.name, address);
  }
  co_return Status();
}

Task<Status> EtcdMember::prepare() {
  const std::string folders[] = {options_.dir, options_.dir + "/data"};
  for (const std::string& folder : folders) {
    Status made = co_await world_.fs.make_directory(folder, 0700);
    if (!made.ok() && made.code() != ErrorCode::kAlreadyExists) {
      co_return made.error().with_context("etcd member");
    }
  }
  co_return co_await trim_log();
}

Task<Status> EtcdMember::trim_log() {
  const std::string log = options_.dir + "/etcd.log";
  Result<std::string> text = co_await world_.fs.read_file(log, kMaxEtcdLogBytes);
  if (text.code() != ErrorCode::kLimitExceeded) co_return Status();
  Status moved = co_await world_.fs.rename(log, log + ".old");
  co_return moved;
}

Status EtcdMember::launch() {
  Result<std::unique_ptr<Child>> child =
      world_.process.start(etcd_member_command(options_), options_.dir + "/etcd.log");
  if (child.code() == ErrorCode::kMissingFeature) {
    return make_error(ErrorCode::kMissingFeature,
                      "{} is not installed; on Debian: apt-get install etcd-server",
                      options_.program);
  }
  HF_TRY(child);
  child_ = std::move(*child);
  ++starts_;
  return {};
}

Task<Status> EtcdMember::open_session() {
  EtcdOptions options;
  options.endpoints = {options_.client_endpoint()};
  options.prefix = "holdfast-member/";
  options.ca_file = options_.client_tls.ca;
  options.cert_file = options_.client_tls.cert;
  options.key_file = options_.client_tls.key;
  Result<std::unique_ptr<EtcdSession>> session =
      co_await EtcdSession::open(world_, std::move(options), false);
  HF_CO_TRY(session);
  session_ = std::move(*session);
  co_return Status();
}

Task<Status> EtcdMember::wait_for_answer() {
  const MonoTime deadline = world_.clock.now() + options_.patience;
  while (!answers()) {
    if (child_ == nullptr || starts_ > 1) {
      std::string words = co_await last_words();
      co_return make_error(ErrorCode::kFailedPrecondition,
                           "etcd member {} ended at once with status {}; it said: {}",
                           options_.name, last_status_, words);
    }
    if (world_.clock.now() > deadline) {
      std::string words = co_await last_words();
      co_return make_error(ErrorCode::kTimeout, "etcd member {} does not answer at {}; it said: {}",
                           options_.name, options_.client_endpoint(), words);
    }
    Status slept = co_await world_.clock.sleep_for(20ms, CancelToken(stopping_));
    HF_CO_TRY(slept);
  }
  co_return Status();
}

// The end of its log, in one line.
Task<std::string> EtcdMember::last_words() {
  Result<std::string> text =
      co_await world_.fs.read_file(options_.dir + "/etcd.log", kMaxEtcdLogBytes);
  std::string words = text.ok() ? *text : "";
  if (words.size() > kLastWords) words.erase(0, words.size() - kLastWords);
  std::replace_if(
      words.begin(), words.end(), [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, ' ');
  co_return words.empty() ? "nothing" : words;
}

bool EtcdMember::answers() const {
  return child_ != nullptr && session_ != nullptr && session_->endpoints().front().answers;
}

bool EtcdMember::serves() const {
  return answers() && session_->endpoints().front().serves;
}

Task<void> EtcdMember::supervise() {
  Duration pause = kFirstPause;
  while (true) {
    const MonoTime began = world_.clock.now();
    if (child_ != nullptr) {
      last_status_ = co_await child_->wait();
      child_.reset();
      if (stopping_.is_cancelled()) co_return;
      HF_LOG(kWarn, "state", "etcd_member_ended name={} status={} starts={} log={}/etcd.log",
             options_.name, last_status_, starts_, options_.dir);
    }
    if (world_.clock.now() - began >= kSteady) pause = kFirstPause;
    Status slept = co_await world_.clock.sleep_for(pause, CancelToken(stopping_));
    if (!slept.ok()) co_return;
    pause = std::min(pause * 2, kLongestPause);
    const Status launched = launch();
    if (!launched.ok()) {
      HF_LOG(kError, "state", "etcd_member_not_started name={} why=\"{}\"", options_.name,
             launched.error().to_string());
    }
  }
}

Task<void> EtcdMember::stop() {
  stopping_.cancel();
  if (session_ != nullptr) co_await session_->close();
  session_.reset();
  if (child_ != nullptr) child_->signal(SIGTERM);
  const MonoTime deadline = world_.clock.now() + kPolite;
  while (gate_.inside() > 0 && world_.clock.now() < deadline) {
    Status slept = co_await world_.clock.sleep_for(10ms, CancelToken());
    if (!slept.ok()) break;
  }
  if (child_ != nullptr) child_->signal(SIGKILL);
  co_await gate_.close();
  stopped_ = true;
}

}  // namespace hf::state
