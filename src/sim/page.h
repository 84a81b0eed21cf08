// Pages: 4 KiB of simulated medium each, shared by reference count (reflink, and "current equals
// stable"), and the count of how many the disk has used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/assert.h"
#include "base/units.h"

namespace hf::sim {

inline constexpr uint64_t kSectorSize = 512;
inline constexpr uint64_t kPageSize = kBlockSize;
inline constexpr unsigned kSectorsPerPage = kPageSize / kSectorSize;
// One bit per sector of a page.
using SectorMask = uint8_t;
inline constexpr SectorMask kAllSectors = 0xff;

struct Page {
  uint32_t refs = 0;          // places that hold it, as current or as stable content
  uint32_t current_refs = 0;  // of these, as current content: what counts as used space
  std::byte bytes[kPageSize];
};

// Space of one disk, in pages. Counts each shared page once, as a file system with reflinks does.
class PageSpace {
 public:
  explicit PageSpace(uint64_t capacity_pages) : capacity_(capacity_pages) {}
  uint64_t capacity() const { return capacity_; }
  uint64_t used() const { return used_; }
  uint64_t free() const { return used_ < capacity_ ? capacity_ - used_ : 0; }
  void set_capacity(uint64_t pages) { capacity_ = pages; }
  void charge(uint64_t pages) { used_ += pages; }
  void discharge(uint64_t pages) {
    HF_ASSERT(used_ >= pages, "{} < {}", used_, pages);
    used_ -= pages;
  }

  // References. A page dies with its last one.
  void hold_current(Page* page) {
    ++page->refs;
    if (page->current_refs++ == 0) charge(1);
  }
  void drop_current(Page* page) {
    if (page == nullptr) return;
    if (--page->current_refs == 0) discharge(1);
    drop(page);
  }
  void hold_stable(Page* page) { ++page->refs; }
  void drop_stable(Page* page) {
    if (page != nullptr) drop(page);
  }

 private:
  static void drop(Page* page) {
    if (--page->refs == 0) delete page;
  }
  uint64_t capacity_;
  uint64_t used_ = 0;
};

inline Page* new_page(const Page* like) {
  Page* page = new Page;
  if (like != nullptr) {
    std::memcpy(page->bytes, like->bytes, kPageSize);
  } else {
    std::memset(page->bytes, 0, kPageSize);
  }
  return page;
}

}  // namespace hf::sim
