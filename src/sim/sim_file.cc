#include "sim/sim_file.h"

#include <algorithm>
#include <cerrno>

#include "base/crc32c.h"

namespace hf::sim {

// One operation on its way. Frees itself when it has been answered.
class IoOp final : public SimEvent, public Pending {
 public:
  IoOp(SimFile& file, IoRequest& request) : file_(file), request_(request) {
    ++file_.in_flight_;
    file_.life_.add(static_cast<Pending&>(*this));
  }
  void start();
  void fire() override;
  void abort(Death death) override;

 private:
  // A write may be seen in halves: one early look at the medium per so many.
  static constexpr uint64_t kEarlyLookOneIn = 8;

  bool is_write() const {
    return request_.kind == IoKind::kWrite || request_.kind == IoKind::kWriteDurable;
  }
  SimDisk& disk() { return file_.disk_; }
  SimContent& content() { return file_.inode_->content; }
  uint64_t write_length() const;
  int64_t perform();
  int64_t read();
  int64_t write();
  int64_t sync();
  int64_t change_space();
  int64_t faulty_write(FaultKind fault);
  // Puts bytes [from, to) of what is written into the file; false when the disk is full.
  bool land(uint64_t from, uint64_t to, SimContent::Landing landing);
  void land_some(SimContent::Landing landing);
  void answer(int64_t result);
  uint32_t checksum() const;

