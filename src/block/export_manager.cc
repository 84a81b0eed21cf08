#include "block/export_manager.h"

#include <algorithm>

#include "base/log.h"

namespace hf::block {

const char* export_kind_name(ExportKind kind) {
  switch (kind) {
    case ExportKind::kNone:
      return "none";
    case ExportKind::kUblk:
      return "ublk";
    case ExportKind::kNbd:
      return "nbd";
    case ExportKind::kFuseLoop:
      return "fuse";
  }
  return "none";
}

ExportKind export_kind_from_name(std::string_view name) {
  for (const ExportKind kind : {ExportKind::kUblk, ExportKind::kNbd, ExportKind::kFuseLoop}) {
    if (name == export_kind_name(kind)) return kind;
  }
  return ExportKind::kNone;
}

Task<Result<bool>> Driver::has_orphan(VolumeId volume) {
  Result<std::vector<ExportInfo>> left = co_await orphans();
  HF_CO_TRY(left);
  for (const ExportInfo& orphan : *left) {
    if (orphan.volume == volume) co_return true;
  }
  co_return false;
}

// Keeps a volume's lane alive while a call waits for it or runs in it.
class ExportManager::LaneUse {
 public:
  LaneUse(ExportManager& manager, VolumeId volume) : manager_(manager), volume_(volume) {
    std::unique_ptr<Lane>& lane = manager_.lanes_[volume];
    if (!lane) lane = std::make_unique<Lane>();
    lane_ = lane.get();
    ++lane_->users;
  }
  ~LaneUse() {
    if (locked_) lane_->mutex.unlock();
    if (--lane_->users == 0) manager_.lanes_.erase(volume_);
  }
  LaneUse(const LaneUse&) = delete;
  LaneUse& operator=(const LaneUse&) = delete;
  Task<void> lock() {
    co_await lane_->mutex.lock();
    locked_ = true;
  }

