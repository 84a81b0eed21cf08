// What a block device carries.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "runtime/process.h"
#include "runtime/task.h"

namespace hf::mount {

struct Content {
  std::string type;         // "ext4", "xfs", "crypto_LUKS"; empty: nothing that is known
  std::string partitions;   // "gpt", "dos"; empty: no partition table
  std::string uuid, label;
  bool ambivalent = false;  // signatures of several kinds
  bool empty() const { return type.empty() && partitions.empty() && !ambivalent; }
  // "an ext4 file system labelled \"data\" (UUID …)".
  std::string describe() const;
};

// The answer of `blkid -p -o export DEVICE`: exit status and output. kIo for another exit.
Result<Content> parse_blkid(int exit_status, std::string_view output);

// Runs blkid as a helper.
Task<Result<Content>> probe(Process& process, std::string device);

}  // namespace hf::mount
