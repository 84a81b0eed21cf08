#include "state/etcd/watch.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>

#include "base/log.h"
#include "runtime/fault_point.h"
#include "state/etcd/wire.h"
#include "state/watch_hub.h"

namespace hf::state {
namespace {

using etcdserverpb::WatchRequest;
using etcdserverpb::WatchResponse;

constexpr Duration kFirstPause = 20ms;
constexpr Duration kLongestPause = 1s;

constexpr int kMaxDenials = 2;  // in a row; the first may be of an old token

// The same of an event on the wire and in hand, where keys have lost their prefix.
size_t cost_of(size_t value_bytes) {
  return sizeof(Event) + kMaxEtcdPrefix + value_bytes;
}
size_t cost(const mvccpb::Event& event) {
  return cost_of(event.type() == mvccpb::Event::PUT ? event.kv().value().size() : 0);
}
size_t cost(const Event& event) {
  return cost_of(event.value.size());
}

// What the stream has brought and nobody has fetched, counted by gRPC's threads and the loop.
struct Held {
  std::atomic<size_t> bytes{0};
};

// One stream, from its opening to its end. Owns itself until OnDone; the loop only cancels it.
class Stream : public grpc::ClientBidiReactor<WatchRequest, WatchResponse>,
               public std::enable_shared_from_this<Stream> {
 public:
  // On the loop, by post; `on_end` is the last.
  using OnAnswer = std::function<void(WatchResponse&)>;
  using OnEnd = std::function<void(const grpc::Status&, bool too_much)>;

  Stream(std::shared_ptr<Mailbox> mailbox, std::shared_ptr<Held> held, OnAnswer on_answer,
         OnEnd on_end)
      : mailbox_(std::move(mailbox)),
        held_(std::move(held)),
        on_answer_(std::move(on_answer)),
        on_end_(std::move(on_end)) {}

  grpc::ClientContext& context() { return context_; }
  WatchRequest& request() { return request_; }
  void start(EtcdEndpoint& endpoint) {
    self_ = shared_from_this();
    endpoint.watch->async()->Watch(&context_, this);
    StartWrite(&request_);
    StartRead(&answer_);
    StartCall();
  }
  void cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone follows
    size_t bytes = 0;
    for (const mvccpb::Event& event : answer_.events()) bytes += cost(event);
    if (held_->bytes.fetch_add(bytes) + bytes > kMaxHistoryBytes) {
      held_->bytes.fetch_sub(bytes);
      too_much_.store(true);
      context_.TryCancel();
      return;
    }
    auto answer = std::make_shared<WatchResponse>(std::move(answer_));
    answer_.Clear();
    mailbox_->post([self = self_, answer] { self->on_answer_(*answer); });
    StartRead(&answer_);
  }
  void OnDone(const grpc::Status& status) override {
    std::shared_ptr<Stream> self = std::move(self_);
    mailbox_->post([self, status] { self->on_end_(status, self->too_much_.load()); });
  }

 private:
  std::shared_ptr<Mailbox> mailbox_;
  std::shared_ptr<Held> held_;
  OnAnswer on_answer_;
  OnEnd on_end_;
  grpc::ClientContext context_;
  WatchRequest request_;
  WatchResponse answer_;
  std::atomic<bool> too_much_{false};
  std::shared_ptr<Stream> self_;
};

// Shared by the handle, the task that keeps a stream open, and the stream's posts.
struct WatchState {
  WatchState(EtcdSession& s, std::string p, Revision from)
      : session(s), prefix(std::move(p)), next(from) {}

  EtcdSession& session;
  const std::string prefix;
  Revision next;               // the first revision that is not in `ready`
  std::deque<Event> ready;     // whole revisions
  std::vector<Event> partial;  // of an answer in fragments
  std::shared_ptr<Held> held = std::make_shared<Held>();
  std::optional<Revision> compacted;
  std::optional<Error> failed;
  bool closed = false;
  bool session_over = false;
  int denials = 0;

  // Of the stream that is open.
  bool ended = false;
  bool progressed = false;
  bool too_much = false;
  std::optional<Revision> behind;  // it was opened at a revision before `next`
  std::string cancel_reason;
  grpc::Status status;

  Signal changed;

