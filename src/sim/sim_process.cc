#include "sim/sim_process.h"

#include <algorithm>

namespace hf::sim {

SimHost::SimHost(SimLoop& loop, SimNet& net, std::string name, std::string ip, Prng prng)
    : loop_(loop),
      net_(net),
      name_(std::move(name)),
      ip_(std::move(ip)),
      prng_(prng),
      clock_(prng_.fork()) {
  net_.add_host(name_, ip_);
}

SimHost::~SimHost() {
  HF_ASSERT(processes_.empty(), "host {} destroyed before its processes", name_);
}

SimDisk& SimHost::add_disk(const std::string& at, DiskConfig config) {
  HF_ASSERT(!at.empty() && at[0] == '/' && (at == "/" || at.back() != '/'), "{}", at);
  disks_.push_back(std::make_unique<SimDisk>(loop_, name_ + at, std::move(config)));
  mounts_.push_back(Mount{at, disks_.back().get()});
  return *disks_.back();
}

SimDisk& SimHost::disk(const std::string& at) {
  for (const Mount& mount : mounts_) {
    if (mount.at == at) return *mount.disk;
  }
  HF_UNREACHABLE("host {} has no disk at {}", name_, at);
}

void SimHost::power_loss() {
  HF_ASSERT(up_, "{} is off", name_);
  loop_.record("power_loss");
  up_ = false;
  net_.set_up(name_, false);
  for (SimProcess* process : processes_) process->die(Death::kPowerLoss);
  for (const std::unique_ptr<SimDisk>& disk : disks_) disk->power_loss();
}

void SimHost::power_on() {
  HF_ASSERT(!up_, "{} is on", name_);
  loop_.record("power_on");
  up_ = true;
  net_.set_up(name_, true);
  clock_.boot(loop_.now());
}

SimProcess::Life::Life(SimHost& host, uint64_t number)
    : life(host.loop(), number, host.prng().fork()),
      clock(life, host.clock()),
      random(host.prng().fork()),
      fs(life, host.mounts()),
      net(life, host.net(), host.name()),
      commands(life, host.commands()),
      blocking(life),
      world{host.loop(), clock, random, fs, net, commands, blocking} {}

SimProcess::SimProcess(SimHost& host) : host_(host) {
  host_.processes_.push_back(this);
  lives_.push_back(std::make_unique<Life>(host_, 1));
}

SimProcess::~SimProcess() {
  die(Death::kKill);
  std::erase(host_.processes_, this);
}

void SimProcess::die(Death death) {
  Incarnation& life = lives_.back()->life;
  if (!life.is_dead()) life.die(death);
}

void SimProcess::kill() {
  HF_ASSERT(is_alive(), "already dead");
  host_.loop().record("kill", incarnation());
  die(Death::kKill);
}

void SimProcess::restart() {
  HF_ASSERT(!is_alive(), "kill it first");
  HF_ASSERT(host_.is_up(), "host {} is off", host_.name());
  host_.loop().record("restart", incarnation() + 1);
  lives_.push_back(std::make_unique<Life>(host_, incarnation() + 1));
}

}  // namespace hf::sim
