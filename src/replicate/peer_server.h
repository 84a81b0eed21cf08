// PeerServer: the replicas of this node for coordinators of other nodes. Accepts connections and
// serves each as one session of one replica, in the order in which its requests arrive, many at a
// time.
//
// A connection that breaks the protocol, or whose checksums do not match, is closed; what it
// carried before runs to its end. Loop thread of the pools. stop(), then destruction.
#pragma once

#include <list>
#include <memory>

#include "base/id.h"
#include "replicate/frames.h"
#include "replicate/replica_service.h"
#include "runtime/gate.h"
#include "runtime/net.h"

namespace hf {

// The services of this node's replicas.
class ReplicaDirectory {
 public:
  virtual ~ReplicaDirectory() = default;
  // Null where there is none, or it is of another volume.
  virtual std::shared_ptr<ReplicaService> find(VolumeId volume, ReplicaId replica) = 0;
};

class PeerServer {
 public:
  static constexpr size_t kMaxConnections = 16384;
  static constexpr uint64_t kMaxRequests = 1100;           // at a time, of one connection
  static constexpr uint64_t kMaxRequestBytes = 64 * kMiB;  // data of them; then it is not read on

  PeerServer(ClusterId cluster, ReplicaDirectory& directory, Clock& clock)
      : cluster_(cluster), directory_(directory), clock_(clock) {}

  // Serves until stop(). The caller has made the listener (and its TLS).
  void start(std::unique_ptr<Listener> listener);
  Task<void> stop();
  size_t connections() const { return connections_.size(); }

 private:
  class Served;
  Task<void> accept();
  Task<void> serve(std::shared_ptr<Served> served);
  Task<Status> greet(Served& served);
  Task<void> refuse(Served& served, Error why);
  Task<void> handle(std::shared_ptr<Served> served, InFrame in, PeerRequest request);
  Task<PeerAnswer> execute(Served& served, PeerKind kind, PeerRequest& request, InFrame& in,
                           std::shared_ptr<AlignedBuffer>* data);
  static Task<PeerAnswer> execute_rest(ReplicaService& service, Session session, PeerKind kind,
                                       PeerRequest& request);
  static Task<void> send(std::shared_ptr<Served> served);

  const ClusterId cluster_;
  ReplicaDirectory& directory_;
  Clock& clock_;
  std::unique_ptr<Listener> listener_;
  std::list<Served*> connections_;
  CancelSource stopping_;
  Gate tasks_;
};

}  // namespace hf
