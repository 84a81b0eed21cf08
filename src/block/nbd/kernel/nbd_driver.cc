#include "block/nbd/kernel/nbd_driver.h"

#include <fcntl.h>
#include <linux/nbd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/crc32c.h"
#include "base/log.h"
#include "uring/loop_device.h"
#include "uring/owned_fd.h"

namespace hf::nbdk {

using block::ExportInfo;
using block::ExportKind;
using block::Offer;

namespace {

constexpr uint64_t kServerFlags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                                  NBD_FLAG_SEND_TRIM | (1u << 6) /* WRITE_ZEROES */;
constexpr Duration kRetryMin = 20ms;
constexpr Duration kRetryMax = 2s;
constexpr size_t kInputBytesMax = 8 * kKiB;  // small: a thousand idle volumes

struct Pair {
  OwnedFd ours;
  OwnedFd kernels;
};

Result<Pair> make_pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    return Error::from_errno(errno, "make a socket pair for nbd");
  }
  Pair pair;
  pair.ours = OwnedFd(fds[0]);
  pair.kernels = OwnedFd(fds[1]);
  // Room for a few of the longest requests; the default of 208 KiB makes large I/O stop and go.
  const int size = 4 * static_cast<int>(kMiB);
  for (const int fd : fds) {
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0) {
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
  }
  return pair;
}

// Detaches with the device claimed, so that nobody can mount it between the look and the deed.
Status disconnect_unclaimed(uint32_t index) {
  const std::string path = "/dev/nbd" + std::to_string(index);
  const OwnedFd claim(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (!claim.valid() && errno == EBUSY) {
    return make_error(ErrorCode::kInUse,
                      "{} is still in use: it is mounted somewhere (perhaps in a container) or "
                      "claimed by another "
                      "device; unmount it first",
                      path);
  }
  return NbdControl::disconnect(index);
}

}  // namespace

NbdDriver::NbdDriver(World& world, block::KernelIo& io, const std::string& run_dir)
    : world_(world), io_(io), scope_(fmt::format("hf-{:08x}-", crc32c(as_bytes(run_dir)))) {}

NbdDriver::~NbdDriver() {
  HF_ASSERT(exports_.empty(), "park() comes before the end");
}

template <typename T>
Task<T> NbdDriver::in_pool(std::function<T()> fn) {
  return run_blocking<T>(world_.blocking, std::move(fn));
}

ExportInfo NbdDriver::info_of(VolumeId volume, const Export& e) const {
  ExportInfo info;
  info.volume = volume;
  info.kind = ExportKind::kNbd;
  info.device = e.path();
  info.survives_restart = true;
  return info;
}

Task<Offer> NbdDriver::start() {
  Offer offer;
  offer.kind = ExportKind::kNbd;
  std::function<Status()> look = [] { return NbdControl::probe(); };
  Status there = co_await in_pool<Status>(look);
  if (!there.ok()) {
    // Without preset devices: netlink makes them as they are needed.
    std::vector<std::string> argv;
    for (const char* word : {"modprobe", "nbd", "nbds_max=0", "max_part=0"})
      argv.emplace_back(word);
    Result<CommandResult> loaded = co_await world_.process.run(std::move(argv), 30s);
    if (loaded.ok() && loaded->exit_status == 0) there = co_await in_pool<Status>(look);
  }
  offer.offered = offer.survives_restart = there.ok();
  if (!there.ok()) offer.why_not = there.error().message();
  co_return offer;
}

Task<Result<std::vector<NbdControl::Device>>> NbdDriver::find(std::string prefix) {
  std::function<Result<std::vector<NbdControl::Device>>()> look = [prefix] {
    return NbdControl::find(prefix);
  };
  return in_pool<Result<std::vector<NbdControl::Device>>>(std::move(look));
}

// ---- connections
// ----------------------------------------------------------------------------------

