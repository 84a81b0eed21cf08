// A dirty map's file: its pages as they are believed, and how they are replaced.
//
// Of two copies that hold, the one of the higher generation counts; of one that is broken or cannot
// be read, the other. When neither holds, every bit of the page is set and the log tells: too much
// is copied then, never too little.
#pragma once

#include <string>
#include <vector>

#include "format/dirty_map_format.h"
#include "runtime/file.h"
#include "store/unit_changes.h"

namespace hf {

// Pages read or written at a time.
inline constexpr uint64_t kMapPagesAtOnce = 64;

struct LoadedMapPage {
  DirtyMapPage page;
  bool settled = false;  // both copies hold and say the same
  bool lost = false;     // neither holds: every bit is set
  uint32_t other = 0;    // the copy that may be overwritten first
};

// `first.page` and those behind it, at most kMapPagesAtOnce; what lies behind the end of the file
// is empty. kNewerFormat.
Task<Result<std::vector<LoadedMapPage>>> read_map_pages(File& file, DirtyMapPlace first,
                                                        uint64_t count);

// Pages that the file reaches into.
Result<uint64_t> map_pages_in(const File& file);

// What the changes say of this page, put into it. True: they set a bit, new or not.
bool apply_changes(const UnitChanges& changes, uint64_t number, DirtyMapPage& page);

// Brings the pages that the changes touch up to date: both copies, each durable before the next is
// touched, read back. `newest` joins the stamp of each page that gets a bit. `all_lost`: the file
// had been there and is not: all pages up to that of `last_unit` start with every bit set.
// kNoSpace: some may be as before, none is broken.
struct MapUpdate {
  DirtyMapPlace place;  // its page counts for nothing
  Stamp newest;
  Stamp newest_if_lost;
  bool all_lost = false;
  uint64_t last_unit = 0;
};
Task<Status> update_map(File& file, MapUpdate update, const UnitChanges& changes);

}  // namespace hf
