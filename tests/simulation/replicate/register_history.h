// What clients did to each block, as a register with values that are never written twice, and
// whether there is an order of it that a single register could have had: linearizability.
//
// With unique values that is decidable by zones (Gibbons and Korach, 1997): of each value, the
// write and the reads that returned it. Where one of them ended before another began, the value was
// surely there from the first end to the last beginning; two such spans must not overlap, and no
// value may have lived wholly inside another's span.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace hf::replicate_sim {

class RegisterHistory {
 public:
  explicit RegisterHistory(size_t blocks) : blocks_(blocks) {}

  // Each event has a place in the order of all events.
  uint64_t tick() { return ++ticks_; }
  uint64_t new_value() { return ++values_; }

  void write_begins(size_t block, uint64_t value, uint64_t tick);
  // Acknowledged. A write that does not end may have happened at any time after it began, or never.
  void write_ended(size_t block, uint64_t value, uint64_t tick);
  void read(size_t block, uint64_t value, uint64_t began, uint64_t ended);

  // "" or what cannot be.
  std::string check() const;
  uint64_t reads() const { return reads_; }
  uint64_t writes() const { return writes_; }

 private:
  static constexpr uint64_t kNever = ~uint64_t{0};
  struct Value {
    uint64_t write_began = 0;
    uint64_t write_ended = kNever;
    uint64_t first_end = kNever;  // of the write and all reads
    uint64_t last_begin = 0;
    uint64_t reads = 0;
    uint64_t too_early = 0;  // a read that ended before the write began
  };
  struct Block {
    Block() { values[0].write_ended = values[0].first_end = 0; }
    std::map<uint64_t, Value> values;
  };
  std::string check_block(size_t number, const Block& block) const;

  std::vector<Block> blocks_;
  uint64_t ticks_ = 0, values_ = 0, reads_ = 0, writes_ = 0;
  std::string garbage_;
};

}  // namespace hf::replicate_sim
