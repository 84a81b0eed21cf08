// SimNet: the network between simulated hosts, and the Network seam of each process.
//
// Streams are like TCP: bytes arrive in order, cut anywhere, after a delay that differs from stream
// to stream; a blocked link holds data back and retries as TCP does, gives up after kGiveUp. A
// killed process closes its sockets (the peer sees the end or a reset); a host that lost power says
// nothing, and answers with a reset once it is back. Resets are sent once: a blocked link swallows
// them.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "runtime/net.h"
#include "sim/incarnation.h"

namespace hf::sim {

class Connection;
class SimListener;

// One direction between two hosts.
struct Link {
  bool blocked = false;
  Duration delay = 50us;
  Duration jitter = 100us;
  uint32_t ns_per_kib = 800;  // about 10 Gbit/s
};

// What may go wrong by itself, per million pieces sent; the seed decides which.
struct NetFaults {
  uint32_t reset_ppm = 0;  // both ends learn of a reset
  uint32_t stall_ppm = 0;  // this piece, and all behind it, comes late
  Duration stall_max = 5s;
  uint32_t accept_ppm = 0;  // of accepts: there are no descriptors left; who connects waits
};

class SimNet {
 public:
  static constexpr size_t kWindow = 256 * 1024;   // bytes on the way or unread, per direction
  static constexpr Duration kRetryFirst = 200ms;  // of held-back data; doubles up to kRetryMax
  static constexpr Duration kRetryMax = 5s;
  static constexpr Duration kGiveUp = 900s;  // then the stream is reset

  SimNet(SimLoop& loop, Prng prng) : loop_(loop), prng_(prng) {}

  // --- what tests and plans order
  // ---------------------------------------------------------------------
  Link& link(const std::string& from, const std::string& to) { return links_[{from, to}]; }
  void set_blocked(const std::string& from, const std::string& to, bool blocked);  // one way
  void partition(const std::string& a, const std::string& b);                      // both ways
  // Everything between all hosts flows again.
  void heal_all();
  NetFaults& faults() { return faults_; }
  // Resets every stream between the two (also a == b), at once and at both ends.
  void reset_streams(const std::string& a, const std::string& b);
  bool accept_fails() { return faults_.accept_ppm > 0 && prng_.below(1'000'000) < faults_.accept_ppm; }
  size_t open_connections() const { return connections_.size(); }

  // --- for hosts
  // ----------------------------------------------------------------------------------------
  void add_host(const std::string& name, const std::string& ip) { ips_[ip] = name; }
  void set_up(const std::string& host, bool up);
  bool is_up(const std::string& host) const { return !down_.contains(host); }

  // --- for streams and listeners
  // ------------------------------------------------------------------------
  struct Target {
    std::string host;
    std::string port;       // "tcp:<number>" or "unix:<path>": the key of a listener on its host
    bool loopback = false;  // bound to, or addressed as, this host only
  };
  // The host name is `self` for local addresses; "" where nobody has that address.
  Result<Target> resolve(const std::string& address, const std::string& self) const;
  SimLoop& loop() { return loop_; }
  Prng& prng() { return prng_; }
  bool is_blocked(const std::string& from, const std::string& to) const;
  // When `bytes` that leave now arrive.
  SimTime arrival(const std::string& from, const std::string& to, uint64_t bytes);
  std::map<std::pair<std::string, std::string>, SimListener*>& listeners() { return listeners_; }
  std::map<uint64_t, Connection*>& connections() { return connections_; }
  uint64_t next_number() { return ++numbers_; }

 private:
  SimLoop& loop_;
  Prng prng_;
  std::map<std::pair<std::string, std::string>, Link> links_;
  std::map<std::string, std::string> ips_;
  std::set<std::string> down_;
  std::map<std::pair<std::string, std::string>, SimListener*> listeners_;  // by host and port
  std::map<uint64_t, Connection*> connections_;
  uint64_t numbers_ = 0;
  NetFaults faults_;
};

// The seam of one process.
class SimNetwork : public Network {
 public:
  SimNetwork(Incarnation& life, SimNet& net, std::string host)
      : life_(life), net_(net), host_(std::move(host)) {}
  Task<Result<std::unique_ptr<Listener>>> listen(std::string address,
                                                 ListenOptions options) override;
  Task<Result<std::unique_ptr<Stream>>> connect(std::string address, Duration timeout) override;

 private:
  Incarnation& life_;
  SimNet& net_;
  const std::string host_;
};

}  // namespace hf::sim
