// History: what happened in a simulation, as a running hash and a tail for people.
//
// Two runs of the same seed must have the same hash: every event that the simulator delivers and
// every result that it gives goes in. What goes in must depend on the seed alone: no addresses, no
// real time, no iteration order of unordered containers.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

namespace hf::sim {

class History {
 public:
  // `what` is a string literal (hashed by content, kept by pointer).
  void record(int64_t at_ns, const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0);
  // Mixes in a value without an entry of its own.
  void mix(uint64_t value) { hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15 + (hash_ >> 29); }

  uint64_t hash() const { return hash_; }
  uint64_t events() const { return count_; }
  // Prints each event to stderr as it happens (HF_SIM_TRACE=1 switches it on).
  void set_trace(bool on) { trace_ = on; }
  // The last kTail events, oldest first.
  std::string tail(size_t limit) const;

 private:
  static constexpr size_t kTail = 256;
  struct Entry {
    int64_t at_ns = 0;
    const char* what = "";
    uint64_t a = 0, b = 0, c = 0;
  };
  static std::string to_text(const Entry& entry);

  uint64_t hash_ = 0x243f6a8885a308d3;
  uint64_t count_ = 0;
  bool trace_ = false;
  std::array<Entry, kTail> tail_;
};

}  // namespace hf::sim
