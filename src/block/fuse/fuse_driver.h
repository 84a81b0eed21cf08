// FuseDriver: a volume as a file on a FUSE mount of our own, and a loop device over it. For kernels
// that have neither ublk nor NBD; needs nothing but FUSE and loop.
//
//   BlockDevice ◀─ Session ◀─ /dev/fuse ◀─ <run_dir>/export/<volume id>/disk ◀─ /dev/loopN ◀─ ext4
//   …
//                              └─ a copy of the descriptor in the holder keeps the connection alive
//
// A kill of the daemon at any moment leaves one of three things, told apart at the next start:
//  1. the holder has the descriptor, INIT was answered → adopted by attach(): requests that the
//  dead
//     daemon had read are sent again, mounted file systems saw a pause;
//  2. a mount, but the holder has nothing (killed while attaching, nobody used it yet) → start()
//  aborts
//     the connection, detaches its loop device, unmounts;
//  3. a descriptor in the holder and no mount (killed while detaching) → start() forgets it.
// A thread of this process that waits for a FUSE request of this very process, when the process is
// killed, cannot die before somebody answers, and keeps the pool's lock from whoever might. So such
// calls (open, LOOP_CONFIGURE, unmount) are made only while the holder does *not* have the
// descriptor: then start() of the next daemon aborts the connection, and the thread ends. While the
// holder has it, they are made by helper programs, which hold no lock (as mounting is, see
// src/mount). On a kernel without FUSE_NOTIFY_RESEND (before 6.9), or without a holder, 1 does not
// exist: what the dead daemon had read is lost, so the connection must not outlive it and users get
// EIO.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "block/driver.h"
#include "block/fuse/fuse_session.h"
#include "block/kernel_io.h"
#include "holder/client.h"
#include "runtime/process.h"
#include "runtime/sync.h"
#include "runtime/world.h"
#include "uring/loop_device.h"
#include "uring/owned_fd.h"

namespace hf::fuse {

struct DriverOptions {
  DriverOptions() = default;
  std::string run_dir;        // absolute, on a tmpfs or not, the same for every daemon of this node
  std::string holder_socket;  // empty: exports end with the daemon
  // Started when the holder is gone; empty: somebody else sees to it.
  std::string holder_program;
};

class FuseDriver final : public block::Driver {
 public:
  FuseDriver(World& world, block::KernelIo& io, DriverOptions options);
  ~FuseDriver() override;

  block::ExportKind kind() const override { return block::ExportKind::kFuseLoop; }
  // Before any pool is opened: a thread of a killed daemon may sit in a half-made connection and
  // cannot die before that is aborted; until then it holds the dead daemon's locks.
  Task<block::Offer> start() override;
  Task<Result<block::ExportInfo>> attach(VolumeId volume,
                                         std::shared_ptr<BlockDevice> device) override;
  Task<Status> detach(VolumeId volume) override;
  Task<Status> resized(VolumeId volume) override;
  Task<Result<std::vector<block::ExportInfo>>> orphans() override;
  // The holder is away: a kill of the daemon would now be an error for users, not a pause.
  std::vector<std::string> problems() const override;
  Task<Status> park() override;
  size_t served() const override { return exports_.size(); }

 private:
  struct Export {
    std::shared_ptr<BlockDevice> device;  // outlives the session
    OwnedFd fd;
    std::unique_ptr<Session> session;
    loopdev::LoopInfo loop;
    bool survives_restart = false;
  };
  std::string directory_of(VolumeId volume) const;
  std::string tag_of(VolumeId volume) const;
  std::string entry_of(VolumeId volume) const;
  block::ExportInfo info_of(VolumeId volume, const Export& e) const;
  template <typename T>
  Task<T> in_pool(std::function<T()> fn);
  // Holder calls are serialised: its client is one connection.
  Task<Status> holder_put(VolumeId volume, int fd, Negotiated agreed, int loop_number);
  Task<Status> holder_remove(VolumeId volume);
  Task<Result<holder::Held>> holder_get(VolumeId volume);

  // For as long as the driver runs: starts a holder that has died anew, and gives one that has lost
  // its memory (also by another's restart) all descriptors again.
  Task<void> keep_held();
  Task<Status> look_at_holder();
  Task<Status> ping_holder();
  Task<Status> hold_all_again();

  Task<Status> clear_leftovers();
  Task<Status> clear_one(VolumeId volume, bool even_if_claimed);
  Task<Status> adopt(VolumeId volume, Export& e, holder::Held held);
  Task<Status> make(VolumeId volume, Export& e);
  Task<Status> attach_loop(VolumeId volume, Export& e);
  Task<Status> follow_size(VolumeId volume, Export& e);
  Task<Status> file_follows_size(VolumeId volume, Export& e);
  Task<Result<std::string>> run_program(std::vector<std::string> argv);
  Task<void> close_export(Export& e);

  World& world_;
  block::KernelIo& io_;
  const DriverOptions options_;
  const std::string scope_;  // tells this run directory's devices from another daemon's
  Buffers buffers_;
  std::shared_ptr<holder::Client> holder_;  // null without a holder
  Mutex holder_mutex_;
  uint64_t held_by_ = 0;        // Client::connections() when the holder last had everything
  std::string holder_trouble_;  // why it does not have everything now
  CancelSource stop_;
  Gate background_;
  std::unordered_map<VolumeId, std::unique_ptr<Export>> exports_;
};

}  // namespace hf::fuse
