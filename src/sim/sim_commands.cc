#include "sim/sim_commands.h"

#include <utility>

namespace hf::sim {

Task<Result<CommandResult>> SimCommands::run(std::vector<std::string> argv, Duration timeout) {
  HF_ASSERT(!argv.empty());
  if (life_.is_dead()) co_return dead_error("run");
  const std::string name = argv[0].substr(argv[0].rfind('/') + 1);
  auto script = scripts_.find(name);
  if (script == scripts_.end()) {
    co_return make_error(ErrorCode::kMissingFeature, "{} is not installed", argv[0]);
  }
  ScriptedCommand command = script->second(argv);
  const bool too_slow = command.takes > timeout;
  const Duration takes = too_slow ? timeout : command.takes;
  Delay delay(life_, life_.loop().now() + takes.count());
  bool came = co_await delay;
  if (!came) co_return dead_error("run");
  if (too_slow) {
    co_return make_error(ErrorCode::kTimeout, "{} did not end within {} ms", argv[0],
                         timeout.count() / 1'000'000);
  }
  co_return std::move(command.result);
}

namespace {

class DoneLater : public SimEvent, public Pending {
 public:
  DoneLater(Incarnation& life, std::function<void()> done) : life_(life), done_(std::move(done)) {
    life_.add(*this);
    life_.loop().schedule(
        *this, life_.loop().now() + static_cast<SimTime>(life_.prng().below(kLatencyNs)));
  }
  void fire() override {
    life_.call(std::move(done_));
    delete this;
  }
  void abort(Death) override { fire(); }

 private:
  static constexpr uint64_t kLatencyNs = 1'000'000;
  Incarnation& life_;
  std::function<void()> done_;
};

}  // namespace

void SimBlockingPool::submit(std::function<void()> fn, std::function<void()> done) {
  fn();
  if (life_.is_dead()) {
    life_.call(std::move(done));
  } else {
    new DoneLater(life_, std::move(done));
  }
}

}  // namespace hf::sim
