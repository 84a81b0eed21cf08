#include "block/ublk/ublk_driver.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <unordered_map>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "runtime/file.h"

namespace hf::ublk {

using block::ExportInfo;
using block::ExportKind;
using block::Offer;

namespace {

constexpr Duration kRetry = 20ms;
constexpr Duration kFlushTimeout = 60s;
constexpr int kFetchesEndTries = 2000;  // 2 s
constexpr int kRecoveryTries = 1500;    // 30 s: the old process may be long in dying

// An empty one says that a device may be in the making.
Status make_note(const std::string& directory, const std::string& path) {
  for (const std::string& part : {directory.substr(0, directory.rfind('/')), directory}) {
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST)
      return Error::from_errno(errno, "make directory " + part);
  }
  const OwnedFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return Error::from_errno(errno, "make " + path);
  return Status();
}

Status write_note(const std::string& path, int number) {
  const OwnedFd fd(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW));
  const std::string text = std::to_string(number);
  if (fd.valid() &&
      ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()))
    return Status();
  return Error::from_errno(errno, "write " + path);
}

// The device's number; -1 where it is not known. kNotFound.
Result<int> read_note(const std::string& path) {
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  char text[16];
  const ssize_t n = fd.valid() ? ::read(fd.get(), text, sizeof text) : -1;
  if (n < 0) return Error::from_errno(errno, "read " + path);
  int number = -1;
  const auto parsed = std::from_chars(text, text + n, number);
  return parsed.ec == std::errc() ? number : -1;
}

// Claims the device while it is taken away, so that nobody can mount it between the look and the
// deed.
Result<OwnedFd> claim(const std::string& path) {
  OwnedFd fd(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (fd.valid() || errno != EBUSY) return fd;
  return make_error(
      ErrorCode::kInUse,
      "{} is still in use: it is mounted somewhere (perhaps in a container) or claimed by another "
      "device; unmount it first",
      path);
}

}  // namespace

uint64_t device_key(const std::string& directory, VolumeId volume) {
  uint64_t key = 0;
  std::memcpy(&key, volume.bytes.data(), sizeof key);
  const uint64_t scope = crc32c(as_bytes(directory));
  return key ^ (scope << 32 | scope);
}

UblkDriver::UblkDriver(World& world, UringLoop& loop, std::string run_dir)
    : world_(world), loop_(loop), directory_(std::move(run_dir) + "/ublk") {}

UblkDriver::~UblkDriver() {
  HF_ASSERT(exports_.empty(), "park() comes before the end");
}

template <typename T>
Task<T> UblkDriver::in_pool(std::function<T()> fn) {
  return run_blocking<T>(world_.blocking, std::move(fn));
}

std::string UblkDriver::note_of(VolumeId volume) const {
  return directory_ + "/" + volume.to_string();
}

ExportInfo UblkDriver::info_of(VolumeId volume, const Export& e) const {
  ExportInfo info;
  info.volume = volume;
  info.kind = ExportKind::kUblk;
  info.device = e.path();
  info.survives_restart = true;
  return info;
}

// ---- start
// ----------------------------------------------------------------------------------------

Task<Offer> UblkDriver::start() {
  Offer offer;
  offer.kind = ExportKind::kUblk;
  Result<std::unique_ptr<UblkControl>> control = UblkControl::create(loop_);
  if (!control.ok()) {
    std::vector<std::string> argv;
    for (const char* word : {"modprobe", "ublk_drv"}) argv.emplace_back(word);
    Result<CommandResult> loaded = co_await world_.process.run(std::move(argv), 30s);
    if (loaded.ok() && loaded->exit_status == 0) control = UblkControl::create(loop_);
  }
  if (!control.ok()) {
    offer.why_not = control.error().message();
    co_return offer;
  }
  control_ = std::move(*control);
  const uint64_t features = co_await control_->features();
  if ((features & kFlagsWanted) != kFlagsWanted) {
    offer.why_not =
        "this kernel's ublk lacks user recovery or user copy: Linux 6.5 or newer is needed";
    control_.reset();
    co_return offer;
  }
  can_grow_ = (features & kFeatureUpdateSize) != 0;
  offer.offered = offer.survives_restart = true;
  offer.grows_online = can_grow_;
  if (!can_grow_) offer.why_not = "its devices cannot grow while attached before Linux 6.16";
  // What a daemon did not live to start, nobody has used.
  Result<std::vector<Found>> there = co_await find();
  for (size_t i = 0; there.ok() && i < there->size(); ++i) {
    const Found left = (*there)[i];
    if (left.state != kStateDead) continue;
    Status gone = co_await take_away(left.volume, left.number, nullptr);
    if (!gone.ok()) {
      HF_LOG(kWarn, "block", "ublk_leftover_remains volume={} error=\"{}\"",
             left.volume.to_string(), gone.error().message());
    }
  }
  co_return offer;
}

