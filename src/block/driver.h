// Driver: one way of making a kernel block device out of a BlockDevice. ExportManager chooses among
// them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "runtime/task.h"
#include "volume/block_device.h"

namespace hf::block {

// How the block device reaches the kernel. The numbers are those of cluster::ExportKind.
enum class ExportKind : uint8_t { kNone, kUblk, kNbd, kFuseLoop };

// "ublk", "nbd", "fuse"; kNone is "none".
const char* export_kind_name(ExportKind kind);
// kNone for what is not a name.
ExportKind export_kind_from_name(std::string_view name);

struct ExportInfo {
  ExportInfo() = default;
  VolumeId volume;
  ExportKind kind = ExportKind::kNone;
  std::string device;             // "/dev/loop3"; empty where an orphan has none (yet)
  bool survives_restart = false;  // I/O waits, instead of failing, while no daemon runs
};

// What this kernel can do, found out once at start.
struct Offer {
  Offer() = default;
  ExportKind kind = ExportKind::kNone;
  bool offered = false;
  bool survives_restart = false;
  bool grows_online = true;  // resized() works while the device is open
  std::string why_not;       // when it lacks any of these: one sentence with the way out
};

// Loop thread only. Every call is idempotent; calls for one volume come one after the other.
class Driver {
 public:
  virtual ~Driver() = default;
  virtual ExportKind kind() const = 0;
  // Before everything else, once, and before any pool is opened (FuseDriver::start says why): finds
  // out what the kernel offers, clears away what an earlier daemon left half made.
  virtual Task<Offer> start() = 0;
  // A new device, or the one that an earlier daemon left for this volume.
  virtual Task<Result<ExportInfo>> attach(VolumeId volume, std::shared_ptr<BlockDevice> device) = 0;
  // kInUse while anything has the device open for itself (mounted, claimed) in any namespace.
  // Success if there is nothing.
  virtual Task<Status> detach(VolumeId volume) = 0;
  virtual Task<Status> resized(VolumeId volume) = 0;
  // Devices of ours that this process does not serve.
  virtual Task<Result<std::vector<ExportInfo>>> orphans() = 0;
  // Whether there is one of this volume. Asked at every attach, so it should not look at all.
  virtual Task<Result<bool>> has_orphan(VolumeId volume);
  // What stands against the promises now, one sentence each, for status; empty when all is well.
  // Never blocks.
  virtual std::vector<std::string> problems() const { return {}; }
  // Stops serving; devices stay, their I/O waits for the next daemon. Answers what is in flight
  // first.
  virtual Task<Status> park() = 0;
  // Exports served by this process.
  virtual size_t served() const = 0;
};

}  // namespace hf::block