Task<Status> NbdDriver::connect(VolumeId volume, Export& e, bool fresh) {
  Result<Pair> pair = make_pair();
  HF_CO_TRY(pair);
  std::unique_ptr<Stream> stream = io_.stream(pair->ours.release(), e.path());
  const int kernels = pair->kernels.get();
  if (fresh) {
    ConnectRequest request;
    request.size_bytes = e.device->size();
    request.timeout_s = kRequestTimeoutS;
    request.dead_timeout_s = kDeadTimeoutS;
    request.server_flags = kServerFlags;
    request.backend = backend_of(volume);
    request.socket = kernels;
    std::function<Result<uint32_t>()> work = [request] { return NbdControl::connect(request); };
    Result<uint32_t> index = co_await in_pool<Result<uint32_t>>(std::move(work));
    if (!index.ok()) {
      stream->close();
      co_return index.error();
    }
    e.index = *index;
  } else {
    std::function<Status()> work = [index = e.index, backend = backend_of(volume), kernels] {
      return NbdControl::reconnect(index, backend, kernels);
    };
    Status done = co_await in_pool<Status>(std::move(work));
    if (!done.ok()) {
      stream->close();
      co_return done;
    }
  }
  HF_ASSERT(!e.serving);
  e.serving = true;
  if (!spawn(e.gate, serve_device(volume, e, std::move(stream)))) {
    e.serving = false;
    co_return make_error(ErrorCode::kClosed, "the export of volume {} is ending",
                         volume.to_string());
  }
  co_return Status();
}

// One connection after the other, for as long as the device is wanted.
Task<void> NbdDriver::serve_device(VolumeId volume, Export& e, std::unique_ptr<Stream> stream) {
  uint64_t requests = 0;
  {
    nbd::TransmissionOptions options;
    options.input_bytes_max = kInputBytesMax;
    options.memory = &memory_;
    options.memory_share = volume.to_string();
    options.leaves_closed = true;
    nbd::Transmission connection(*stream, e.device, buffers_, std::move(options));
    e.connection = stream.get();
    Status ended = co_await connection.run();
    e.connection = nullptr;
    requests = connection.counts().requests;
    if (ended.ok()) e.wanted = false;  // the kernel said goodbye: it was detached
    if (ended.code() == ErrorCode::kProtocol) {
      HF_LOG(kError, "block", "nbd_connection_broken device={} error=\"{}\"", e.path(),
             ended.error().to_string());
    }
  }
  stream.reset();
  e.serving = false;
  if (e.wanted && requests > 0) {
    HF_LOG(kWarn, "block", "nbd_connection_lost volume={} device={}: connecting again",
           volume.to_string(), e.path());
  }
  // The kernel drops a new connection in silence when it has not yet noticed that the old one is
  // dead: then it ends before its first request, and the next attempt waits a little longer.
  Duration wait = kRetryMin;
  while (e.wanted) {
    Status slept = co_await world_.clock.sleep_for(wait, e.cancel);
    if (!slept.ok() || !e.wanted) break;
    Status connected = co_await connect(volume, e, false);
    if (connected.ok()) break;
    HF_LOG(kWarn, "block", "nbd_reconnect_failed volume={} error=\"{}\"", volume.to_string(),
           connected.error().message());
    wait = std::min(wait * 2, kRetryMax);
  }
}

Task<void> NbdDriver::stop_serving(Export& e) {
  e.wanted = false;
  e.cancel.cancel();
  // What runs is awaited and answered into nothing: the kernel sends it again on the next connection.
  if (e.connection != nullptr) e.connection->close();
  co_await e.gate.close();
}

// The first open of a new device reads its partition table, through this process: by a program, so
// that a kill meanwhile leaves no thread of ours waiting for ourselves (see fuse/fuse_driver.h).
Task<Status> NbdDriver::look_at_device(Export& e) {
  std::vector<std::string> argv;
  for (const char* word : {"blockdev", "--getsize64"}) argv.emplace_back(word);
  argv.push_back(e.path());
  Result<CommandResult> seen = co_await world_.process.run(std::move(argv), 30s);
  HF_CO_TRY(seen);
  if (seen->exit_status == 0) co_return Status();
  co_return make_error(ErrorCode::kIo, "{} was attached but cannot be opened: {}", e.path(),
                       seen->output);
}

// ---- calls
// ----------------------------------------------------------------------------------------

