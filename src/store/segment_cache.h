// Open segment files with their CRC tables, shared by readers and the drain; bounded by files and by
// bytes of tables, least recently used first. An entry in use is never evicted, so that there is one
// table per file: what the drain changes, readers see.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "format/segment_format.h"
#include "runtime/file.h"
#include "runtime/sync.h"
#include "store/group_sync.h"

namespace hf {

struct Segment {
  Segment(std::unique_ptr<File> f, CrcTable t) : file(std::move(f)), table(std::move(t)) {}

  std::unique_ptr<File> file;  // read-write, direct
  CrcTable table;
  // Readers that see a CRC mismatch compare: the drain was here meanwhile → read again.
  uint64_t version = 0;
  bool draining = false;
  Signal drained;
  // Of large writes (large_write.h).
  GroupSync group_sync;
  uint64_t name = 1;     // ReplicaImpl::new_name()
  bool locked = false;   // the file, see ReplicaImpl::head_file()
  uint32_t pins = 0;     // batches that keep it open

  void begin_drain() {
    HF_ASSERT(!draining);
    draining = true;
    ++version;
  }
  void end_drain() {
    draining = false;
    ++version;
    drained.notify_all();
  }
};

// Where a segment file lies and how it is made up.
struct SegmentPlace {
  SegmentPlace() = default;
  uint64_t owner = 0;  // the replica's number in this process
  std::string directory;
  ReplicaId family;
  SegmentGeometry geometry;
};

// After CrcTable::load: poisons entries of a doubtful page that say "never written" of a block that is not
// zeroes (see segment_cache.cc).
Task<Status> settle_doubtful_page(File& file, CrcTable& table, uint32_t page);

class SegmentCache {
 public:
  SegmentCache(FileSystem& fs, uint32_t max_files, uint64_t max_table_bytes)
      : fs_(fs), max_files_(max_files), max_table_bytes_(max_table_bytes) {}
  SegmentCache(const SegmentCache&) = delete;
  SegmentCache& operator=(const SegmentCache&) = delete;

  // Opens it and reads its table if need be. A table page of which both copies are broken is logged,
  // counted and poisoned: its blocks read as kCorruption. A file that is missing or short is kCorruption.
  Task<Result<std::shared_ptr<Segment>>> get(const SegmentPlace& place, SegmentKey key);
  // The one that is open already, else null: never waits.
  std::shared_ptr<Segment> find(const SegmentPlace& place, SegmentKey key);
  // For a file that the drain has just made.
  void put(const SegmentPlace& place, SegmentKey key, std::shared_ptr<Segment> segment);
  // Forgets one, or all of an owner (before they are unlinked).
  void drop(uint64_t owner, SegmentKey key);
  void drop_owner(uint64_t owner);
  uint64_t broken_pages() const { return broken_pages_; }
  size_t size() const { return entries_.size(); }

 private:
  struct Key {
    uint64_t owner;
    SegmentKey segment;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      uint64_t h = key.owner * 0x9e3779b97f4a7c15 + key.segment.index;
      h = h * 0x9e3779b97f4a7c15 + key.segment.layer;
      return static_cast<size_t>(h ^ (h >> 29));
    }
  };
  struct Entry {
    Key key;
    std::shared_ptr<Segment> segment;  // null while it is being opened
    std::shared_ptr<Event> opened;
    uint64_t table_bytes = 0;
  };
  using Lru = std::list<Entry>;  // front: most recent

  Task<Result<std::shared_ptr<Segment>>> load(const SegmentPlace& place, SegmentKey key);
  void trim();
  void forget(Lru::iterator it);

  FileSystem& fs_;
  uint32_t max_files_;
  uint64_t max_table_bytes_;
  uint64_t table_bytes_ = 0;
  uint64_t broken_pages_ = 0;
  Lru lru_;
  std::unordered_map<Key, Lru::iterator, KeyHash> entries_;
};

}  // namespace hf
