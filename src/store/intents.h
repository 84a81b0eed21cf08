// What the intents in the ring say of blocks in the image (docs/formats/store.md, "Intents"): recovery and
// the offline tools put it into the CRC tables before anybody reads the blocks.
#pragma once

#include <span>
#include <vector>

#include "format/segment_format.h"
#include "runtime/file.h"
#include "store/drain_plan.h"

namespace hf {

// The blocks whose newest record of `layer` is an intent, by segment. Blocks at or above `end` are left out:
// the replica was shrunk, after everything above had been drained. `records` in the order of the ring.
std::vector<DrainSegment> newest_intents(std::span<const Record* const> records, uint32_t layer,
                                         uint64_t blocks_per_segment, uint64_t end);

// Is there an intent among them of which nobody can say whether it ended?
bool has_open(const DrainSegment& intents);

// 0 for zeroes.
uint32_t crc_or_zero(ByteSpan block);

// Sets the entries of these blocks in the table in memory. A proven one must be what its intent says: if the
// block is not, a read tells. Of an open one whatever lies there is right, so it is read. The caller has synced the
// file if it means to build on it.
Task<Status> settle_intents(File& file, CrcTable& table, const DrainSegment& intents,
                            uint64_t blocks_per_segment);

// The entries become what lies in the blocks.
Task<Status> take_crcs_from_file(File& file, CrcTable& table, uint32_t first, uint32_t count);

}  // namespace hf
