// UringWorld: the real world, one of each seam, for one loop's thread.
//
//   Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
//   (*real)->loop().run_until(main_task((*real)->world()));
#pragma once

#include <memory>

#include "base/error.h"
#include "runtime/world.h"
#include "uring/blocking_pool.h"
#include "uring/uring_clock.h"
#include "uring/uring_fs.h"
#include "uring/uring_loop.h"
#include "uring/uring_net.h"
#include "uring/uring_process.h"
#include "uring/uring_random.h"

namespace hf {

struct UringWorldOptions {
  UringOptions ring;
  size_t blocking_threads = 8;  // at most; made on demand
};

class UringWorld {
 public:
  // kMissingFeature, with what to change, where io_uring is not to be had.
  static Result<std::unique_ptr<UringWorld>> create(const UringWorldOptions& options);

  UringLoop& loop() { return *loop_; }
  World& world() { return world_; }

 private:
  UringWorld(std::unique_ptr<UringLoop> loop, size_t blocking_threads);

  std::unique_ptr<UringLoop> loop_;
  ThreadPool blocking_;  // behind the loop: its threads post to it until they are joined
  UringClock clock_;
  UringRandom random_;
  UringFileSystem fs_;
  UringNetwork net_;
  UringProcess process_;
  World world_;
};

}  // namespace hf
