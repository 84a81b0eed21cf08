// The drivers of the product, best first, for ExportManager.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "block/driver.h"
#include "block/kernel_io.h"
#include "runtime/world.h"
#include "uring/uring_loop.h"

namespace hf::block {

struct DriverSettings {
  DriverSettings() = default;
  std::string run_dir;         // absolute, the same for every daemon of this node: /run/holdfast
  std::string holder_socket;   // empty: no holder, FUSE exports end with the daemon
  std::string holder_program;  // starts a holder that died; empty: nobody does
};

// `world`, `loop` and `io` outlive the drivers.
std::vector<std::unique_ptr<Driver>> make_default_drivers(World& world, UringLoop& loop,
                                                          KernelIo& io,
                                                          const DriverSettings& settings);

// Makes sure that a holder serves `socket`: starts `program` (holdfast-holder) unless one answers.
// Under systemd the holder is a unit of its own and this finds it running. True when it was started here.
Task<Result<bool>> ensure_holder(World& world, std::string program, std::string socket);

}  // namespace hf::block
