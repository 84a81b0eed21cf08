// Troubles: what goes wrong in a seed, and when. In rounds: some operations at once, faults in the
// middle of them or right after something rare has happened (a probe was passed), then a while in
// which little happens, so that what was left behind stays to be seen.
#pragma once

#include <string>
#include <vector>

#include "cluster.h"

namespace hf::replicate_sim {

enum class Trouble : uint8_t {
  kNone,
  kCrashes,  // kills, power cuts, restarts, of one or of all
  kNetwork,  // partitions full and one-way, resets, delays
  kPauses,   // frozen processes that wake up
  kState,    // the state store away, ambiguous, late
  kMoves,    // attach storms, planned moves
  kDisks,    // EIO, hangs, slowness
  kAll,
  kMembers,  // members come and go, besides all of these
};

class Troubles {
 public:
  Troubles(SimCluster& cluster, Trouble trouble, Prng prng);

  Task<void> run();
  // Ends all troubles; everything is up again.
  Task<void> heal();
  // Whoever can takes over; a pool that has failed is opened again, as its operator would.
  Task<void> look_after();
  void attach_somewhere();

 private:
  struct Trigger {
    std::string probe;
    bool burst = false;  // of operations, or a trouble
    Duration delay{};
  };
  Task<void> round();
  Task<void> keep_attached();
  Task<void> one_event();
  Task<void> crash();
  Task<void> crash_all();
  Task<void> network();
  Task<void> pause();
  Task<void> state_store();
  Task<void> move();
  Task<void> disks();
  Task<void> change_members();
  Task<void> replace_member(Node& by, Node& old);
  Task<void> bring_up(Node& node, Duration after);
  Task<void> end_soon(Node& node, bool power);
  Task<void> wake(Node& node, uint64_t life, Duration after);
  Task<void> reconnect(std::vector<std::pair<std::string, std::string>> links, Duration after);
  Task<void> clear_weather(Weather& weather, Duration after);
  Task<void> take_over_soon(Duration after);
  Task<void> attach_task(Node& node);
  Task<void> detach_task(Node& node);
  void passed(const char* probe);
  void attach_soon(Node& node);
  void cut(const std::string& from, const std::string& to,
           std::vector<std::pair<std::string, std::string>>* links);
  Node* alive();
  Node* victim();
  Node& any() { return cluster_.node(prng_.below(cluster_.size())); }
  Duration upto(Duration most) {
    return Duration(prng_.below(static_cast<uint64_t>(most.count()) + 1));
  }
  // One of the lengths that matter: a blip, less than a return, more than a lease, long.
  Duration a_while();

  SimCluster& cluster_;
  const Trouble trouble_;
  Prng prng_;
  std::vector<Trigger> armed_;
  Gate later_, keeper_;
  bool peace_ = false;
};

}  // namespace hf::replicate_sim