Task<Result<std::vector<VolumeId>>> UblkDriver::noted() {
  std::vector<VolumeId> volumes;
  Result<std::vector<DirectoryEntry>> entries = co_await world_.fs.list(directory_);
  if (entries.code() == ErrorCode::kNotFound) co_return volumes;
  HF_CO_TRY(entries);
  for (const DirectoryEntry& entry : *entries) {
    const auto volume = VolumeId::parse(entry.name);
    if (volume) volumes.push_back(*volume);
  }
  co_return volumes;
}

Task<Result<std::vector<UblkDriver::Found>>> UblkDriver::find() {
  std::vector<Found> found;
  Result<std::vector<VolumeId>> volumes = co_await noted();
  HF_CO_TRY(volumes);
  if (volumes->empty()) co_return found;
  std::function<std::vector<int>()> look = [] { return UblkControl::list(); };
  std::vector<int> numbers = co_await in_pool<std::vector<int>>(std::move(look));
  std::unordered_map<uint64_t, VolumeId> by_key;
  for (const VolumeId& volume : *volumes) by_key.emplace(device_key(directory_, volume), volume);
  for (const int number : numbers) {
    Result<DeviceInfo> info = co_await control_->info(number);
    if (info.code() == ErrorCode::kNotFound) continue;  // it went away meanwhile
    // No other failure means that there is none: attach() would make a second one.
    HF_CO_TRY(info);
    const auto ours = by_key.find(info->ublksrv_flags);
    if (ours == by_key.end()) continue;
    Found device;
    device.volume = ours->second;
    device.number = number;
    device.state = info->state;
    found.push_back(device);
  }
  co_return found;
}

Task<Result<std::optional<UblkDriver::Found>>> UblkDriver::find_one(VolumeId volume) {
  std::optional<Found> one;
  std::function<Result<int>()> look = [path = note_of(volume)] { return read_note(path); };
  Result<int> number = co_await in_pool<Result<int>>(std::move(look));
  if (number.code() == ErrorCode::kNotFound) co_return one;
  HF_CO_TRY(number);
  if (*number >= 0) {
    Result<DeviceInfo> info = co_await control_->info(*number);
    if (info.ok() && info->ublksrv_flags == device_key(directory_, volume)) {
      one.emplace();
      one->volume = volume;
      one->number = *number;
      one->state = info->state;
      co_return one;
    }
  }
  // Killed between making the device and noting its number, or the note is of one that is gone.
  Result<std::vector<Found>> all = co_await find();
  HF_CO_TRY(all);
  for (const Found& found : *all) {
    if (found.volume == volume) one = found;
  }
  co_return one;
}

Task<Result<bool>> UblkDriver::has_orphan(VolumeId volume) {
  if (exports_.contains(volume)) co_return false;
  Result<std::optional<Found>> there = co_await find_one(volume);
  HF_CO_TRY(there);
  co_return there->has_value();
}

// ---- attach
// ---------------------------------------------------------------------------------------

Task<Status> UblkDriver::open_queue(Export& e) {
  e.queue = std::make_unique<UblkQueue>(loop_, e.path(), e.filter, budget_);
  co_return e.queue->open(e.number);
}

