#include "state/watch_hub.h"

#include <algorithm>

namespace hf::state {

struct WatchHub::State {
  std::deque<Event> history;
  size_t history_bytes = 0;
  Revision compacted = 0;  // nothing up to here is known any more
  Revision revision = 0;
  size_t watches = 0;
  bool closed = false;
  Signal changed;

  static size_t cost(const Event& event) {
    return sizeof event + event.key.size() + event.value.size();
  }
  void drop_oldest_revision() {
    compacted = history.front().mod_revision;
    while (!history.empty() && history.front().mod_revision == compacted) {
      history_bytes -= cost(history.front());
      history.pop_front();
    }
  }
};

class WatchHub::HubWatch : public Watch {
 public:
  HubWatch(std::shared_ptr<State> state, std::string prefix, Revision next, CancelToken client)
      : state_(std::move(state)),
        prefix_(std::move(prefix)),
        next_(next),
        client_gone_(client.source(), [this] { close(); }) {
    ++state_->watches;
  }
  ~HubWatch() override {
    HF_ASSERT(!waiting_, "watch of {} destroyed while somebody waits in next()", prefix_);
    --state_->watches;
  }

  Task<Result<WatchBatch>> next() override {
    HF_ASSERT(!waiting_, "two callers in next() of the watch of {}", prefix_);
    waiting_ = true;
    while (true) {
      if (closed_ || state_->closed) {
        waiting_ = false;
        co_return Error(ErrorCode::kClosed, "the watch of " + prefix_ + " was closed");
      }
      WatchBatch batch = collect();
      if (batch.compacted || !batch.events.empty()) {
        waiting_ = false;
        co_return std::move(batch);
      }
      co_await state_->changed.wait();
    }
  }

  void close() override {
    closed_ = true;
    state_->changed.notify_all();
  }

 private:
  WatchBatch collect() {
    WatchBatch batch;
    if (next_ <= state_->compacted) {
      batch.compacted = true;
      batch.revision = state_->compacted;
      return batch;
    }
    const auto begin = std::lower_bound(
        state_->history.begin(), state_->history.end(), next_,
        [](const Event& event, Revision revision) { return event.mod_revision < revision; });
    batch.revision = state_->revision;
    for (auto it = begin; it != state_->history.end(); ++it) {
      if (batch.events.size() >= kWatchBatchEvents &&
          it->mod_revision != batch.events.back().mod_revision) {
        batch.revision = it->mod_revision - 1;
        break;
      }
      if (it->key.starts_with(prefix_)) batch.events.push_back(*it);
    }
    next_ = std::max(next_, batch.revision + 1);
    return batch;
  }

  std::shared_ptr<State> state_;
  std::string prefix_;
  Revision next_;
  bool waiting_ = false;
  bool closed_ = false;
  CancelCallback client_gone_;
};

WatchHub::WatchHub(Revision revision) : state_(std::make_shared<State>()) {
  state_->revision = revision;
  state_->compacted = revision;
}

WatchHub::~WatchHub() {
  state_->closed = true;
}

void WatchHub::publish(Revision revision, std::vector<Event> events) {
  HF_ASSERT(revision == state_->revision + 1, "revision {} after {}", revision, state_->revision);
  state_->revision = revision;
  for (Event& event : events) {
    HF_ASSERT(event.mod_revision == revision);
    state_->history_bytes += State::cost(event);
    state_->history.push_back(std::move(event));
  }
  while (state_->history.size() > kMaxHistoryEvents || state_->history_bytes > kMaxHistoryBytes) {
    state_->drop_oldest_revision();
  }
  state_->changed.notify_all();
}

void WatchHub::compact(Revision revision) {
  revision = std::min(revision, state_->revision);
  while (!state_->history.empty() && state_->history.front().mod_revision <= revision) {
    state_->drop_oldest_revision();
  }
  state_->compacted = std::max(state_->compacted, revision);
  state_->changed.notify_all();
}

Result<std::unique_ptr<Watch>> WatchHub::open(std::string prefix, Revision from,
                                              CancelToken client) {
  if (state_->closed) return Error(ErrorCode::kClosed, "the state store was closed");
  if (state_->watches >= kMaxWatches) {
    return make_error(ErrorCode::kLimitExceeded, "{} watches are open, at most {}", state_->watches,
                      kMaxWatches);
  }
  const Revision next = from == 0 ? state_->revision + 1 : from;
  std::unique_ptr<Watch> watch =
      std::make_unique<HubWatch>(state_, std::move(prefix), next, client);
  return watch;
}

void WatchHub::close() {
  state_->closed = true;
  state_->changed.notify_all();
}

Revision WatchHub::revision() const {
  return state_->revision;
}

}  // namespace hf::state
