// What a dirty map says, its file and what the journal says on top of it taken together.
#pragma once

#include <string>
#include <vector>

#include "runtime/file.h"
#include "store/books.h"
#include "store/types.h"

namespace hf {

struct MapView {
  MapView() = default;
  std::string path;
  ReplicaId replica;
  uint32_t slot = 0;
  bool has_file = false;  // as the superblock says
  uint64_t size = 0;      // of the volume
};

// Its part in [from, end).
ByteRange clipped(ByteRange range, uint64_t from, uint64_t end);

// The ranges from `from` on, ascending, disjoint, inside the volume, at most so many. `books` may
// change between two reads of the file: then each piece is as of its time. kIo, kNewerFormat.
Task<Result<std::vector<ByteRange>>> read_map_ranges(FileSystem& fs, const MapView& view,
                                                     const Books& books, uint64_t from,
                                                     size_t max_ranges);

}  // namespace hf
