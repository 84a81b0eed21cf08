// PeerPort: a session with a replica of another node, over one connection. Requests are pipelined;
// they are sent in the order of the calls.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "replicate/frames.h"
#include "replicate/port.h"
#include "runtime/gate.h"

namespace hf {

// Which replica, as the first frame says.
struct PeerTarget {
  ClusterId cluster;
  VolumeId volume;
  ReplicaId replica;
};

class PeerPort final : public ReplicaPort {
 public:
  // Connects and says hello. kUnavailable, kTimeout; fence() then tells: kNotFound: no such replica
  // there; kWrongOwner: another cluster. The connection's tasks run in `gate` until the port has
  // been closed.
  static Task<Result<std::shared_ptr<PeerPort>>> connect(Network& net, std::string address,
                                                         PeerTarget target, Duration timeout,
                                                         Gate& gate);
  ~PeerPort() override;

  Task<Result<FenceAnswer>> fence(Session session) override;
  Task<Status> heartbeat(Stamp commit) override;
  Task<Status> release() override;
  Task<Status> write(WriteHeader header, uint64_t offset, WriteData data) override;
  Task<Status> write_zeroes(WriteHeader header, uint64_t offset, uint64_t length) override;
  Task<Status> read(uint64_t offset, MutableByteSpan out) override;
  Task<Result<std::vector<DataExtent>>> extents(uint64_t offset, uint64_t length,
                                                size_t limit) override;
  Status flush() override;
  void advance_commit(Stamp) override {}  // comes with writes and heartbeats
  Task<Result<std::vector<ByteRange>>> window(uint64_t from, size_t limit) override;
  Task<Result<std::vector<ByteRange>>> dirty(uint32_t slot, uint64_t from, size_t limit) override;
  Task<Status> mark_dirty(WriteHeader header, SlotMask slots,
                          std::vector<ByteRange> ranges) override;
  Task<Status> clear_dirty(WriteHeader header, SlotMask slots) override;
  Task<Status> settle_window(WriteHeader header) override;
  Task<Status> set_config(std::string config) override;
  Task<Status> resize(WriteHeader header, uint64_t size_bytes) override;
  Task<Result<SnapshotInfo>> snapshot(WriteHeader header, SnapshotId id) override;
  Task<Status> delete_snapshot(SnapshotId id) override;
  void close() override;

 private:
  struct Waiting {
    PeerKind kind = PeerKind::kHello;
    std::optional<Error> failure;
    PeerAnswer answer;
    std::shared_ptr<AlignedBuffer> data;
    Event done;
  };
  class Connection;
  explicit PeerPort(std::shared_ptr<Connection> connection);
  Task<Status> ask(PeerKind kind, PeerRequest request, WriteData data, Waiting* waiting);
  Task<Result<std::vector<ByteRange>>> ask_ranges(PeerKind kind, PeerRequest request);
  Task<Status> ask_status(PeerKind kind, PeerRequest request);

  std::shared_ptr<Connection> connection_;
  std::unique_ptr<Waiting> hello_;
};

}  // namespace hf
