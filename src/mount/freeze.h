// Freezing a file system for the moment of a snapshot. While it is frozen its writers wait, so whatever happens it must
// be thawed again: that is the work of a process of its own, the guard, which is this very program run anew.
//
//   holdfastd freeze-guard PATH LIMIT_MS   writes the file system back, freezes it, leaves the guard behind, exits
//   holdfastd thaw-guard PATH              asks the guard to thaw it and to end
//
// The guard thaws when asked, when the limit has passed, and when the daemon that started it has ended, however it
// ended. Where guard and daemon were killed together, the next daemon knows from its records that a file system may be
// frozen, and thaw-guard finds no guard: it thaws by itself, and proves it (see thaw_for_certain in freeze.cc).
//
// Programs, not threads: freezing and thawing write to a device that the daemon serves (README, the rule of helpers).
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/clock.h"
#include "runtime/process.h"
#include "runtime/task.h"

namespace hf::mount {

inline constexpr char kFreezeGuard[] = "freeze-guard";
inline constexpr char kThawGuard[] = "thaw-guard";

// What main() does when its first argument is one of the two; the exit status.
int freeze_main(int argc, char** argv);

// The file system mounted at `path` is frozen, all that was written before is on its device. `limit`: of the time that
// writers wait. kInUse: somebody else has frozen it; kNotSupported: it cannot be frozen. After any other error it may be
// frozen: call thaw().
Task<Status> freeze(Process& process, std::string path, Duration limit);
// It is not frozen afterwards, whoever froze it. True: it was by freeze(), until now. False: it was let go before (the
// limit, another daemon), or never was. Success where nothing is mounted at `path`.
Task<Result<bool>> thaw(Process& process, std::string path);

}  // namespace hf::mount