Task<Result<ExportInfo>> NbdDriver::attach(VolumeId volume, std::shared_ptr<BlockDevice> device) {
  const auto found = exports_.find(volume);
  if (found != exports_.end()) {
    if (found->second->wanted) co_return info_of(volume, *found->second);
    // Disconnected behind our back (nbd-client -d): made anew.
    std::unique_ptr<Export> gone = std::move(found->second);
    exports_.erase(volume);
    co_await stop_serving(*gone);
  }
  auto fresh = std::make_unique<Export>(std::move(device));
  Export& e = *fresh;
  Result<std::vector<NbdControl::Device>> there = co_await find(backend_of(volume));
  HF_CO_TRY(there);
  const bool adopts = !there->empty();
  if (adopts) e.index = there->front().index;
  exports_.emplace(volume, std::move(fresh));
  Status connected = co_await connect(volume, e, !adopts);
  if (connected.ok() && adopts) connected = co_await resized(volume);
  std::function<Status()> tune = [index = e.index]() -> Status {
    NbdControl::tune(index);
    return Status();
  };
  if (connected.ok()) connected = co_await in_pool<Status>(std::move(tune));
  if (connected.ok()) connected = co_await look_at_device(e);
  if (connected.ok()) {
    HF_LOG(kInfo, "block", "nbd_attached volume={} device={} adopted={}", volume.to_string(),
           e.path(), adopts);
    co_return info_of(volume, e);
  }
  std::unique_ptr<Export> failed = std::move(exports_[volume]);
  exports_.erase(volume);
  co_await stop_serving(*failed);
  // What was made here goes; what was found stays for the next attempt.
  if (!adopts) {
    std::function<Status()> undo = [index = failed->index] { return disconnect_unclaimed(index); };
    Status undone = co_await in_pool<Status>(std::move(undo));
    (void)undone;
  }
  co_return connected.error();
}

Task<Status> NbdDriver::detach(VolumeId volume) {
  uint32_t index = 0;
  const auto found = exports_.find(volume);
  if (found != exports_.end()) {
    index = found->second->index;
  } else {
    Result<std::vector<NbdControl::Device>> there = co_await find(backend_of(volume));
    HF_CO_TRY(there);
    if (there->empty()) co_return Status();
    index = there->front().index;
  }
  // The connection serves on: the kernel says goodbye through it.
  std::function<Status()> work = [index] { return disconnect_unclaimed(index); };
  Status done = co_await in_pool<Status>(std::move(work));
  HF_CO_TRY(done);
  const auto served = exports_.find(volume);
  if (served == exports_.end()) co_return Status();
  std::unique_ptr<Export> gone = std::move(served->second);
  exports_.erase(volume);
  co_await stop_serving(*gone);
  co_return Status();
}

Task<Status> NbdDriver::resized(VolumeId volume) {
  const auto found = exports_.find(volume);
  if (found == exports_.end()) {
    co_return make_error(ErrorCode::kNotAttached, "volume {} has no nbd device here",
                         volume.to_string());
  }
  std::function<Status()> work = [index = found->second->index, backend = backend_of(volume),
                                  size = found->second->device->size()] {
    return NbdControl::resize(index, backend, size);
  };
  co_return co_await in_pool<Status>(std::move(work));
}

Task<Result<std::vector<ExportInfo>>> NbdDriver::orphans() {
  Result<std::vector<NbdControl::Device>> there = co_await find(scope_);
  HF_CO_TRY(there);
  std::vector<ExportInfo> left;
  for (const NbdControl::Device& device : *there) {
    const auto volume = VolumeId::parse(device.backend.substr(scope_.size()));
    if (!volume || exports_.contains(*volume)) continue;
    ExportInfo info;
    info.volume = *volume;
    info.kind = ExportKind::kNbd;
    info.device = device.path();
    info.survives_restart = true;
    left.push_back(std::move(info));
  }
  co_return left;
}

Task<Status> NbdDriver::park() {
  for (auto& entry : exports_) {
    co_await stop_serving(*entry.second);
  }
  exports_.clear();
  co_return Status();
}

}  // namespace hf::nbdk
