// The Process and BlockingPool seams of a simulated process.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/process.h"
#include "sim/incarnation.h"

namespace hf::sim {

struct ScriptedCommand {
  CommandResult result;
  Duration takes = 1ms;
};

// What the programs of a host do, by the last part of their path ("mkfs.ext4"). The function may
// have effects of its own in the simulation; it runs when the program ends.
using CommandScript = std::function<ScriptedCommand(const std::vector<std::string>& argv)>;
using CommandScripts = std::map<std::string, CommandScript>;

class SimCommands : public Process {
 public:
  SimCommands(Incarnation& life, const CommandScripts& scripts) : life_(life), scripts_(scripts) {}
  Task<Result<CommandResult>> run(std::vector<std::string> argv, Duration timeout) override;

 private:
  Incarnation& life_;
  const CommandScripts& scripts_;
};

// Runs `fn` at once, and `done` after a while. Of a dead process too: the seam knows no failure,
// and what `fn` touches must be behind seams that do.
class SimBlockingPool : public BlockingPool {
 public:
  explicit SimBlockingPool(Incarnation& life) : life_(life) {}
  void submit(std::function<void()> fn, std::function<void()> done) override;

 private:
  Incarnation& life_;
};

}  // namespace hf::sim
