// A doubly linked list of objects that embed their own links: no allocation, O(1) removal.
// An object is in at most one list per hook; destroying a linked object unlinks it.
#pragma once

#include <cstddef>

#include "base/assert.h"

namespace hf {

class ListHook {
 public:
  ListHook() = default;
  ListHook(const ListHook&) = delete;
  ListHook& operator=(const ListHook&) = delete;
  ~ListHook() { unlink(); }
  bool is_linked() const { return next_ != nullptr; }
  void unlink() {
    if (next_ == nullptr) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    next_ = prev_ = nullptr;
  }

 private:
  template <typename T>
  friend class IntrusiveList;
  ListHook* next_ = nullptr;
  ListHook* prev_ = nullptr;
};

// T derives from ListHook.
template <typename T>
class IntrusiveList {
 public:
  IntrusiveList() { head_.next_ = head_.prev_ = &head_; }
  ~IntrusiveList() {
    while (!empty()) front().unlink();
    head_.next_ = head_.prev_ = nullptr;
  }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;

  bool empty() const { return head_.next_ == &head_; }
  T& front() {
    HF_ASSERT(!empty());
    return *static_cast<T*>(head_.next_);
  }
  void push_back(T& item) {
    ListHook& hook = item;
    HF_ASSERT(!hook.is_linked());
    hook.prev_ = head_.prev_;
    hook.next_ = &head_;
    head_.prev_->next_ = &hook;
    head_.prev_ = &hook;
  }
  T& pop_front() {
    T& item = front();
    static_cast<ListHook&>(item).unlink();
    return item;
  }
  // Visits in order; the visitor may unlink the visited item, nothing else.
  template <typename F>
  void for_each(F&& visit) {
    for (ListHook* hook = head_.next_; hook != &head_;) {
      ListHook* next = hook->next_;
      visit(*static_cast<T*>(hook));
      hook = next;
    }
  }

 private:
  mutable ListHook head_;
};

}  // namespace hf