 private:
  ExportManager& manager_;
  const VolumeId volume_;
  Lane* lane_ = nullptr;
  bool locked_ = false;
};

ExportManager::ExportManager(std::vector<std::unique_ptr<Driver>> drivers)
    : drivers_(std::move(drivers)) {}

ExportManager::~ExportManager() {
  HF_ASSERT(lanes_.empty(), "export manager destroyed in use");
}

Driver* ExportManager::driver_of(ExportKind kind) {
  for (const std::unique_ptr<Driver>& driver : drivers_) {
    if (driver->kind() == kind) return driver.get();
  }
  return nullptr;
}

const Offer* ExportManager::offer_of(ExportKind kind) const {
  for (const Offer& offer : offers_) {
    if (offer.kind == kind) return &offer;
  }
  return nullptr;
}

Task<Status> ExportManager::start() {
  offers_.clear();
  for (const std::unique_ptr<Driver>& driver : drivers_) {
    Offer offer = co_await driver->start();
    HF_LOG(kInfo, "block", "export kind={} offered={} survives_restart={} note=\"{}\"",
           export_kind_name(offer.kind), offer.offered, offer.survives_restart, offer.why_not);
    offers_.push_back(std::move(offer));
  }
  // What breaks a promise comes behind all that keeps it: losing I/O at a restart is worse than
  // devices that cannot grow; else the order of the drivers stays.
  const auto worth = [](const Offer& o) {
    return (o.survives_restart ? 2 : 0) + (o.grows_online ? 1 : 0);
  };
  // By insertion: std::stable_sort of gcc 12's library does not pass clang 19 (the fuzzers' compiler).
  const auto before = [&](const Offer& a, const Offer& b) { return worth(a) > worth(b); };
  for (auto at = offers_.begin(); at != offers_.end(); ++at) {
    std::rotate(std::upper_bound(offers_.begin(), at, *at, before), at, std::next(at));
  }
  if (offered().empty()) {
    std::string why;
    for (const Offer& offer : offers_) why += (why.empty() ? "" : "; ") + offer.why_not;
    co_return make_error(ErrorCode::kMissingFeature,
                         "this kernel offers no way to make a block device: {}", why);
  }
  co_return Status();
}

std::vector<ExportKind> ExportManager::offered() const {
  std::vector<ExportKind> kinds;
  for (const Offer& offer : offers_) {
    if (offer.offered) kinds.push_back(offer.kind);
  }
  return kinds;
}

// The driver that serves the volume, or has its orphan, or the best that may.
Task<Result<Driver*>> ExportManager::choose(VolumeId volume, ExportKind kind) {
  Driver* there = nullptr;
  const auto found = served_.find(volume);
  if (found != served_.end()) there = found->second;
  for (size_t i = 0; there == nullptr && i < drivers_.size(); ++i) {
    const Offer* offer = offer_of(drivers_[i]->kind());
    if (offer == nullptr || !offer->offered) continue;
    Result<bool> left = co_await drivers_[i]->has_orphan(volume);
    HF_CO_TRY(left);
    if (*left) there = drivers_[i].get();
  }
  if (there != nullptr) {
    if (kind != ExportKind::kNone && kind != there->kind()) {
      co_return make_error(
          ErrorCode::kInUse,
          "volume {} is attached by {} already: detach it before attaching it by {}",
          volume.to_string(), export_kind_name(there->kind()), export_kind_name(kind));
    }
    co_return there;
  }
  if (kind == ExportKind::kNone) {
    const std::vector<ExportKind> kinds = offered();
    if (kinds.empty()) {
      co_return make_error(ErrorCode::kMissingFeature,
                           "this kernel offers no way to make a block device (ublk, nbd or fuse)");
    }
    co_return driver_of(kinds.front());
  }
  const Offer* offer = offer_of(kind);
  if (offer == nullptr || !offer->offered) {
    co_return make_error(ErrorCode::kMissingFeature, "{} is not to be had here: {}",
                         export_kind_name(kind),
                         offer == nullptr ? "this build does not have it" : offer->why_not);
  }
  co_return driver_of(kind);
}

Task<Result<ExportInfo>> ExportManager::attach(VolumeId volume, ExportKind kind,
                                               std::shared_ptr<BlockDevice> device) {
  if (device->size() == 0)
    co_return make_error(ErrorCode::kInvalidArgument, "volume {} has no size", volume.to_string());
  LaneUse lane(*this, volume);
  co_await lane.lock();
  Result<Driver*> driver = co_await choose(volume, kind);
  HF_CO_TRY(driver);
  Result<ExportInfo> made = co_await (*driver)->attach(volume, std::move(device));
  if (!made.ok()) {
    HF_LOG(kError, "block", "attach_failed volume={} kind={} error=\"{}\"", volume.to_string(),
           export_kind_name((*driver)->kind()), made.error().to_string());
    co_return made;
  }
  served_[volume] = *driver;
  co_return made;
}

Task<Status> ExportManager::detach(VolumeId volume) {
  LaneUse lane(*this, volume);
  co_await lane.lock();
  const auto found = served_.find(volume);
  if (found != served_.end()) {
    Status done = co_await found->second->detach(volume);
    if (done.ok()) served_.erase(volume);
    co_return done;
  }
  for (const std::unique_ptr<Driver>& driver : drivers_) {
    const Offer* offer = offer_of(driver->kind());
    if (offer == nullptr || !offer->offered) continue;
    Status done = co_await driver->detach(volume);
    HF_CO_TRY(done);
  }
  co_return Status();
}

Task<Status> ExportManager::resized(VolumeId volume) {
  LaneUse lane(*this, volume);
  co_await lane.lock();
  const auto found = served_.find(volume);
  if (found == served_.end()) {
    co_return make_error(ErrorCode::kNotAttached, "volume {} is not attached here",
                         volume.to_string());
  }
  co_return co_await found->second->resized(volume);
}

Task<Result<std::vector<ExportInfo>>> ExportManager::orphans() {
  std::vector<ExportInfo> all;
  for (const std::unique_ptr<Driver>& driver : drivers_) {
    const Offer* offer = offer_of(driver->kind());
    if (offer == nullptr || !offer->offered) continue;
    Result<std::vector<ExportInfo>> some = co_await driver->orphans();
    HF_CO_TRY(some);
    all.insert(all.end(), some->begin(), some->end());
  }
  co_return all;
}

std::vector<std::string> ExportManager::problems() const {
  std::vector<std::string> all;
  for (const std::unique_ptr<Driver>& driver : drivers_) {
    for (std::string& problem : driver->problems()) all.push_back(std::move(problem));
  }
  return all;
}

Task<Status> ExportManager::park() {
  for (const std::unique_ptr<Driver>& driver : drivers_) {
    Status parked = co_await driver->park();
    HF_CO_TRY(parked);
  }
  served_.clear();
  co_return Status();
}

}  // namespace hf::block
