// NodeLink: what the daemons of a cluster ask of each other (cluster/peers.h), over streams.
//
//   question ─►  u32 length, u32 CRC32C, JSON {"version":1,"call":"let_go","volume":"…", …}
//   answer   ◄─  the same, {"version":1,"code":0,"message":"", …}; while it is being worked on, every
//                kLinkBeat: {"version":1,"working":true}
//
// One question per connection. Who does not beat is not there: a node that is frozen or cut off costs
// kLinkSilence, whatever was asked. Formats: docs/formats/node-link.md. Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/id.h"
#include "cluster/peers.h"
#include "runtime/gate.h"
#include "runtime/net.h"
#include "runtime/sync.h"
#include "runtime/world.h"

namespace hf::node {

inline constexpr uint32_t kLinkVersion = 1;
inline constexpr size_t kMaxLinkBytes = 1 << 20;      // of a question or an answer
inline constexpr Duration kLinkConnect = 500ms;       // a connection, TLS included
inline constexpr Duration kLinkBeat = 200ms;
inline constexpr Duration kLinkSilence = 700ms;
inline constexpr Duration kLinkPatience = 60s;        // for all of an answer
inline constexpr size_t kMaxLinkCalls = 256;          // served at a time

class NodeLink final : public cluster::Peers {
 public:
  // `net` is the peers' (TLS). References stay valid until stop() has ended.
  NodeLink(World world, Network& net, NodeId self) : world_(world), net_(net), self_(self) {}
  ~NodeLink() override;

  // Answers by `calls`. Errors: those of listen.
  Task<Status> start(std::string address, cluster::NodeCalls& calls);
  // Answers nobody any more, once those who were being answered have been. Asking still works.
  Task<void> stop_serving();
  Task<void> stop();
  const std::string& address() const { return address_; }

  void know(NodeId node, std::string address) override;
  cluster::NodeCalls& node(NodeId node) override;
  // "tcp:…" of its PeerServer and of its link; empty: not known.
  std::string replicas_at(NodeId node) const;
  std::string link_at(NodeId node) const;

  Task<Result<std::string>> ask(NodeId node, std::string question);

 private:
  class Calls;
  Task<void> accept_all();
  Task<void> serve(std::shared_ptr<Stream> stream);
  Task<std::string> answer(std::string question);
  struct Beating;
  Task<void> beat(std::shared_ptr<Beating> beating);

  World world_;
  Network& net_;
  const NodeId self_;
  cluster::NodeCalls* calls_ = nullptr;
  std::unique_ptr<Listener> listener_;
  std::string address_;
  std::map<NodeId, std::string> addresses_;  // "host:port" of the first of a node's ports
  std::map<NodeId, std::unique_ptr<cluster::NodeCalls>> nodes_;
  CancelSource stopping_;
  Gate serving_gate_;
  Gate gate_;
};

}  // namespace hf::node
