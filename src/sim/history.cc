#include "sim/history.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::sim {

void History::record(int64_t at_ns, const char* what, uint64_t a, uint64_t b, uint64_t c) {
  mix(static_cast<uint64_t>(at_ns));
  for (const char* p = what; *p != 0; ++p)
    hash_ = (hash_ ^ static_cast<uint8_t>(*p)) * 0x100000001b3;
  mix(a);
  mix(b);
  mix(c);
  Entry& entry = tail_[count_++ % kTail];
  entry = Entry{at_ns, what, a, b, c};
  if (trace_) std::fputs(to_text(entry).c_str(), stderr);
}

std::string History::to_text(const Entry& e) {
  return fmt::format("{:>14.3f} us {:<20} {} {} {}\n", static_cast<double>(e.at_ns) / 1000.0,
                     e.what, e.a, e.b, e.c);
}

std::string History::tail(size_t limit) const {
  std::string out;
  const uint64_t shown = std::min<uint64_t>({limit, count_, kTail});
  for (uint64_t i = count_ - shown; i < count_; ++i) out += to_text(tail_[i % kTail]);
  return out;
}

}  // namespace hf::sim