Task<Status> UblkDriver::make(VolumeId volume, Export& e) {
  std::function<Status()> note = [directory = directory_, path = note_of(volume)] {
    return make_note(directory, path);
  };
  Status noted = co_await in_pool<Status>(std::move(note));
  HF_CO_TRY(noted);
  Result<int> number = co_await control_->add(device_key(directory_, volume));
  HF_CO_TRY(number);
  e.number = *number;
  e.kernel_size = e.filter.size();
  std::function<Status()> write = [path = note_of(volume), number = e.number] {
    return write_note(path, number);
  };
  Status written = co_await in_pool<Status>(std::move(write));
  HF_CO_TRY(written);
  Status described = co_await control_->set_params(e.number, e.kernel_size);
  HF_CO_TRY(described);
  Status opened = co_await open_queue(e);
  HF_CO_TRY(opened);
  co_return co_await control_->start(e.number, e.queue->refused());
}

Task<Status> UblkDriver::recover(Export& e, Found found) {
  e.number = found.number;
  Status begun;
  for (int i = 0; i < kRecoveryTries; ++i) {
    begun = co_await control_->start_recovery(e.number);
    // In use: the kernel has not yet noticed that the old server is dead.
    if (begun.code() != ErrorCode::kInUse) break;
    Status slept = co_await world_.clock.sleep_for(kRetry, CancelToken());
    HF_CO_TRY(slept);
  }
  if (!begun.ok()) {
    // A recovery before us died half-way; then the kernel refuses to begin another, but goes on
    // with it.
    Result<DeviceInfo> info = co_await control_->info(e.number);
    HF_CO_TRY(info);
    if (begun.code() != ErrorCode::kInvalidArgument || info->state != kStateQuiesced)
      co_return begun;
  }
  Status opened = co_await open_queue(e);
  HF_CO_TRY(opened);
  Status ended = co_await control_->end_recovery(e.number, e.queue->refused());
  HF_CO_TRY(ended);
  // What the kernel believes can only be smaller; resized() mends it where it can.
  e.kernel_size = 0;
  co_return Status();
}

Task<Result<ExportInfo>> UblkDriver::attach(VolumeId volume, std::shared_ptr<BlockDevice> device) {
  const auto served = exports_.find(volume);
  if (served != exports_.end()) {
    if (!served->second->queue->ended()) co_return info_of(volume, *served->second);
    std::unique_ptr<Export> gone = std::move(served->second);  // stopped behind our back
    exports_.erase(volume);
    Status taken = co_await take_away(volume, gone->number, gone->queue.get());
    HF_CO_TRY(taken);
  }
  auto fresh = std::make_unique<Export>(std::move(device));
  Export& e = *fresh;
  Result<std::optional<Found>> there = co_await find_one(volume);
  HF_CO_TRY(there);
  std::optional<Found> old = *there;
  if (old && old->state == kStateDead) {
    Status gone = co_await take_away(volume, old->number, nullptr);
    HF_CO_TRY(gone);
    old.reset();
  }
  Status made;
  if (old) {
    made = co_await recover(e, *old);
  } else {
    made = co_await make(volume, e);
  }
  if (!made.ok()) {
    if (!old && e.number >= 0) {
      Status undone = co_await take_away(volume, e.number, e.queue.get());
      (void)undone;
    } else if (e.queue) {
      co_await e.queue->stop();
    }
    co_return made.error();
  }
  const ExportInfo info = info_of(volume, e);
  exports_.emplace(volume, std::move(fresh));
  HF_LOG(kInfo, "block", "ublk_attached volume={} device={} adopted={}", volume.to_string(),
         info.device, old.has_value());
  if (old && can_grow_) {
    Status grown = co_await resized(volume);
    HF_CO_TRY(grown);
  }
  co_return info;
}

// ---- the rest
// -------------------------------------------------------------------------------------

