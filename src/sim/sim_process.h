// Hosts and processes of a simulation.
//
//   SimHost ── disks (they survive), one clock, a network address
//     └─ SimProcess ── one Incarnation after the other, each with a World of its own
//
// The product code of a process is started by the test on process.world(). After kill() that world
// is dead: what was in flight ends with "cancelled", what comes later fails at once without effect.
// The test then lets the code unwind (awaits its stop, closes its gate), destroys it, calls
// restart() and starts it anew on the new world. Old worlds stay valid until the SimProcess goes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/world.h"
#include "sim/incarnation.h"
#include "sim/sim_clock.h"
#include "sim/sim_commands.h"
#include "sim/sim_disk.h"
#include "sim/sim_fs.h"
#include "sim/sim_net.h"
#include "sim/sim_random.h"

namespace hf::sim {

class SimProcess;

class SimHost {
 public:
  // `ip` is how others reach it: "tcp:<ip>:<port>".
  SimHost(SimLoop& loop, SimNet& net, std::string name, std::string ip, Prng prng);
  ~SimHost();

  const std::string& name() const { return name_; }
  const std::string& ip() const { return ip_; }
  SimLoop& loop() { return loop_; }
  SimNet& net() { return net_; }
  ClockModel& clock() { return clock_; }
  CommandScripts& commands() { return commands_; }
  Prng& prng() { return prng_; }

  // Disks belong to the host. The file system of `disk` appears at `at` ("/" is allowed).
  SimDisk& add_disk(const std::string& at, DiskConfig config = {});
  SimDisk& disk(const std::string& at);
  const std::vector<Mount>& mounts() const { return mounts_; }

  // All processes die, then all disks lose what was not stable. The host is off until power_on(),
  // which starts nothing: restart() the processes.
  void power_loss();
  void power_on();
  bool is_up() const { return up_; }

 private:
  friend class SimProcess;
  SimLoop& loop_;
  SimNet& net_;
  const std::string name_;
  const std::string ip_;
  Prng prng_;
  ClockModel clock_;
  CommandScripts commands_;
  std::vector<std::unique_ptr<SimDisk>> disks_;
  std::vector<Mount> mounts_;
  std::vector<SimProcess*> processes_;
  bool up_ = true;
};

class SimProcess {
 public:
  explicit SimProcess(SimHost& host);  // starts its first incarnation
  ~SimProcess();
  SimProcess(const SimProcess&) = delete;
  SimProcess& operator=(const SimProcess&) = delete;

  SimHost& host() { return host_; }
  World& world() { return lives_.back()->world; }
  bool is_alive() const { return !lives_.back()->life.is_dead(); }
  // Counts from 1.
  uint64_t incarnation() const { return lives_.size(); }

  void kill();                                       // SIGKILL
  void pause() { lives_.back()->life.pause(); }      // SIGSTOP: answers are held back
  void proceed() { lives_.back()->life.proceed(); }  // SIGCONT
  void restart();                                    // the process must be dead and its host up

 private:
  friend class SimHost;
  struct Life {
    Life(SimHost& host, uint64_t number);
    Incarnation life;
    SimClock clock;
    SimRandom random;
    SimFs fs;
    SimNetwork net;
    SimCommands commands;
    SimBlockingPool blocking;
    World world;
  };
  void die(Death death);

  SimHost& host_;
  std::vector<std::unique_ptr<Life>> lives_;
};

}  // namespace hf::sim
