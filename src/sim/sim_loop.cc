#include "sim/sim_loop.h"

#include <cstdlib>

namespace hf::sim {

struct AfterEvent : SimEvent, ListHook {
  explicit AfterEvent(std::function<void()> f) : fn(std::move(f)) {}
  void fire() override {
    std::function<void()> run = std::move(fn);
    delete this;
    run();
  }
  std::function<void()> fn;
};

SimEvent::~SimEvent() {
  if (is_scheduled()) loop_->unschedule(*this);
}

SimLoop::SimLoop(uint64_t seed) : seed_(seed), prng_(seed ^ 0x6c6f6f70), enter_(*this) {
  const char* trace = std::getenv("HF_SIM_TRACE");
  history_.set_trace(trace != nullptr && trace[0] == '1');
}

SimLoop::~SimLoop() {
  while (!afters_.empty()) delete &afters_.pop_front();
  for (SimEvent* event : heap_) event->heap_index_ = SimEvent::kNotScheduled;
}

void SimLoop::post(std::function<void()> fn) {
  posts_.push_back(std::move(fn));
}

void SimLoop::after(Duration delay, std::function<void()> fn) {
  auto* event = new AfterEvent(std::move(fn));
  afters_.push_back(*event);
  schedule(*event, now_ + delay.count());
}

bool SimLoop::earlier(const SimEvent& a, const SimEvent& b) const {
  if (a.at_ != b.at_) return a.at_ < b.at_;
  if (a.tie_ != b.tie_) return a.tie_ < b.tie_;
  return a.number_ < b.number_;
}

void SimLoop::place(size_t i, SimEvent* event) {
  heap_[i] = event;
  event->heap_index_ = i;
}

void SimLoop::sift_up(size_t i) {
  SimEvent* event = heap_[i];
  while (i > 0) {
    const size_t parent = (i - 1) / 2;
    if (!earlier(*event, *heap_[parent])) break;
    place(i, heap_[parent]);
    i = parent;
  }
  place(i, event);
}

void SimLoop::sift_down(size_t i) {
  SimEvent* event = heap_[i];
  while (true) {
    size_t child = 2 * i + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && earlier(*heap_[child + 1], *heap_[child])) ++child;
    if (!earlier(*heap_[child], *event)) break;
    place(i, heap_[child]);
    i = child;
  }
  place(i, event);
}

void SimLoop::schedule(SimEvent& event, SimTime at) {
  HF_ASSERT(!event.is_scheduled());
  event.loop_ = this;
  event.at_ = at > now_ ? at : now_;
  event.tie_ = prng_.next();
  event.number_ = events_numbered_++;
  heap_.push_back(&event);
  event.heap_index_ = heap_.size() - 1;
  sift_up(event.heap_index_);
}

void SimLoop::unschedule(SimEvent& event) {
  HF_ASSERT(event.is_scheduled() && event.loop_ == this);
  const size_t i = event.heap_index_;
  event.heap_index_ = SimEvent::kNotScheduled;
  SimEvent* last = heap_.back();
  heap_.pop_back();
  if (last == &event) return;
  place(i, last);
  sift_down(i);
  sift_up(last->heap_index_);
}

void SimLoop::fire_earliest() {
  SimEvent& event = *heap_.front();
  if (event.at_ > now_) now_ = event.at_;
  unschedule(event);
  history_.mix(static_cast<uint64_t>(now_));
  count_step();
  event.fire();
}

void SimLoop::count_step() {
  HF_ASSERT(++steps_ <= step_limit_,
            "seed {}: {} steps and no end, at {} us of virtual time; the last events:\n{}", seed_,
            steps_, now_ / 1000, history_.tail(64));
}

bool SimLoop::turn(SimTime horizon) {
  bool did = false;
  if (has_ready()) {
    did = true;
    run_ready(kReadyBatch);
  }
  for (size_t n = posts_.size(); n > 0; --n) {
    did = true;
    std::function<void()> fn = std::move(posts_.front());
    posts_.pop_front();
    fn();
  }
  if (did) {
    count_step();
    now_ += kTurnCost;
    while (!heap_.empty() && heap_.front()->at_ <= now_) fire_earliest();
    return true;
  }
  if (heap_.empty() || heap_.front()->at_ > horizon) return false;
  fire_earliest();
  return true;
}

void SimLoop::run_until(const std::function<bool()>& done) {
  while (!done()) {
    const bool more = turn(INT64_MAX);
    HF_ASSERT(
        more || done(),
        "seed {}: nothing is left to happen, and what was waited for has not, at {} us of virtual "
        "time; the last events:\n{}",
        seed_, now_ / 1000, history_.tail(64));
  }
}

void SimLoop::run(Task<void> task) {
  Gate gate;
  HF_ASSERT(spawn(gate, std::move(task)));
  run_until([&gate] { return gate.inside() == 0; });
}

void SimLoop::run_for(Duration d) {
  const SimTime horizon = now_ + d.count();
  while (now_ <= horizon && turn(horizon)) {
  }
  if (now_ < horizon) now_ = horizon;
}

}  // namespace hf::sim