Task<Status> UblkDriver::take_away(VolumeId volume, int number, UblkQueue* queue) {
  Status stopped = co_await control_->stop(number);
  if (queue != nullptr) {
    // The fetches come back by themselves; a queue dropped with some leaves its ring behind.
    for (int i = 0; stopped.ok() && queue->in_flight() > 0 && i < kFetchesEndTries; ++i) {
      Status slept = co_await world_.clock.sleep_for(1ms, CancelToken());
      (void)slept;
    }
    co_await queue->stop();
  }
  if (stopped.code() != ErrorCode::kNotFound) HF_CO_TRY(stopped);
  Status removed = co_await control_->remove(number);
  if (removed.code() != ErrorCode::kNotFound) HF_CO_TRY(removed);
  Status forgotten = co_await world_.fs.unlink(note_of(volume));
  if (forgotten.code() == ErrorCode::kNotFound) co_return Status();
  co_return forgotten;
}

Task<Status> UblkDriver::detach(VolumeId volume) {
  int number = -1;
  const auto served = exports_.find(volume);
  if (served != exports_.end()) {
    number = served->second->number;
  } else {
    Result<std::optional<Found>> there = co_await find_one(volume);
    HF_CO_TRY(there);
    if (!there->has_value()) co_return Status();
    number = (*there)->number;
  }
  std::function<Result<OwnedFd>()> look = [path = "/dev/ublkb" + std::to_string(number)] {
    return claim(path);
  };
  Result<OwnedFd> claimed = co_await in_pool<Result<OwnedFd>>(std::move(look));
  HF_CO_TRY(claimed);
  if (served != exports_.end() && claimed->valid()) {  // invalid: stopped behind our back
    // STOP_DEV drops what the page cache still has for us. By a program: a thread of ours that
    // waits for ourselves, killed, would keep our locks.
    std::vector<std::string> argv;
    argv.emplace_back("sync");
    argv.push_back("/dev/ublkb" + std::to_string(number));
    Result<CommandResult> flushed = co_await world_.process.run(std::move(argv), kFlushTimeout);
    HF_CO_TRY(flushed);
    if (flushed->exit_status != 0) {
      co_return make_error(ErrorCode::kIo, "what was written to /dev/ublkb{} cannot be flushed: {}",
                           number, flushed->output);
    }
  }
  std::unique_ptr<Export> gone;
  if (served != exports_.end()) {
    gone = std::move(exports_[volume]);
    exports_.erase(volume);
  }
  co_return co_await take_away(volume, number, gone ? gone->queue.get() : nullptr);
}

Task<Status> UblkDriver::resized(VolumeId volume) {
  const auto found = exports_.find(volume);
  if (found == exports_.end()) {
    co_return make_error(ErrorCode::kNotAttached, "volume {} has no ublk device here",
                         volume.to_string());
  }
  Export& e = *found->second;
  if (e.filter.size() == e.kernel_size) co_return Status();
  if (!can_grow_) {
    co_return make_error(ErrorCode::kMissingFeature,
                         "{} cannot grow while it is attached: this kernel's ublk has no such call "
                         "(Linux 6.16 has); "
                         "detach the volume and attach it again, or attach it by nbd",
                         e.path());
  }
  Status grown = co_await control_->update_size(e.number, e.filter.size());
  HF_CO_TRY(grown);
  e.kernel_size = e.filter.size();
  co_return Status();
}

Task<Result<std::vector<ExportInfo>>> UblkDriver::orphans() {
  std::vector<ExportInfo> left;
  Result<std::vector<Found>> there = co_await find();
  HF_CO_TRY(there);
  for (const Found& found : *there) {
    if (exports_.contains(found.volume)) continue;
    ExportInfo info;
    info.volume = found.volume;
    info.kind = ExportKind::kUblk;
    info.device = "/dev/ublkb" + std::to_string(found.number);
    info.survives_restart = true;
    left.push_back(std::move(info));
  }
  co_return left;
}

Task<Status> UblkDriver::park() {
  for (auto& entry : exports_) {
    co_await entry.second->queue->stop();
  }
  exports_.clear();
  co_return Status();
}

}  // namespace hf::ublk
