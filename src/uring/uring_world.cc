#include "uring/uring_world.h"

namespace hf {

UringWorld::UringWorld(std::unique_ptr<UringLoop> loop, size_t blocking_threads)
    : loop_(std::move(loop)),
      blocking_(blocking_threads),
      clock_(*loop_),
      fs_(*loop_, blocking_),
      net_(*loop_, clock_, blocking_),
      process_(*loop_),
      world_{*loop_, clock_, random_, fs_, net_, process_, blocking_} {}

Result<std::unique_ptr<UringWorld>> UringWorld::create(const UringWorldOptions& options) {
  Result<std::unique_ptr<UringLoop>> loop = UringLoop::create(options.ring);
  if (!loop.ok()) return loop.error();
  return std::unique_ptr<UringWorld>(new UringWorld(std::move(*loop), options.blocking_threads));
}

}  // namespace hf
