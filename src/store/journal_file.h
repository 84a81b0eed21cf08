// The journal as a file: making it, its checkpoints.
#pragma once

#include <memory>
#include <string>

#include "format/journal_format.h"
#include "runtime/file.h"

namespace hf {

// Writes the whole file once with zeroes, so that later writes move no metadata, then the first
// checkpoint; durable with its name. An existing file is overwritten.
Task<Result<std::unique_ptr<File>>> create_journal(FileSystem& fs, std::string path,
                                                   JournalCheckpoint first, uint64_t file_bytes);
// The valid checkpoint of the higher generation. kCorruption when neither is valid, kWrongOwner when it
// is another pool's.
Task<Result<JournalCheckpoint>> read_checkpoint(File& file, PoolId pool);
// Durable when ok; read back and compared, because one lost write here would hide all later batches.
Task<Status> write_checkpoint(File& file, const JournalCheckpoint& checkpoint);

}  // namespace hf
