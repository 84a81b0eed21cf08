#include "uring/real_world_under_test.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "uring/fs_calls.h"
#include "uring/owned_fd.h"
#include "uring/uring_world.h"

namespace hf {
namespace {

constexpr Duration kReasonableTime = 120s;

class RealWorldUnderTest final : public contract::WorldUnderTest {
 public:
  explicit RealWorldUnderTest(bool plain_ring) {
    UringWorldOptions options;
    options.ring.plain_ring = plain_ring;
    Result<std::unique_ptr<UringWorld>> real = UringWorld::create(options);
    HF_ASSERT(real.ok(), "{}", real.error().to_string());
    real_ = std::move(*real);
    const char* wanted = std::getenv("HF_TEST_DIR");
    std::string base = wanted != nullptr ? wanted : std::filesystem::current_path().string();
    dir_ = base + "/hf-contract-XXXXXX";
    HF_ASSERT(mkdtemp(dir_.data()) != nullptr, "mkdtemp {}", dir_);
    look_at_file_system();
  }
  ~RealWorldUnderTest() override {
    real_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  World& world() override { return real_->world(); }
  std::string scratch_dir() override { return dir_; }
  void run(Task<void> task) override { real_->loop().run_until(watched(std::move(task))); }
  bool has_direct_io() override { return direct_; }
  bool has_reflinks() override { return reflinks_; }
  bool has_holes() override { return holes_; }

 private:
  // A task that hangs cannot be unwound: the test binary ends, loudly.
  Task<void> guard(CancelToken done) {
    Status slept = co_await real_->world().clock.sleep_for(kReasonableTime, done);
    HF_ASSERT(!slept.ok(), "the task did not end within {} s", kReasonableTime / 1s);
  }
  Task<void> watched(Task<void> task) {
    Gate gate;
    CancelSource done;
    spawn(gate, guard(done));
    co_await std::move(task);
    done.cancel();
    co_await gate.close();
  }
  void look_at_file_system() {
    const std::string a = dir_ + "/probe-a", b = dir_ + "/probe-b";
    const OwnedFd fd(::open(a.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    HF_ASSERT(fd.valid(), "{}", a);
    HF_ASSERT(ftruncate(fd.get(), 65536) == 0);
    direct_ = OwnedFd(::open(a.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)).valid();
    holes_ = fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 &&
             fallocate(fd.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0;
    reflinks_ = fs_calls::reflink(a, b).ok();
    ::unlink(a.c_str());
    ::unlink(b.c_str());
  }

  std::unique_ptr<UringWorld> real_;
  std::string dir_;
  bool direct_ = false, holes_ = false, reflinks_ = false;
};

}  // namespace

std::unique_ptr<contract::WorldUnderTest> make_real_world() {
  return std::make_unique<RealWorldUnderTest>(false);
}
std::unique_ptr<contract::WorldUnderTest> make_plain_ring_world() {
  return std::make_unique<RealWorldUnderTest>(true);
}

}  // namespace hf
