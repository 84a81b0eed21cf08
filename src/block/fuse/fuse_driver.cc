#include "block/fuse/fuse_driver.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/crc32c.h"
#include "base/log.h"
#include "block/fuse/fuse_mount.h"
#include "block/fuse/fuse_state.h"
#include "block/fuse/fuse_wire.h"

namespace hf::fuse {
namespace {

constexpr Duration kProgramTimeout = 30s;
constexpr Duration kHolderLookEvery = 2s;
constexpr uint64_t kHeldByNobody = UINT64_MAX;
constexpr int kSizeTries = 200;
constexpr Duration kSizeRetry = 20ms;

// For the offer only, which comes before the first connection; a connection's own INIT has the say.
bool kernel_can_resend() {
  utsname name{};
  int major = 0, minor = 0;
  if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
  return major > 6 || (major == 6 && minor >= 9);
}

// Where the exports lie, as the kernel prints it: only the run directory's own part is looked up,
// as a lookup in an export waits for its server.
Result<std::string> canonical_exports(const std::string& run_dir) {
  Result<std::string> run = loopdev::canonical_path(run_dir);
  HF_TRY(run);
  return *run + "/export";
}

Result<std::vector<loopdev::LoopInfo>> loops_of(const std::string& run_dir, VolumeId volume) {
  const Result<std::string> exports = canonical_exports(run_dir);
  HF_TRY(exports);
  return loopdev::find_below(*exports + "/" + volume.to_string());
}

// What clear_one() does, in the blocking pool. The connection ends before anything that its dead
// server would have to answer: even the last close of a loop device may wait for it.
Status clear_now(const std::string& run_dir, VolumeId volume, bool even_if_claimed) {
  const Result<std::string> exports = canonical_exports(run_dir);
  if (exports.code() == ErrorCode::kNotFound) return Status();
  HF_TRY(exports);
  const std::string directory = *exports + "/" + volume.to_string();
  const Result<std::vector<loopdev::LoopInfo>> loops = loopdev::find_below(directory);
  HF_TRY(loops);
  std::vector<OwnedFd> claims;
  if (!even_if_claimed) {
    for (const loopdev::LoopInfo& loop : *loops) {
      Result<OwnedFd> claimed = loopdev::claim(loop);
      if (claimed.code() == ErrorCode::kNotFound) claimed = OwnedFd();
      HF_TRY(claimed);
      claims.push_back(std::move(*claimed));
    }
  }
  const Result<std::vector<MountedConnection>> mounts = list_mounts(*exports);
  HF_TRY(mounts);
  size_t layers = 0;
  for (const MountedConnection& m : *mounts) {
    if (m.directory != directory) continue;
    HF_TRY(abort_connection(m.connection));
    ++layers;
  }
  for (size_t i = 0; i < loops->size(); ++i) {
    if (even_if_claimed) {
      HF_TRY(loopdev::detach_later((*loops)[i]));
    } else if (claims[i].valid()) {
      HF_TRY(loopdev::release((*loops)[i], std::move(claims[i])));
    }
  }
  for (; layers > 1; --layers) HF_TRY(unmount(directory, true));
  return unmount(directory, true);
}

}  // namespace

using block::ExportInfo;
using block::ExportKind;
using block::Offer;

FuseDriver::FuseDriver(World& world, block::KernelIo& io, DriverOptions options)
    : world_(world),
      io_(io),
      options_(std::move(options)),
      scope_(fmt::format("{:08x}", crc32c(as_bytes(options_.run_dir)))) {
  if (!options_.holder_socket.empty()) {
    holder_ = std::make_shared<holder::Client>(options_.holder_socket);
  }
}

FuseDriver::~FuseDriver() {
  HF_ASSERT(exports_.empty(), "park() comes before the end");
}

std::string FuseDriver::directory_of(VolumeId volume) const {
  return options_.run_dir + "/export/" + volume.to_string();
}
std::string FuseDriver::tag_of(VolumeId volume) const {
  return "hf:" + scope_ + ":" + volume.to_string();
}
std::string FuseDriver::entry_of(VolumeId volume) const {
  return "fuse/" + scope_ + "/" + volume.to_string();
}

ExportInfo FuseDriver::info_of(VolumeId volume, const Export& e) const {
  ExportInfo info;
  info.volume = volume;
  info.kind = ExportKind::kFuseLoop;
  info.device = e.loop.number >= 0 ? e.loop.device() : std::string();
  info.survives_restart = e.survives_restart;
  return info;
}

template <typename T>
Task<T> FuseDriver::in_pool(std::function<T()> fn) {
  return run_blocking<T>(world_.blocking, std::move(fn));
}

// ---- the holder
// -----------------------------------------------------------------------------------

Task<Status> FuseDriver::holder_put(VolumeId volume, int fd, Negotiated agreed, int loop_number) {
  co_await holder_mutex_.lock();
  MutexGuard guard(holder_mutex_);
  std::function<Status()> call = [client = holder_, name = entry_of(volume), fd,
                                  state = encode_state(agreed, loop_number)] {
    return client->put(name, fd, state);
  };
  co_return co_await in_pool<Status>(std::move(call));
}

Task<Status> FuseDriver::holder_remove(VolumeId volume) {
  if (!holder_) co_return Status();
  co_await holder_mutex_.lock();
  MutexGuard guard(holder_mutex_);
  std::function<Status()> call = [client = holder_, name = entry_of(volume)] {
    return client->remove(name);
  };
  co_return co_await in_pool<Status>(std::move(call));
}

Task<Result<holder::Held>> FuseDriver::holder_get(VolumeId volume) {
  if (!holder_) co_return make_error(ErrorCode::kNotFound, "there is no holder");
  co_await holder_mutex_.lock();
  MutexGuard guard(holder_mutex_);
  std::function<Result<holder::Held>()> call = [client = holder_, name = entry_of(volume)] {
    return client->get(name);
  };
  co_return co_await in_pool<Result<holder::Held>>(std::move(call));
}

Task<Status> FuseDriver::hold_all_again() {
  std::vector<VolumeId> volumes;
  for (const auto& entry : exports_) {
    if (entry.second->survives_restart) volumes.push_back(entry.first);
  }
  for (const VolumeId& volume : volumes) {
    // It may have been detached since; a detach that is under way has taken itself out of the
    // holder, and must not be put back.
    const auto found = exports_.find(volume);
    if (found == exports_.end() || !found->second->survives_restart) continue;
    Export& e = *found->second;
    Status put = co_await holder_put(volume, e.fd.get(), e.session->negotiated(), e.loop.number);
    HF_CO_TRY(put);
  }
  co_return Status();
}

Task<Status> FuseDriver::ping_holder() {
  co_await holder_mutex_.lock();
  MutexGuard guard(holder_mutex_);
  std::function<Status()> ping = [client = holder_] { return client->ping(); };
  co_return co_await in_pool<Status>(std::move(ping));
}

// Success when the holder has everything.
Task<Status> FuseDriver::look_at_holder() {
  Status answers = co_await ping_holder();
  if (!answers.ok() && !options_.holder_program.empty()) {
    std::vector<std::string> argv;
    argv.push_back(options_.holder_program);
    argv.push_back(options_.holder_socket);
    Result<std::string> started = co_await run_program(std::move(argv));
    HF_CO_TRY(started);
    answers = co_await ping_holder();
    if (answers.ok()) {
      HF_LOG(kWarn, "block", "holder_started socket={}: the one before is gone",
             options_.holder_socket);
    }
  }
  HF_CO_TRY(answers);
  const uint64_t connections = holder_->connections();
  if (connections == held_by_) co_return Status();
  // First, so that an attach that ends meanwhile can ask for another round.
  held_by_ = connections;
  Status held = co_await hold_all_again();
  if (!held.ok()) {
    held_by_ = kHeldByNobody;
    co_return held;
  }
  HF_LOG(kInfo, "block", "holder_has_everything exports={}", exports_.size());
  co_return Status();
}

Task<void> FuseDriver::keep_held() {
  for (;;) {
    Status slept = co_await world_.clock.sleep_for(kHolderLookEvery, stop_);
    if (!slept.ok()) co_return;
    Status whole = co_await look_at_holder();
    if (!whole.ok() && holder_trouble_.empty()) {
      HF_LOG(kError, "block",
             "holder_away error=\"{}\": a restart of the daemon would end its FUSE exports",
             whole.error().message());
    }
    holder_trouble_ = whole.ok() ? std::string() : whole.error().message();
  }
}

std::vector<std::string> FuseDriver::problems() const {
  std::vector<std::string> found;
  if (!holder_trouble_.empty()) {
    found.push_back(fmt::format(
        "the holder process is away ({}): a restart of the daemon would be an I/O error for its {} "
        "volumes attached by fuse; {}",
        holder_trouble_, exports_.size(),
        options_.holder_program.empty() ? "start it again" : "the daemon tries to start it again"));
  }
  return found;
}

// ---- start
// ----------------------------------------------------------------------------------------

Task<Offer> FuseDriver::start() {
  Offer offer;
  offer.kind = ExportKind::kFuseLoop;
  std::function<Status()> look = [] { return probe(); };
  Status there = co_await in_pool<Status>(look);
  if (!there.ok()) {
    std::vector<std::string> argv;
    for (const char* word : {"modprobe", "-a", "fuse", "loop"}) argv.emplace_back(word);
    Result<std::string> loaded = co_await run_program(std::move(argv));
    if (loaded.ok()) there = co_await in_pool<Status>(look);
  }
  if (!there.ok()) {
    offer.why_not = there.error().message();
    co_return offer;
  }
  offer.offered = true;
  if (!holder_) {
    offer.why_not = "no holder process is configured: volumes get I/O errors when the daemon stops";
  } else {
    std::function<Status()> ping = [client = holder_] { return client->ping(); };
    Status answers = co_await in_pool<Status>(std::move(ping));
    const bool can_resend = kernel_can_resend();
    offer.survives_restart = answers.ok() && can_resend;
    if (!answers.ok()) offer.why_not = answers.error().message();
    if (!can_resend) {
      offer.why_not =
          "this kernel cannot send FUSE requests again (Linux 6.9 can): volumes get I/O errors "
          "when "
          "the daemon stops";
    }
  }
  if (holder_ && background_.inside() == 0) {
    held_by_ = holder_->connections();
    HF_ASSERT(spawn(background_, keep_held()));
  }
  Status cleared = co_await clear_leftovers();
  if (!cleared.ok()) {
    HF_LOG(kWarn, "block", "fuse_leftovers_remain error=\"{}\"", cleared.error().message());
  }
  co_return offer;
}

Task<Status> FuseDriver::clear_leftovers() {
  std::function<Result<std::vector<MountedConnection>>()> list =
      [run_dir = options_.run_dir]() -> Result<std::vector<MountedConnection>> {
    const Result<std::string> exports = canonical_exports(run_dir);
    if (exports.code() == ErrorCode::kNotFound) return std::vector<MountedConnection>();
    HF_TRY(exports);
    return list_mounts(*exports);
  };
  Result<std::vector<MountedConnection>> mounts =
      co_await in_pool<Result<std::vector<MountedConnection>>>(std::move(list));
  HF_CO_TRY(mounts);
  std::vector<VolumeId> mounted;
  for (const MountedConnection& m : *mounts) {
    const auto volume = VolumeId::parse(m.directory.substr(m.directory.rfind('/') + 1));
    if (!volume) continue;
    mounted.push_back(*volume);
    Result<holder::Held> held = co_await holder_get(*volume);
    if (held.ok()) {
      ::close(held->fd);
      continue;
    }
    if (held.code() != ErrorCode::kNotFound) co_return held.error();  // no holder, no verdict
    HF_LOG(kWarn, "block",
           "fuse_leftover volume={}: an export that nobody can serve any more is removed",
           volume->to_string());
    Status cleared = co_await clear_one(*volume, true);
    HF_CO_TRY(cleared);
  }
  if (!holder_) co_return Status();
  Result<std::vector<ExportInfo>> held = co_await orphans();
  HF_CO_TRY(held);
  for (const ExportInfo& orphan : *held) {
    if (std::find(mounted.begin(), mounted.end(), orphan.volume) != mounted.end()) continue;
    Status cleared = co_await clear_one(orphan.volume, true);
    HF_CO_TRY(cleared);
  }
  co_return Status();
}

// Removes what an earlier daemon left of a volume's export: ends the connection, so that nothing
// waits for a server any more, then device, mount and the holder's descriptor. With
// `even_if_claimed` the device goes with its last user.
Task<Status> FuseDriver::clear_one(VolumeId volume, bool even_if_claimed) {
  std::function<Status()> work = [run_dir = options_.run_dir, volume, even_if_claimed] {
    return clear_now(run_dir, volume, even_if_claimed);
  };
  Status done = co_await in_pool<Status>(std::move(work));
  HF_CO_TRY(done);
  co_return co_await holder_remove(volume);
}

// ---- attach
// ---------------------------------------------------------------------------------------

Task<Result<ExportInfo>> FuseDriver::attach(VolumeId volume, std::shared_ptr<BlockDevice> device) {
  const auto found = exports_.find(volume);
  if (found != exports_.end()) {
    if (!found->second->session->ended()) co_return info_of(volume, *found->second);
    // Somebody unmounted or aborted it behind our back: make it anew.
    std::unique_ptr<Export> dead = std::move(found->second);
    exports_.erase(found);
    co_await close_export(*dead);
    Status cleared = co_await clear_one(volume, true);
    HF_CO_TRY(cleared);
  }
  auto fresh = std::make_unique<Export>();
  Export& e = *fresh;
  e.device = std::move(device);
  // Before the holder has it, or is asked for it: another holder from here on may not have it.
  const uint64_t connections = holder_ ? holder_->connections() : 0;
  Result<holder::Held> held = co_await holder_get(volume);
  if (held.code() == ErrorCode::kUnavailable) {
    // It has just died: not left to the next look, so that nobody is refused a volume meanwhile.
    Status there = co_await look_at_holder();
    HF_CO_TRY(there);
    held = co_await holder_get(volume);
  }
  if (!held.ok() && held.code() != ErrorCode::kNotFound) co_return held.error();
  Status made;
  if (held.ok()) {
    made = co_await adopt(volume, e, std::move(*held));
  } else {
    made = co_await make(volume, e);
  }
  if (!made.ok()) {
    co_await close_export(e);
    // An adopted connection stays with the holder: its users wait, and the next attach tries again.
    if (!held.ok()) {
      Status cleared = co_await clear_one(volume, true);
      if (!cleared.ok()) {
        HF_LOG(kWarn, "block", "fuse_cleanup_failed volume={} error=\"{}\"", volume.to_string(),
               cleared.error().message());
      }
    }
    co_return made.error();
  }
  const ExportInfo info = info_of(volume, e);
  exports_.emplace(volume, std::move(fresh));
  // It came while this was on its way, and was given all that there was then: once more, with this.
  if (holder_ && holder_->connections() != connections) held_by_ = kHeldByNobody;
  co_return info;
}

Task<Status> FuseDriver::make(VolumeId volume, Export& e) {
  Status clean = co_await clear_one(volume, false);
  HF_CO_TRY(clean);
  std::function<Result<OwnedFd>()> mount = [directory = directory_of(volume)] {
    return mount_connection(directory);
  };
  Result<OwnedFd> fd = co_await in_pool<Result<OwnedFd>>(std::move(mount));
  HF_CO_TRY(fd);
  e.fd = std::move(*fd);
  e.session = std::make_unique<Session>(io_, buffers_, e.fd.get(), volume.to_string(), *e.device);
  e.session->start();
  Status ready = co_await e.session->wait_initialised();
  HF_CO_TRY(ready);
  Status looped = co_await attach_loop(volume, e);
  HF_CO_TRY(looped);
  // Only now, see the header; from the first request of a user on, a kill is survived.
  if (!holder_ || !e.session->negotiated().can_resend()) co_return Status();
  Status kept = co_await holder_put(volume, e.fd.get(), e.session->negotiated(), e.loop.number);
  HF_CO_TRY(kept);
  e.survives_restart = true;
  co_return Status();
}

Task<Status> FuseDriver::attach_loop(VolumeId volume, Export& e) {
  std::function<Result<loopdev::LoopInfo>()> work =
      [run_dir = options_.run_dir, volume, directory = directory_of(volume),
       tag = tag_of(volume)]() -> Result<loopdev::LoopInfo> {
    Result<std::vector<loopdev::LoopInfo>> there = loops_of(run_dir, volume);
    HF_TRY(there);
    for (const loopdev::LoopInfo& loop : *there) {
      if (!loop.unlinked) return loop;
    }
    return loopdev::attach(directory + "/" + kDiskName, tag);
  };
  Result<loopdev::LoopInfo> loop = co_await in_pool<Result<loopdev::LoopInfo>>(std::move(work));
  HF_CO_TRY(loop);
  e.loop = *loop;
  co_return Status();
}

Task<Status> FuseDriver::adopt(VolumeId volume, Export& e, holder::Held held) {
  e.fd = OwnedFd(held.fd);
  const std::optional<HeldState> state = decode_state(held.state);
  if (!state) {
    co_return make_error(
        ErrorCode::kNewerFormat,
        "the FUSE export of volume {} was made by another version of holdfast: detach it "
        "with that version first",
        volume.to_string());
  }
  e.session = std::make_unique<Session>(io_, buffers_, e.fd.get(), volume.to_string(), *e.device);
  Status asked = e.session->adopt(state->agreed);
  HF_CO_TRY(asked);
  e.survives_restart = true;
  e.session->start();
  Status looped = co_await attach_loop(volume, e);
  HF_CO_TRY(looped);
  HF_LOG(kInfo, "block", "fuse_adopted volume={} device={}", volume.to_string(), e.loop.device());
  co_return co_await follow_size(volume, e);
}

// ---- size, detach, park
// ---------------------------------------------------------------------------

// Does nothing when the kernel knows the size already. By programs, see the header: this export may
// be adopted, and nothing of ours may wait for ourselves. The kernel is made to ask, not to forget:
// a daemon killed in between leaves the old size, with which LOOP_GET_STATUS64 by anybody (losetup
// -a) needs no answer of ours.
Task<Status> FuseDriver::follow_size(VolumeId volume, Export& e) {
  std::function<Result<uint64_t>()> look = [number = e.loop.number] {
    return loopdev::size_bytes(number);
  };
  Result<uint64_t> known = co_await in_pool<Result<uint64_t>>(look);
  HF_CO_TRY(known);
  if (*known == e.device->size()) co_return Status();
  // The file first: a loop device that is longer than its file cannot read its own end.
  Status asked = co_await file_follows_size(volume, e);
  HF_CO_TRY(asked);
  std::vector<std::string> grow;
  grow.push_back("losetup");
  grow.push_back("--set-capacity");
  grow.push_back(e.loop.device());
  Result<std::string> told = co_await run_program(std::move(grow));
  HF_CO_TRY(told);
  known = co_await in_pool<Result<uint64_t>>(std::move(look));
  HF_CO_TRY(known);
  if (*known == e.device->size()) co_return Status();
  co_return make_error(ErrorCode::kIo, "{} has {} bytes after it was told of {}", e.loop.device(),
                       *known, e.device->size());
}

// The kernel drops the size in an answer to GETATTR when a write ended between question and answer;
// a program that asked sees it all the same, as does LOOP_SET_CAPACITY from Linux 6.16 on. What
// counts is the size that the kernel has cached, which --cached=always shows.
Task<Status> FuseDriver::file_follows_size(VolumeId volume, Export& e) {
  const std::string want = std::to_string(e.device->size()) + "\n";
  std::string has;
  for (int i = 0; i < kSizeTries; ++i) {
    for (const char* cached : {"--cached=never", "--cached=always"}) {
      std::vector<std::string> stat;
      for (const char* word : {"stat", cached, "--format=%s"}) stat.emplace_back(word);
      stat.push_back(directory_of(volume) + "/" + kDiskName);
      Result<std::string> seen = co_await run_program(std::move(stat));
      HF_CO_TRY(seen);
      has = std::move(*seen);
    }
    if (has == want) co_return Status();
    Status waited = co_await world_.clock.sleep_for(kSizeRetry, stop_);
    HF_CO_TRY(waited);
  }
  co_return make_error(ErrorCode::kTimeout,
                       "the kernel keeps the old size of volume {}'s export: it was told {} times, "
                       "has {} and should have {}",
                       volume.to_string(), kSizeTries, has, want);
}

Task<Result<std::string>> FuseDriver::run_program(std::vector<std::string> argv) {
  const std::string what = argv[0] + " " + argv.back();
  Result<CommandResult> ran = co_await world_.process.run(std::move(argv), kProgramTimeout);
  HF_CO_TRY(ran);
  if (ran->exit_status == 0) co_return std::move(ran->output);
  co_return make_error(ErrorCode::kIo, "{} failed with status {}: {}", what, ran->exit_status,
                       ran->output);
}

Task<Status> FuseDriver::resized(VolumeId volume) {
  const auto found = exports_.find(volume);
  if (found == exports_.end()) {
    co_return make_error(ErrorCode::kNotAttached, "volume {} has no FUSE export here",
                         volume.to_string());
  }
  co_return co_await follow_size(volume, *found->second);
}

Task<Status> FuseDriver::detach(VolumeId volume) {
  const auto found = exports_.find(volume);
  // Nobody serves it: with a device in use that is for attach() to mend, not for us to break.
  if (found == exports_.end()) co_return co_await clear_one(volume, false);
  Export& e = *found->second;
  // Claimed until it is detached: nobody can mount it in between, and its close, which writes back
  // what the page cache has, comes when the holder has let go.
  std::function<Result<OwnedFd>()> look = [loop = e.loop] { return loopdev::claim(loop); };
  Result<OwnedFd> claim = co_await in_pool<Result<OwnedFd>>(std::move(look));
  // Somebody else has detached it: the rest of the export goes all the same.
  if (claim.code() == ErrorCode::kNotFound) claim = OwnedFd();
  HF_CO_TRY(claim);
  auto claimed = std::make_shared<OwnedFd>(std::move(*claim));
  // From here to the end a kill leaves a connection that start() aborts; nobody uses it.
  const bool was_held = std::exchange(e.survives_restart, false);
  Status forgotten = co_await holder_remove(volume);
  if (!forgotten.ok()) {
    e.survives_restart = was_held;
    std::function<Status()> let_go = [claimed] {
      claimed->reset();
      return Status();
    };
    Status let = co_await in_pool<Status>(std::move(let_go));
    (void)let;
    co_return forgotten;
  }
  // The session serves on: the kernel flushes and releases through it.
  std::function<Status()> work = [directory = directory_of(volume), claimed,
                                  loop = e.loop]() -> Status {
    // The close writes back too, but by then the device may refuse what a writer left in the cache.
    if (claimed->valid() && ::fsync(claimed->get()) != 0) {
      return Error::from_errno(errno, "write back " + loop.device());
    }
    if (claimed->valid()) HF_TRY(loopdev::release(loop, std::move(*claimed)));
    return unmount(directory, false);
  };
  Status done = co_await in_pool<Status>(std::move(work));
  if (!done.ok()) {
    if (was_held) {
      Status kept = co_await holder_put(volume, e.fd.get(), e.session->negotiated(), e.loop.number);
      e.survives_restart = kept.ok();
    }
    co_return done;
  }
  std::unique_ptr<Export> gone = std::move(exports_[volume]);
  exports_.erase(volume);
  co_await close_export(*gone);
  co_return Status();
}

Task<void> FuseDriver::close_export(Export& e) {
  if (e.session) co_await e.session->stop();
  e.session.reset();
  e.fd.reset();
}

Task<Result<std::vector<ExportInfo>>> FuseDriver::orphans() {
  std::vector<ExportInfo> found;
  if (!holder_) co_return found;
  co_await holder_mutex_.lock();
  MutexGuard guard(holder_mutex_);
  const std::string prefix = "fuse/" + scope_ + "/";
  std::function<Result<std::vector<holder::Held>>()> list = [client = holder_, prefix] {
    return client->list(prefix);
  };
  Result<std::vector<holder::Held>> held =
      co_await in_pool<Result<std::vector<holder::Held>>>(std::move(list));
  HF_CO_TRY(held);
  std::function<Result<std::vector<loopdev::LoopInfo>>()> look =
      [run_dir = options_.run_dir]() -> Result<std::vector<loopdev::LoopInfo>> {
    const Result<std::string> exports = canonical_exports(run_dir);
    if (exports.code() == ErrorCode::kNotFound) return std::vector<loopdev::LoopInfo>();
    HF_TRY(exports);
    return loopdev::find_below(*exports);
  };
  Result<std::vector<loopdev::LoopInfo>> loops =
      co_await in_pool<Result<std::vector<loopdev::LoopInfo>>>(std::move(look));
  HF_CO_TRY(loops);
  for (const holder::Held& entry : *held) {
    const auto volume = VolumeId::parse(entry.name.substr(prefix.size()));
    if (!volume || exports_.contains(*volume)) continue;
    ExportInfo info;
    info.volume = *volume;
    info.kind = ExportKind::kFuseLoop;
    info.survives_restart = true;
    for (const loopdev::LoopInfo& loop : *loops) {
      if (loop.backing.ends_with("/" + volume->to_string() + "/" + kDiskName)) {
        info.device = loop.device();
      }
    }
    found.push_back(std::move(info));
  }
  co_return found;
}

Task<Status> FuseDriver::park() {
  stop_.cancel();
  co_await background_.close();
  for (auto& entry : exports_) {
    co_await close_export(*entry.second);
  }
  exports_.clear();
  co_return Status();
}

}  // namespace hf::fuse
