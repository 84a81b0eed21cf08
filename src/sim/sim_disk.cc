#include "sim/sim_disk.h"

#include <algorithm>

namespace hf::sim {
namespace {

constexpr uint64_t kPpm = 1'000'000;

uint64_t seed_of(uint64_t seed, const std::string& name) {
  for (const char c : name) seed = (seed ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return seed;
}

}  // namespace

DiskFaults DiskFaults::all(uint32_t ppm) {
  DiskFaults faults;
  faults.read_error_ppm = faults.latent_sector_ppm = faults.bit_rot_ppm = ppm;
  faults.write_error_ppm = faults.sync_error_ppm = faults.no_space_ppm = ppm;
  faults.lost_write_ppm = faults.misdirected_write_ppm = faults.lying_flush_ppm = ppm;
  faults.hang_ppm = ppm;
  return faults;
}

SimDisk::SimDisk(SimLoop& loop, std::string name, DiskConfig config)
    : loop_(loop),
      name_(std::move(name)),
      config_(std::move(config)),
      prng_(seed_of(loop.seed(), name_)),
      space_(config_.capacity_bytes / kPageSize),
      names_(space_, prng_.fork(), config_.inodes) {}

void SimDisk::hang_for(Duration d) {
  hangs_until_ = std::max(hangs_until_, loop_.now() + d.count());
  record_fault(FaultKind::kHang, "", 0, 0);
}

SimTime SimDisk::answer_at(Duration base, uint64_t bytes) {
  const DiskLatency& l = config_.latency;
  uint64_t ns = static_cast<uint64_t>(base.count()) + bytes * l.ns_per_kib / kKiB;
  ns += prng_.below(ns / 2 + 1);
  if (prng_.chance(l.tail_per_mille, 1000)) ns *= prng_.between(1, l.tail_factor);
  return std::max(loop_.now(), hangs_until_) + static_cast<SimTime>(ns * slow_factor_);
}

bool SimDisk::take_scripted(IoKind kind, const std::string& path, FaultKind* fault) {
  for (auto it = scripted_.begin(); it != scripted_.end(); ++it) {
    if (it->on != kind || path.find(it->path_part) == std::string::npos) continue;
    if (it->skip > 0) {
      --it->skip;
      continue;
    }
    *fault = it->fault;
    scripted_.erase(it);
    return true;
  }
  return false;
}

std::optional<FaultKind> SimDisk::draw(IoKind kind, const std::string& path) {
  FaultKind fault;
  if (!scripted_.empty() && take_scripted(kind, path, &fault)) return fault;
  const DiskFaults& f = config_.faults;
  struct Chance {
    uint32_t ppm;
    FaultKind kind;
  };
  const bool read = kind == IoKind::kRead;
  const bool sync = kind == IoKind::kSyncData;
  const bool durable = kind == IoKind::kWriteDurable;
  const bool write = !read && !sync;
  const Chance chances[] = {
      {read ? f.read_error_ppm : 0, FaultKind::kReadError},
      {read ? f.latent_sector_ppm : 0, FaultKind::kLatentSector},
      {sync ? 0 : f.bit_rot_ppm, FaultKind::kBitRot},
      {write ? f.write_error_ppm : 0, FaultKind::kWriteError},
      {sync || durable ? f.sync_error_ppm : 0, FaultKind::kSyncError},
      {write ? f.no_space_ppm : 0, FaultKind::kNoSpace},
      {durable ? f.lost_write_ppm : 0, FaultKind::kLostWrite},
      {durable ? f.misdirected_write_ppm : 0, FaultKind::kMisdirectedWrite},
      {sync || durable ? f.lying_flush_ppm : 0, FaultKind::kStaleSector},
      {f.hang_ppm, FaultKind::kHang},
  };
  const uint64_t draw = prng_.below(kPpm);
  uint64_t reached = 0;
  for (const Chance& chance : chances) {
    reached += chance.ppm;
    if (draw >= reached) continue;
    if (f.applies_to && !f.applies_to(path)) return std::nullopt;
    return chance.kind;
  }
  return std::nullopt;
}

void SimDisk::record_fault(FaultKind kind, const std::string& path, uint64_t offset,
                           uint64_t length) {
  ++counts_[static_cast<size_t>(kind)];
  loop_.record(fault_name(kind), offset, length);
  if (ledger_.size() < kLedgerLimit) {
    ledger_.push_back(FaultRecord{loop_.now(), kind, path, offset, length});
  }
}

FaultMask SimDisk::hits(const std::string& path, uint64_t offset, uint64_t length) const {
  InodeRef inode;
  if (names_.find(path, &inode) != 0) return 0;
  return inode->content.taints(offset, length);
}

void SimDisk::taint_sharers(const Page* page, uint64_t from, uint64_t length, FaultKind kind) {
  std::vector<uint64_t> offsets;
  for (auto& [number, inode] : names_.inodes()) {
    offsets.clear();
    inode->content.places_of(page, &offsets);
    for (const uint64_t offset : offsets) {
      inode->content.taint(offset + from, length, kind);
      record_fault(kind, names_.path_of(*inode), offset + from, length);
    }
  }
}

bool SimDisk::rot(const std::string& path, uint64_t offset) {
  InodeRef inode;
  return names_.find(path, &inode) == 0 && rot_inode(*inode, offset);
}

bool SimDisk::rot_inode(SimInode& inode, uint64_t offset) {
  Page* page = inode.content.medium_page(offset);
  if (page == nullptr) return false;
  const uint64_t at = offset % kPageSize;
  page->bytes[at] ^= static_cast<std::byte>(1u << prng_.below(8));
  taint_sharers(page, round_down(at, kSectorSize), kSectorSize, FaultKind::kBitRot);
  return true;
}

bool SimDisk::make_unreadable(const std::string& path, uint64_t offset) {
  InodeRef inode;
  return names_.find(path, &inode) == 0 && make_inode_unreadable(*inode, offset);
}

bool SimDisk::make_inode_unreadable(SimInode& inode, uint64_t offset) {
  if (inode.content.medium_page(offset) == nullptr) return false;
  inode.content.set_unreadable(round_down(offset, kSectorSize));
  record_fault(FaultKind::kLatentSector, names_.path_of(inode), round_down(offset, kSectorSize),
               kSectorSize);
  return true;
}

bool SimDisk::random_place(Place* place) {
  uint64_t total = 0;
  for (const auto& [number, inode] : names_.inodes()) total += inode->content.page_count();
  if (total == 0) return false;
  uint64_t n = prng_.below(total);
  for (const auto& [number, inode] : names_.inodes()) {
    const uint64_t here = inode->content.page_count();
    if (n >= here) {
      n -= here;
      continue;
    }
    place->inode = inode;
    return inode->content.nth_page(n, &place->offset);
  }
  return false;
}

void SimDisk::rot_somewhere() {
  Place place;
  if (!random_place(&place)) return;
  const std::string path = names_.path_of(*place.inode);
  if (path.empty() || (faults().applies_to && !faults().applies_to(path))) return;
  rot_inode(*place.inode, place.offset + prng_.below(kPageSize));
}

void SimDisk::misdirect(ByteSpan data, const SimInode& except, uint64_t except_offset) {
  Place place;
  if (!random_place(&place)) return;
  if (place.inode == &except && place.offset == round_down(except_offset, kPageSize)) return;
  const std::string path = names_.path_of(*place.inode);
  if (path.empty() || (faults().applies_to && !faults().applies_to(path))) return;
  Page* page = place.inode->content.medium_page(place.offset);
  const size_t length = std::min<size_t>(data.size(), kPageSize);
  std::memcpy(page->bytes, data.data(), length);
  taint_sharers(page, 0, round_up(length, kSectorSize), FaultKind::kMisdirectVictim);
}

void SimDisk::power_loss() {
  loop_.record("disk_power_loss", space_.used(), names_.pending_changes());
  names_.crash(config_.faults.crash, [this](const SimInode& inode, uint64_t offset) {
    record_fault(FaultKind::kStaleSector, names_.path_of(inode), offset, kSectorSize);
  });
  hangs_until_ = 0;
}

}  // namespace hf::sim
