// The parts of a simulated connection: two ends, and a pipe in each direction.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "sim/sim_net.h"

namespace hf::sim {

class SimStream;

// Bytes on their way from one end to the other.
class Pipe : public SimEvent {
 public:
  Pipe(Connection& connection, int from) : connection_(connection), from_(from) {}

  size_t room() const {
    return outstanding_ < SimNet::kWindow ? SimNet::kWindow - outstanding_ : 0;
  }
  void send(ByteSpan bytes);
  void send_end();
  // Takes some of what has arrived (at least a byte if there is one).
  size_t take(MutableByteSpan out);
  bool has_data() const { return taken_ < arrived_.size(); }
  bool has_ended() const { return ended_; }
  void fire() override;

 private:
  struct Chunk {
    std::vector<std::byte> bytes;  // empty: the end of the stream
    SimTime at = 0;
  };
  void push(Chunk chunk);
  void retry_later();

  Connection& connection_;
  const int from_;
  std::deque<Chunk> flying_;
  std::vector<std::byte> arrived_;
  size_t taken_ = 0;  // of arrived_, from its front
  size_t outstanding_ = 0;
  SimTime last_arrival_ = 0;
  Duration retry_ = SimNet::kRetryFirst;
  SimTime held_since_ = -1;
  bool ended_ = false;
};

class Connection {
 public:
  enum class EndState : uint8_t {
    kOpen,
    kClosed,  // by its own process
    kReset,   // by the other side, or by the network
    kSilent,  // its host lost power
  };

  Connection(SimNet& net, std::string client_host, std::string server_host);
  ~Connection();

  SimNet& net() { return net_; }
  const std::string& host(int side) const { return hosts_[side]; }
  EndState state(int side) const { return states_[side]; }
  Pipe& from(int side) { return side == 0 ? out_ : back_; }
  void attach(int side, SimStream* stream) { streams_[side] = stream; }
  void detach(int side, EndState state);
  void wake(int side);
  // The end `side` learns of a reset now.
  void reset(int side);
  // A reset leaves for `side` and arrives if the link lets it.
  void send_reset_to(int side);
  uint64_t number() const { return number_; }

 private:
  class ResetOnItsWay : public SimEvent {
   public:
    ResetOnItsWay(Connection& connection, int side) : connection_(connection), side_(side) {}
    void fire() override;

   private:
    Connection& connection_;
    const int side_;
  };

  SimNet& net_;
  const uint64_t number_;
  const std::string hosts_[2];
  EndState states_[2] = {EndState::kOpen, EndState::kOpen};
  SimStream* streams_[2] = {nullptr, nullptr};
  Pipe out_, back_;
  ResetOnItsWay reset_to_client_, reset_to_server_;
};

class SimStream : public Stream, public Held {
 public:
  SimStream(Incarnation& life, std::shared_ptr<Connection> connection, int side, std::string peer);
  ~SimStream() override;
  Task<Result<size_t>> read_some(MutableByteSpan out) override;
  Task<Status> write_all(std::span<const ByteSpan> segments) override;
  void close() override;
  const std::string& peer() const override { return peer_; }
  void sever(Death death) override;
  void wake();

 private:
  Status check(const char* what) const;
  Incarnation& life_;
  std::shared_ptr<Connection> connection_;
  const int side_;
  const std::string peer_;
  Wait* reader_ = nullptr;
  Wait* writer_ = nullptr;
  bool reading_ = false;
  bool writing_ = false;
};

class SimListener : public Listener, public Held {
 public:
  SimListener(Incarnation& life, SimNet& net, SimNet::Target target, std::string address,
              int backlog);
  ~SimListener() override;
  Task<Result<std::unique_ptr<Stream>>> accept() override;
  void close() override;
  const std::string& address() const override { return address_; }
  void sever(Death death) override;

  Incarnation& life() { return life_; }
  bool is_loopback() const { return target_.loopback; }
  bool is_full() const { return queue_.size() >= backlog_; }
  void offer(std::unique_ptr<Stream> stream);

 private:
  Incarnation& life_;
  SimNet& net_;
  const SimNet::Target target_;
  const std::string address_;
  const size_t backlog_;
  bool closed_ = false;
  Wait* acceptor_ = nullptr;
  std::deque<std::unique_ptr<Stream>> queue_;
};

}  // namespace hf::sim