  bool over() const { return closed || failed || compacted || session_over; }
  // For the tasks of the session, which is there as long as they are.
  bool leave() const { return over() || session.closing().is_cancelled(); }
  void drop_all() {
    for (const Event& event : ready) held->bytes.fetch_sub(cost(event));
    for (const Event& event : partial) held->bytes.fetch_sub(cost(event));
    ready.clear();
    partial.clear();
  }
  void compact(Revision revision) {
    drop_all();
    compacted = revision;
    changed.notify_all();
  }
};
using StatePtr = std::shared_ptr<WatchState>;

// Whole revisions go to `ready`; the last one of a fragment waits for its rest.
void take_events(WatchState& state, WatchResponse& answer) {
  for (const mvccpb::Event& one : answer.events()) {
    Result<Event> event = event_of(one, state.session.options().prefix);
    if (!event.ok()) {
      state.failed = event.error();
      return;
    }
    if (event->mod_revision < state.next) {  // told before
      state.held->bytes.fetch_sub(cost(one));
      continue;
    }
    state.partial.push_back(std::move(*event));
  }
  if (state.partial.empty()) return;
  const Revision last = state.partial.back().mod_revision;
  size_t whole = state.partial.size();
  if (answer.fragment()) {
    while (whole > 0 && state.partial[whole - 1].mod_revision == last) --whole;
  }
  for (size_t i = 0; i < whole; ++i) {
    state.next = state.partial[i].mod_revision + 1;
    state.ready.push_back(std::move(state.partial[i]));
  }
  state.partial.erase(state.partial.begin(), state.partial.begin() + static_cast<ptrdiff_t>(whole));
}

void on_answer(WatchState& state, WatchResponse& answer) {
  if (state.over()) return;
  const auto revision = static_cast<Revision>(std::max<int64_t>(answer.header().revision(), 0));
  if (answer.header().cluster_id() != state.session.cluster_id()) {
    state.cancel_reason = "answers for another etcd cluster";
  } else if (answer.compact_revision() > 0) {
    state.compact(static_cast<Revision>(answer.compact_revision()));
    return;
  } else if (answer.canceled()) {
    state.cancel_reason = answer.cancel_reason().empty() ? "cancelled" : answer.cancel_reason();
  } else if (answer.created()) {
    state.progressed = true;
    state.denials = 0;
    if (revision + 1 < state.next) state.behind = revision;
  } else if (answer.events_size() == 0) {
    // Progress: nothing of ours up to here. Sent on a watch that is not behind, after its events.
    if (state.partial.empty()) state.next = std::max(state.next, revision + 1);
  } else {
    take_events(state, answer);
  }
  state.changed.notify_all();
}

std::shared_ptr<Stream> open_stream(const StatePtr& state, EtcdEndpoint& endpoint) {
  state->ended = state->progressed = state->too_much = false;
  state->behind.reset();
  state->cancel_reason.clear();
  for (const Event& event : state->partial) state->held->bytes.fetch_sub(cost(event));
  state->partial.clear();
  auto stream = std::make_shared<Stream>(
      state->session.mailbox(), state->held,
      [state](WatchResponse& answer) { on_answer(*state, answer); },
      [state](const grpc::Status& status, bool too_much) {
        state->ended = true;
        state->status = status;
        state->too_much = too_much;
        state->changed.notify_all();
      });
  etcdserverpb::WatchCreateRequest* create = stream->request().mutable_create_request();
  set_range(create, state->prefix);
  create->set_start_revision(static_cast<int64_t>(state->next));
  create->set_progress_notify(true);
  create->set_fragment(true);
  state->session.dress(stream->context(), std::nullopt);
  stream->start(endpoint);
  return stream;
}

void start_range(EtcdEndpoint& at, grpc::ClientContext* context,
                 const etcdserverpb::RangeRequest* request, etcdserverpb::RangeResponse* answer,
                 std::function<void(grpc::Status)> done) {
  at.kv->async()->Range(context, request, answer, std::move(done));
}

// The stream's member is behind what was told: it is late, or etcd was set back. In the second case
// no event would come until the old revision is reached again.
Task<void> check_set_back(StatePtr state) {
  etcdserverpb::RangeRequest query;
  set_range(&query, state->prefix);
  query.set_count_only(true);
  Result<etcdserverpb::RangeResponse> answer = co_await state->session.call(
      CallKind::kRead, "read of the revision", &start_range, std::move(query));
  if (!answer.ok() || state->leave()) co_return;
  const Revision now = static_cast<Revision>(answer->header().revision());
  if (now + 1 >= state->next) co_return;
  HF_PROBE("state.etcd_set_back");
  HF_LOG(kWarn, "state", "etcd_set_back revision={} was={}", now, state->next - 1);
  state->compact(now);
}

// Waits until the stream has to be left: it ended, its endpoint serves no more, or the watch is
// over.
Task<void> follow(StatePtr state, EtcdEndpoint* endpoint, std::shared_ptr<Stream> stream) {
  while (!state->ended) {
    if (state->leave() || !endpoint->serves || !state->cancel_reason.empty()) stream->cancel();
    if (state->behind && !state->leave()) {
      state->behind.reset();
      co_await check_set_back(state);
      continue;
    }
    co_await state->changed.wait();
  }
}

void judge_end(WatchState& state, EtcdEndpoint& endpoint) {
  if (state.too_much) {
    HF_PROBE("state.etcd_watch_too_slow");
    state.compact(state.next);
    return;
  }
  if (!endpoint.serves) return;
  const bool told = !state.cancel_reason.empty();
  const std::string why = told ? state.cancel_reason : state.status.error_message();
  const EtcdVerdict verdict =
      judge(told ? 7 : static_cast<int>(state.status.error_code()), why, CallKind::kRead);
  // etcd says "permission denied" of a token that it does not know, too.
  if (verdict.renew_token || verdict.code == ErrorCode::kPermissionDenied) {
    state.session.forget_token();
  }
  if (verdict.code == ErrorCode::kConflict) {
    state.compact(state.next);
    return;
  }
  if (verdict.code == ErrorCode::kPermissionDenied && ++state.denials <= kMaxDenials) return;
  if (!verdict.again) {
    state.failed =
        make_error(verdict.code, "watch of {}: etcd {}: {}", state.prefix, endpoint.address, why);
    state.changed.notify_all();
  }
  if (!told && !verdict.renew_token) state.session.suspect(endpoint, "a watch ended: " + why);
}

Task<void> keep_watching(StatePtr state) {
  EtcdSession& session = state->session;
  const EtcdSession::Listener listener =
      session.listen([raw = state.get()] { raw->changed.notify_all(); });
  Duration pause = kFirstPause;
  while (!state->leave()) {
    Result<EtcdEndpoint*> endpoint =
        co_await session.pick(session.clock().now() + session.options().call_timeout);
    if (state->leave()) break;
    if (!endpoint.ok() && endpoint.code() != ErrorCode::kUnavailable) {
      state->failed = endpoint.error();
      break;
    }
    if (endpoint.ok()) {
      std::shared_ptr<Stream> stream = open_stream(state, **endpoint);
      co_await follow(state, *endpoint, std::move(stream));
      if (state->leave()) break;
      judge_end(*state, **endpoint);
      if (state->progressed) pause = kFirstPause;
    }
    if (state->leave()) break;
    Status slept = co_await session.clock().sleep_for(pause, CancelToken(session.closing()));
    (void)slept.ok();
    pause = std::min(pause * 2, kLongestPause);
  }
  session.unlisten(listener);
  state->session_over = session.closing().is_cancelled();
  state->changed.notify_all();
}

class EtcdWatch : public Watch {
 public:
  EtcdWatch(StatePtr state, std::shared_ptr<size_t> open)
      : state_(std::move(state)), open_(std::move(open)) {
    ++*open_;
  }
  ~EtcdWatch() override {
    HF_ASSERT(!waiting_, "watch of {} destroyed while somebody waits in next()", state_->prefix);
    close();
    --*open_;
  }