  SimFile& file_;
  IoRequest& request_;
  std::optional<FaultKind> fault_;
  uint64_t sync_began_ = 0;
  SimTime answer_at_ = 0;
  bool looked_early_ = true;
};

uint64_t IoOp::write_length() const {
  uint64_t length = request_.write_from.size();
  for (const ByteSpan segment : request_.write_many) length += segment.size();
  return length;
}

uint32_t IoOp::checksum() const {
  uint32_t crc = crc32c(request_.write_from);
  for (const ByteSpan segment : request_.write_many) crc = crc32c_extend(crc, segment);
  return crc;
}

void IoOp::start() {
  const DiskLatency& l = disk().config().latency;
  fault_ = disk().draw(request_.kind, file_.disk_path_);
  if (fault_ == FaultKind::kHang) {
    disk().hang_for(Duration(1 + static_cast<int64_t>(disk().prng().below(
                                     static_cast<uint64_t>(disk().faults().hang_max.count())))));
    fault_.reset();
  }
  Duration base = l.write;
  uint64_t bytes = request_.read_into.size();
  switch (request_.kind) {
    case IoKind::kRead:
      base = l.read;
      break;
    case IoKind::kWriteDurable:
      base = l.write + l.durable;
      [[fallthrough]];
    case IoKind::kWrite:
      bytes = write_length();
      break;
    case IoKind::kSyncData:
      base = l.durable;
      sync_began_ = content().begin_sync();
      break;
    default:
      break;
  }
  answer_at_ = disk().answer_at(base, bytes);
  SimTime first = answer_at_;
  if (is_write() && bytes > kSectorSize && disk().prng().chance(1, kEarlyLookOneIn)) {
    looked_early_ = false;
    first = disk().loop().now() + static_cast<SimTime>(disk().prng().below(
                                      static_cast<uint64_t>(answer_at_ - disk().loop().now()) + 1));
  }
  disk().loop().schedule(*this, first);
}

void IoOp::fire() {
  SimLoop& loop = disk().loop();
  if (loop.now() < disk().hangs_until()) {
    loop.schedule(*this, disk().answer_at(disk().config().latency.write, 0));
    return;
  }
  if (!looked_early_) {
    looked_early_ = true;
    if (!fault_ && !disk().is_offline() && file_.is_writable()) {
      land_some(SimContent::Landing::kCached);
    }
    loop.schedule(*this, answer_at_);
    return;
  }
  answer(perform());
}

void IoOp::answer(int64_t result) {
  request_.result = result;
  disk().loop().record("io", file_.inode_->number << 4 | static_cast<uint64_t>(request_.kind),
                       request_.offset, static_cast<uint64_t>(result));
  if (is_write()) disk().loop().history().mix(checksum());
  if (request_.kind == IoKind::kRead && result > 0) {
    disk().loop().history().mix(crc32c(request_.read_into.first(static_cast<size_t>(result))));
  }
  if (is_scheduled()) disk().loop().unschedule(*this);
  Pending::unlink();
  --file_.in_flight_;
  file_.life_.complete(request_);
  delete this;
}

// The process or the host died under way: the operation has happened, or not, or by halves.
void IoOp::abort(Death death) {
  Prng& prng = disk().prng();
  const bool reached = looked_early_ && !fault_ && !disk().is_offline() &&
                       disk().loop().now() >= disk().hangs_until();
  const uint64_t draw = prng.below(3);
  if (reached && file_.is_writable()) {
    if (is_write()) {
      const bool durable = death == Death::kKill && request_.kind == IoKind::kWriteDurable;
      const auto landing = durable ? SimContent::Landing::kDurable : SimContent::Landing::kCached;
      if (draw == 1) (void)land(0, write_length(), landing);
      if (draw == 2) land_some(landing);
    } else if (request_.kind != IoKind::kRead && request_.kind != IoKind::kSyncData && draw != 0) {
      (void)change_space();
    }
  }
  answer(-ECANCELED);
}

bool IoOp::land(uint64_t from, uint64_t to, SimContent::Landing landing) {
  uint64_t at = 0;
  const auto piece = [&](ByteSpan segment) {
    const uint64_t begin = std::max(from, at), end = std::min(to, at + segment.size());
    const uint64_t start = at;
    at += segment.size();
    if (begin >= end) return true;
    return content().write(request_.offset + begin, segment.subspan(begin - start, end - begin),
                           landing);
  };
  if (!piece(request_.write_from)) return false;
  for (const ByteSpan segment : request_.write_many) {
    if (!piece(segment)) return false;
  }
  return true;
}

// Some runs of sectors of the write; now and then none, or all.
void IoOp::land_some(SimContent::Landing landing) {
  const uint64_t length = write_length();
  const uint64_t draw = disk().prng().below(8);
  if (draw == 0) return;
  if (draw == 1) {
    (void)land(0, length, landing);
    return;
  }
  const uint64_t sectors = round_up(length, kSectorSize) / kSectorSize;
  uint64_t at = 0;
  bool take = disk().prng().chance(1, 2);
  while (at < sectors) {
    const uint64_t run = disk().prng().between(1, std::max<uint64_t>(1, sectors / 2));
    const uint64_t end = std::min(sectors, at + run);
    if (take && !land(at * kSectorSize, std::min(length, end * kSectorSize), landing)) return;
    take = !take;
    at = end;
  }
}

int64_t IoOp::perform() {
  if (disk().is_offline()) return -EIO;
  if (file_.life_.is_dead()) return -ECANCELED;
  switch (request_.kind) {
    case IoKind::kRead:
      return read();
    case IoKind::kSyncData:
      return sync();
    case IoKind::kWrite:
    case IoKind::kWriteDurable:
      return file_.is_writable() ? write() : -EBADF;
    default:
      return file_.is_writable() ? change_space() : -EBADF;
  }
}

int64_t IoOp::read() {
  const uint64_t size = content().size();
  if (request_.offset >= size || request_.read_into.empty()) return 0;
  const uint64_t n = std::min<uint64_t>(request_.read_into.size(), size - request_.offset);
  if (fault_) {
    const uint64_t at = request_.offset + disk().prng().below(n);
    switch (*fault_) {
      case FaultKind::kBitRot:
        disk().rot_inode(*file_.inode_, at);
        break;
      case FaultKind::kLatentSector:
        disk().make_inode_unreadable(*file_.inode_, at);
        break;
      default:
        disk().record_fault(*fault_, file_.disk_path_, request_.offset, n);
        return -EIO;
    }
  }
  const MutableByteSpan out = request_.read_into.first(n);
  return content().read(request_.offset, out, file_.is_direct()) ? static_cast<int64_t>(n) : -EIO;
}

int64_t IoOp::write() {
  if (file_.is_direct()) content().drop_cache();
  const uint64_t length = write_length();
  if (fault_ == FaultKind::kBitRot) {
    disk().rot_somewhere();
  } else if (fault_) {
    return faulty_write(*fault_);
  }
  const bool durable = request_.kind == IoKind::kWriteDurable;
  // The kernel may have written the older content back in between.
  if (!durable && disk().prng().chance(1, 8)) content().write_back(request_.offset);
  const bool ok =
      land(0, length, durable ? SimContent::Landing::kDurable : SimContent::Landing::kCached);
  return ok ? static_cast<int64_t>(length) : -ENOSPC;
}

int64_t IoOp::faulty_write(FaultKind fault) {
  using Landing = SimContent::Landing;
  const uint64_t length = write_length();
  if (fault != FaultKind::kStaleSector) {
    disk().record_fault(fault, file_.disk_path_, request_.offset, length);
  }
  switch (fault) {
    case FaultKind::kNoSpace:
      return -ENOSPC;
    case FaultKind::kSyncError:
      (void)land(0, length, Landing::kCached);
      content().fail_sync(disk().prng());
      return -EIO;
    case FaultKind::kMisdirectedWrite: {
      ByteSpan first = request_.write_from;
      if (first.empty() && !request_.write_many.empty()) first = request_.write_many.front();
      disk().misdirect(first, *file_.inode_, request_.offset);
      [[fallthrough]];
    }
    case FaultKind::kLostWrite:
      if (!file_.is_direct()) {
        if (!land(0, length, Landing::kCacheOnly)) return -ENOSPC;
      } else if (request_.offset + length > content().size()) {
        content().set_size(request_.offset + length, true);
      }
      content().taint(request_.offset, length, fault);
      return static_cast<int64_t>(length);
    case FaultKind::kStaleSector:  // the device says "durable" and keeps it in its cache
      if (!land(0, length, Landing::kCached)) return -ENOSPC;
      content().mark_lied(request_.offset, length);
      return static_cast<int64_t>(length);
    default:
      land_some(disk().prng().chance(1, 2) ? Landing::kDurable : Landing::kCached);
      return -EIO;
  }
}

int64_t IoOp::sync() {
  if (fault_ == FaultKind::kSyncError) {
    disk().record_fault(*fault_, file_.disk_path_, 0, 0);
    content().fail_sync(disk().prng());
    return -EIO;
  }
  if (fault_ == FaultKind::kStaleSector) {
    content().mark_all_lied();
    return 0;
  }
  content().finish_sync(sync_began_);
  return 0;
}

int64_t IoOp::change_space() {
  if (fault_ && *fault_ != FaultKind::kBitRot) {
    disk().record_fault(*fault_, file_.disk_path_, request_.offset, request_.length);
    return *fault_ == FaultKind::kNoSpace ? -ENOSPC : -EIO;
  }
  bool ok = true;
  switch (request_.kind) {
    case IoKind::kPunchHole:
      ok = content().punch(request_.offset, request_.length);
      break;
    case IoKind::kZeroRange:
      ok = content().zero(request_.offset, request_.length);
      break;
    default:
      ok = content().allocate(request_.offset, request_.length);
      break;
  }
  return ok ? 0 : -ENOSPC;
}

SimFile::SimFile(Incarnation& life, SimDisk& disk, InodeRef inode, std::string path,
                 std::string disk_path, OpenOptions options)
    : File(std::move(path), options.direct),
      life_(life),
      disk_(disk),
      inode_(std::move(inode)),
      disk_path_(std::move(disk_path)),
      writable_(options.write) {
  ++inode_->handles;
  life_.add(static_cast<Held&>(*this));
}

SimFile::~SimFile() {
  HF_ASSERT(in_flight_ == 0, "{} closed with {} operations in flight", path(), in_flight_);
  sever(Death::kKill);
}

void SimFile::sever(Death) {
  if (severed_) return;
  severed_ = true;
  Held::unlink();
  if (inode_->locked_by == this) inode_->locked_by = nullptr;
  --inode_->handles;
  inode_->update_charge();
}

Result<uint64_t> SimFile::size() const {
  if (life_.is_dead()) return dead_error("size");
  return inode_->content.size();
}

Status SimFile::try_lock() {
  if (life_.is_dead()) return dead_error("lock");
  if (inode_->locked_by != nullptr && inode_->locked_by != this) {
    return make_error(ErrorCode::kLocked, "{} is locked by another process", path());
  }
  inode_->locked_by = this;
  return Status();
}

void SimFile::drop_cache() {
  if (!life_.is_dead()) inode_->content.drop_cache();
}

Task<Status> SimFile::set_size(uint64_t size) {
  if (life_.is_dead()) co_return dead_error("set size");
  if (!writable_) co_return make_error(ErrorCode::kReadOnly, "{} is open for reading only", path());
  const bool early = disk_.prng().chance(1, 2);
  const bool at_once = disk_.prng().chance(1, 2);
  if (early) inode_->content.set_size(size, at_once);
  ++in_flight_;
  Delay delay(life_, disk_.answer_at(disk_.config().latency.name, 0));
  bool came = co_await delay;
  --in_flight_;
  if (!came) co_return dead_error("set size");
  if (disk_.is_offline()) {
    co_return make_error(ErrorCode::kIo, "set size of {}: the disk is gone", path());
  }
  if (!early) inode_->content.set_size(size, at_once);
  disk_.loop().record("set_size", inode_->number, size);
  co_return Status();
}

void SimFile::submit(IoRequest& request) {
  if (life_.is_dead()) {
    request.result = -ECANCELED;
    life_.complete(request);
    return;
  }
  (new IoOp(*this, request))->start();
}

}  // namespace hf::sim
