// Cancellation: a source that is triggered once, tokens that see it, callbacks that run then.
// Cancel is a request: an operation that honours it completes early with kCancelled, its effect unknown
// unless its contract says otherwise. One loop only.
#pragma once

#include <functional>
#include <utility>

#include "base/intrusive_list.h"

namespace hf {

class CancelSource;

// Runs `fn` when the source is cancelled (at once, if it already is). Unregisters on destruction.
class CancelCallback : public ListHook {
 public:
  CancelCallback(CancelSource* source, std::function<void()> fn);
  void run() { fn_(); }

 private:
  std::function<void()> fn_;
};

class CancelSource {
 public:
  bool is_cancelled() const { return cancelled_; }
  void cancel() {
    if (std::exchange(cancelled_, true)) return;
    while (!callbacks_.empty()) callbacks_.pop_front().run();
  }

 private:
  friend class CancelCallback;
  bool cancelled_ = false;
  IntrusiveList<CancelCallback> callbacks_;
};

// A null token is never cancelled. Does not own the source.
class CancelToken {
 public:
  CancelToken() = default;
  CancelToken(CancelSource& source) : source_(&source) {}  // NOLINT: implicit by design
  bool is_cancelled() const { return source_ != nullptr && source_->is_cancelled(); }
  CancelSource* source() const { return source_; }

 private:
  CancelSource* source_ = nullptr;
};

inline CancelCallback::CancelCallback(CancelSource* source, std::function<void()> fn)
    : fn_(std::move(fn)) {
  if (source == nullptr) return;
  if (source->cancelled_) {
    fn_();
  } else {
    source->callbacks_.push_back(*this);
  }
}

}  // namespace hf
