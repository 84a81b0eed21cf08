#include "store/map_view.h"

#include <algorithm>

#include "store/dirty_map_file.h"

namespace hf {
namespace {

// The page's runs behind those that are there; false: there is one more than asked for.
bool add_runs(const DirtyMapPage& page, uint64_t number, uint64_t from, uint64_t size, size_t max,
              std::vector<ByteRange>& out) {
  for (uint64_t at = page.find(0, true); at < kUnitsPerPage && out.size() <= max;) {
    const uint64_t end = page.find(at, false);
    const uint64_t unit = number * kUnitsPerPage + at;
    const ByteRange run =
        clipped(ByteRange{unit * kDirtyUnitBytes, (end - at) * kDirtyUnitBytes}, from, size);
    if (run.length > 0 && !out.empty() && out.back().end() == run.offset) {
      out.back().length += run.length;
    } else if (run.length > 0) {
      out.push_back(run);
    }
    at = end < kUnitsPerPage ? page.find(end, true) : end;
  }
  return out.size() <= max;
}

}  // namespace

ByteRange clipped(ByteRange range, uint64_t from, uint64_t end) {
  const uint64_t first = std::max(range.offset, from);
  const uint64_t last = std::min(range.end(), end);
  return ByteRange{first, last > first ? last - first : 0};
}

Task<Result<std::vector<ByteRange>>> read_map_ranges(FileSystem& fs, const MapView& view,
                                                     const Books& books, uint64_t from,
                                                     size_t max_ranges) {
  std::vector<ByteRange> out;
  std::unique_ptr<File> file;
  uint64_t file_pages = 0;
  bool lost = false;
  if (view.has_file) {
    OpenOptions options;
    options.direct = true;
    Result<std::unique_ptr<File>> opened = co_await fs.open(view.path, options);
    lost = opened.code() == ErrorCode::kNotFound;
    if (!lost) {
      HF_CO_TRY(opened);
      file = std::move(*opened);
      Result<uint64_t> pages = map_pages_in(*file);
      HF_CO_TRY(pages);
      file_pages = *pages;
    }
  }
  const uint64_t last_unit = (view.size - 1) / kDirtyUnitBytes;
  std::vector<LoadedMapPage> loaded;
  for (uint64_t page = from / kDirtyUnitBytes / kUnitsPerPage;
       page <= last_unit / kUnitsPerPage && out.size() <= max_ranges;) {
    loaded.assign(1, LoadedMapPage());
    if (page < file_pages) {
      DirtyMapPlace place;
      place.replica = view.replica;
      place.slot = view.slot;
      place.page = page;
      Result<std::vector<LoadedMapPage>> pages =
          co_await read_map_pages(*file, place, std::min(kMapPagesAtOnce, file_pages - page));
      HF_CO_TRY(pages);
      loaded = std::move(*pages);
    }
    // No await from here to the end of the turn: what the journal says may change at each.
    const UnitChanges* changes = books.changes(view.slot);
    if (lost) {
      loaded[0].page.set(0, kUnitsPerPage, true);
    } else if (page >= file_pages) {
      const auto next =
          changes == nullptr ? std::nullopt : changes->next_change(page * kUnitsPerPage);
      if (!next) break;
      page = *next / kUnitsPerPage;
    }
    for (LoadedMapPage& one : loaded) {
      if (changes != nullptr) apply_changes(*changes, page, one.page);
      if (!add_runs(one.page, page, from, view.size, max_ranges, out)) break;
      ++page;
    }
  }
  if (out.size() > max_ranges) out.resize(max_ranges);
  co_return std::move(out);
}

}  // namespace hf