  Task<Result<WatchBatch>> next() override {
    HF_ASSERT(!waiting_, "two callers in next() of the watch of {}", state_->prefix);
    waiting_ = true;
    while (!state_->over() && state_->ready.empty()) co_await state_->changed.wait();
    waiting_ = false;
    if (state_->closed || state_->session_over) {
      co_return Error(ErrorCode::kClosed, "the watch of " + state_->prefix + " was closed");
    }
    if (state_->failed && state_->ready.empty()) co_return *state_->failed;
    WatchBatch batch;
    if (state_->compacted) {
      batch.compacted = true;
      batch.revision = *state_->compacted;
      co_return std::move(batch);
    }
    fill(&batch);
    co_return std::move(batch);
  }

  void close() override {
    state_->closed = true;
    state_->drop_all();
    state_->changed.notify_all();
  }

 private:
  void fill(WatchBatch* batch) {
    std::deque<Event>& ready = state_->ready;
    while (!ready.empty()) {
      if (batch->events.size() >= kWatchBatchEvents &&
          ready.front().mod_revision != batch->events.back().mod_revision) {
        break;
      }
      state_->held->bytes.fetch_sub(cost(ready.front()));
      batch->revision = ready.front().mod_revision;
      batch->events.push_back(std::move(ready.front()));
      ready.pop_front();
    }
  }

  StatePtr state_;
  std::shared_ptr<size_t> open_;
  bool waiting_ = false;
};

}  // namespace

std::unique_ptr<Watch> open_etcd_watch(EtcdSession& session, std::string prefix, Revision from,
                                       std::shared_ptr<size_t> open_watches) {
  auto state = std::make_shared<WatchState>(session, std::move(prefix), from);
  if (!spawn(session.gate(), keep_watching(state))) return nullptr;
  return std::make_unique<EtcdWatch>(std::move(state), std::move(open_watches));
}

}  // namespace hf::state
