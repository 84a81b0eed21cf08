// Reading the journal: follows the chain of batches from a checkpoint to its end, and tells a torn tail
// from corruption. Changes nothing; the caller has synced the file if it means to build on what is read
// (a batch of a process that was killed may be visible and not yet on the medium).
//
// The chain ends at the first place where no batch fits (magic, CRCs, position, sequence, link). Only
// one batch is ever in flight, so a batch that power loss tore is the last one ever written: if any
// batch with a higher sequence is found behind it, something durable is broken.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "format/journal_format.h"
#include "runtime/file.h"
#include "store/record.h"

namespace hf {

struct JournalScan {
  JournalScan() = default;
  JournalCheckpoint checkpoint;
  std::deque<std::unique_ptr<Batch>> batches;  // records without replica
  // Where the next batch goes.
  uint64_t head = 0;
  uint64_t used = 0;
  uint64_t next_sequence = 0;
  uint64_t era = 0;
  uint32_t link = 0;
  bool torn_tail = false;  // something was begun behind the end
};

// kCorruption: the message says which sequence is missing and where. kIo: the ring cannot be read.
Task<Result<JournalScan>> scan_journal(File& file, JournalCheckpoint checkpoint);

}  // namespace hf
