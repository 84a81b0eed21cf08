// SimContent: the bytes of one simulated file, twice: what a read sees now (*current*), and what a
// power loss would leave (*stable*). The difference is tracked per 512-byte sector (*dirty*).
//
//   write ──► current ──sync, durable write, writeback──► stable
//                 power loss: each dirty sector kept, lost or torn; then current = stable
//
// Synchronous and without latency or failures of its own (SimFile adds those); only "no space"
// comes from here. Sparse: a place never written costs nothing. Clones share pages.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/prng.h"
#include "sim/fault_kind.h"
#include "sim/page.h"

namespace hf::sim {

// What power loss does to sectors that were not yet stable, in percent; the rest is lost.
struct CrashOdds {
  uint32_t kept_percent = 50;
  uint32_t torn_percent = 5;  // the sector itself is cut: its front new, its tail old
  // Files differ: of some everything is lost, of some everything is kept, of others nearly.
  bool vary_by_file = true;
};

class SimContent {
 public:
  explicit SimContent(PageSpace& space) : space_(space) {}
  ~SimContent();
  SimContent(const SimContent&) = delete;
  SimContent& operator=(const SimContent&) = delete;

  uint64_t size() const { return size_; }
  uint64_t stable_size() const { return stable_size_; }
  uint64_t allocated_bytes() const { return allocated_pages_ * kPageSize; }
  bool has_dirty() const { return !dirty_pages_.empty() || size_ != stable_size_; }

  // Current content, zeroes in holes. False when a sector of the range cannot be read (latent
  // error). A direct read does not see the host's cache: pages whose write-back failed show what
  // the medium has.
  [[nodiscard]] bool read(uint64_t offset, MutableByteSpan out, bool direct);

  enum class Landing : uint8_t {
    kCached,     // current only
    kDurable,    // current and stable
    kCacheOnly,  // current, believed stable, and the medium never gets it (a lost buffered write)
  };
  // Grows the file where needed. False when the disk is full: what came before is written.
  [[nodiscard]] bool write(uint64_t offset, ByteSpan data, Landing landing);
  // Whole pages become holes, edges zeroes. The size stays.
  [[nodiscard]] bool punch(uint64_t offset, uint64_t length);
  // Reads as zeroes, stays allocated. The size stays.
  [[nodiscard]] bool zero(uint64_t offset, uint64_t length);
  [[nodiscard]] bool allocate(uint64_t offset, uint64_t length);
  // `at_once`: durable immediately; else a power loss undoes it, with all that came after it,
  // unless something of the file becomes stable before (a journal commits in order).
  void set_size(uint64_t size, bool at_once);

  // A sync in two halves, as the device sees it: what was dirty when it began is stable when it
  // ends; what came in between stays dirty.
  uint64_t begin_sync() { return generation_++; }
  void finish_sync(uint64_t began);
  // The other end of a sync: each dirty sector made it or not, and the kernel forgets that it was
  // dirty.
  void fail_sync(Prng& prng);
  // Writes one page back now, as the kernel may at any time.
  void write_back(uint64_t offset);
  // Forgets cached pages whose write-back failed.
  void drop_cache();

  // Returns the offsets of the sectors that a lying device lost (now marked as kStaleSector).
  std::vector<uint64_t> crash(Prng& prng, const CrashOdds& odds);
  // Shares all of `from`'s current content; not stable until synced. This content must be empty.
  void clone_from(const SimContent& from);

  // Deletion: the space of an unlinked file counts as free (its stable content may still come
  // back).
  void set_charged(bool charged);

  // --- damage
  // ------------------------------------------------------------------------------------------- The
  // page of the medium at `offset` (null in holes), to be damaged in place: whoever shares it sees
  // it.
  Page* medium_page(uint64_t offset) const;
  // The sector of current content can no longer be read, until it is written.
  void set_unreadable(uint64_t offset);
  // Dirty sectors of the range were acknowledged as durable by a device that lied: what a power
  // loss takes of them is marked as kStaleSector.
  void mark_lied(uint64_t offset, uint64_t length);
  void mark_all_lied();
  void taint(uint64_t offset, uint64_t length, FaultKind kind);
  FaultMask taints(uint64_t offset, uint64_t length) const;
  uint64_t page_count() const { return allocated_pages_; }
  // The n-th written page, as an offset; false when there are fewer.
  bool nth_page(uint64_t n, uint64_t* offset) const;
  // Appends the offsets of the places that have `page` as content.
  void places_of(const Page* page, std::vector<uint64_t>* offsets) const;

 private:
  struct Slot {
    Page* current = nullptr;   // null: a hole, or reserved and never written
    Page* stable = nullptr;    // equals current while the slot is clean
    uint64_t first_dirty = 0;  // generation of the oldest change not yet stable
    SectorMask dirty = 0;      // sectors that differ (or may) from stable
    SectorMask bad = 0;        // latent sector errors
    SectorMask lied = 0;       // of the dirty ones: acknowledged as durable
    bool reserved = false;     // allocated, never written
    bool stale_cache = false;  // clean, and yet current is not what the medium has
    bool listed = false;       // in dirty_pages_
    bool tainted = false;      // has an entry in taints_
  };
  static constexpr uint64_t kSlotsPerChunk = 64;
  using Chunk = std::array<Slot, kSlotsPerChunk>;

  Slot* find(uint64_t page) const;
  Slot& make(uint64_t page);
  void mark_dirty(uint64_t page, Slot& slot, SectorMask sectors);
  void settle(uint64_t page, Slot& slot);  // stable := current
  // The slot's current content becomes a hole (or a reservation).
  void clear_current(uint64_t page, Slot& slot, bool reserve, bool also_stable);
  bool write_piece(uint64_t page, size_t at, ByteSpan data, Landing landing);
  bool own_current(Slot& slot, bool also_stable);
  void make_stable_sectors(uint64_t page, Slot& slot, SectorMask sectors);
  void set_current(Slot& slot, Page* page);
  void set_stable(Slot& slot, Page* page);
  void evict(Slot& slot);
  void crash_slot(uint64_t page, Slot& slot, Prng& prng, const CrashOdds& odds,
                  std::vector<uint64_t>* betrayed);
  void clear_taint(uint64_t page, Slot& slot, SectorMask sectors);
  void commit_cut();
  void zero_tail_of(Page*& page, bool current, size_t from);
  void cut_slots(uint64_t size, bool also_stable);

  PageSpace& space_;
  std::map<uint64_t, std::unique_ptr<Chunk>> chunks_;
  mutable uint64_t last_chunk_index_ = ~uint64_t{0};
  mutable Chunk* last_chunk_ = nullptr;
  std::vector<uint64_t> dirty_pages_;  // listed, in the order of becoming so
  std::vector<uint64_t> stale_pages_;  // with stale_cache
  std::map<uint64_t, std::array<SectorMask, kFaultKinds>> taints_;
  uint64_t size_ = 0;
  uint64_t stable_size_ = 0;
  uint64_t allocated_pages_ = 0;  // written or reserved
  uint64_t generation_ = 1;
  bool cut_deferred_ = false;  // a shrink that the next power loss undoes
  uint64_t cut_at_ = 0;        // the smallest size since
  bool charged_ = true;
};

}  // namespace hf::sim
