#include <gtest/gtest.h>

#include "sim/simulation.h"

namespace hf::sim {
namespace {

ByteSpan text(const std::string& s) { return as_bytes(s); }

Task<void> write_and_kill(SimProcess& process, std::string* seen) {
  OpenOptions options;
  options.write = options.create = true;
  Result<std::unique_ptr<File>> file = co_await process.world().fs.open("/f", options);
  HF_ASSERT(file.ok());
  Result<size_t> n = co_await (*file)->write_at(0, text("hello"));
  HF_ASSERT(n.ok());
  process.kill();
  Result<size_t> after = co_await (*file)->write_at(0, text("later"));
  HF_ASSERT(after.code() == ErrorCode::kCancelled);
  process.restart();
  Result<std::string> content = co_await process.world().fs.read_file("/f", 100);
  HF_ASSERT(content.ok(), "{}", content.error().to_string());
  *seen = *content;
}

TEST(SimDisk, AKillLosesNothingThatWasCompleted) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Simulation sim(seed);
    SimHost& host = sim.add_host("a");
    host.add_disk("/");
    SimProcess process(host);
    std::string seen;
    sim.run(write_and_kill(process, &seen));
    EXPECT_EQ(seen, "hello");
  }
}

}  // namespace
}  // namespace hf::sim
