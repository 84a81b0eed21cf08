#include "block/export_manager.h"

#include <gtest/gtest.h>

#include "runtime/test_loop.h"
#include "volume/testing/memory_device.h"

namespace hf::block {
namespace {

VolumeId volume(uint64_t n) {
  return VolumeId::from_random(n, n * 7);
}

// A kernel that does as it is told.
class FakeDriver final : public Driver {
 public:
  FakeDriver(ExportKind kind, bool offered, bool survives) : kind_(kind) {
    offer.kind = kind;
    offer.offered = offered;
    offer.survives_restart = survives;
    if (!offered) offer.why_not = "this kernel is too old";
  }
  ExportKind kind() const override { return kind_; }
  Task<Offer> start() override { co_return offer; }
  Task<Result<ExportInfo>> attach(VolumeId v, std::shared_ptr<BlockDevice>) override {
    ++inside;
    most_inside = std::max(most_inside, inside);
    co_await yield();
    --inside;
    ++attached;
    std::erase_if(left, [&](const ExportInfo& info) { return info.volume == v; });
    ExportInfo info;
    info.volume = v;
    info.kind = kind_;
    info.device = "/dev/fake0";
    co_return info;
  }
  Task<Status> detach(VolumeId) override {
    ++detached;
    if (busy) co_return Error(ErrorCode::kInUse, "mounted");
    co_return Status();
  }
  Task<Status> resized(VolumeId) override { co_return Status(); }
  Task<Result<std::vector<ExportInfo>>> orphans() override { co_return left; }
  Task<Status> park() override { co_return Status(); }
  size_t served() const override { return 0; }

  Offer offer;
  std::vector<ExportInfo> left;
  int attached = 0, detached = 0, inside = 0, most_inside = 0;
  bool busy = false;

 private:
  const ExportKind kind_;
};

struct Bench {
  Bench(bool ublk, bool nbd, bool fuse, bool fuse_survives = true) {
    std::vector<std::unique_ptr<Driver>> drivers;
    const auto add = [&](ExportKind kind, bool offered, bool survives) {
      auto made = std::make_unique<FakeDriver>(kind, offered, survives);
      FakeDriver* raw = made.get();
      drivers.push_back(std::move(made));
      return raw;
    };
    u = add(ExportKind::kUblk, ublk, true);
    n = add(ExportKind::kNbd, nbd, true);
    f = add(ExportKind::kFuseLoop, fuse, fuse_survives);
    manager = std::make_unique<ExportManager>(std::move(drivers));
    start_status = run(manager->start());
  }
  template <typename T>
  static Task<void> keep(Task<T> task, std::optional<T>* out) {
    T value = co_await std::move(task);
    out->emplace(std::move(value));
  }
  template <typename T>
  T run(Task<T> task) {
    std::optional<T> out;
    Gate gate;
    EXPECT_TRUE(spawn(gate, keep<T>(std::move(task), &out)));
    loop.run();
    return std::move(*out);
  }
  Result<ExportInfo> attach(uint64_t v, ExportKind kind = ExportKind::kNone) {
    return run(manager->attach(volume(v), kind, std::make_shared<MemoryDevice>(kMiB)));
  }
  TestLoop loop;
  FakeDriver *u, *n, *f;
  std::unique_ptr<ExportManager> manager;
  Status start_status;
};

TEST(ExportManager, ChoosesTheBestThatIsOffered) {
  EXPECT_EQ(Bench(true, true, true).attach(1)->kind, ExportKind::kUblk);
  EXPECT_EQ(Bench(false, true, true).attach(1)->kind, ExportKind::kNbd);
  EXPECT_EQ(Bench(false, false, true).attach(1)->kind, ExportKind::kFuseLoop);
}

TEST(ExportManager, PutsWhatDoesNotSurviveLast) {
  Bench bench(false, true, true, false);
  EXPECT_EQ(bench.manager->offered().back(), ExportKind::kFuseLoop);
  bench.n->offer.survives_restart = false;
  bench.f->offer.survives_restart = true;
  ASSERT_TRUE(bench.run(bench.manager->start()).ok());
  EXPECT_EQ(bench.manager->offered().front(), ExportKind::kFuseLoop);
}

TEST(ExportManager, PrefersWhatCanGrow) {
  Bench bench(true, true, true);
  bench.u->offer.grows_online = false;
  ASSERT_TRUE(bench.run(bench.manager->start()).ok());
  EXPECT_EQ(bench.manager->offered().front(), ExportKind::kNbd);
  EXPECT_EQ(bench.attach(1, ExportKind::kUblk)->kind,
            ExportKind::kUblk);  // it is there for who asks
  bench.n->offer.offered = bench.n->offer.survives_restart = false;
  bench.f->offer.survives_restart = false;
  ASSERT_TRUE(bench.run(bench.manager->start()).ok());
  EXPECT_EQ(bench.manager->offered().front(), ExportKind::kUblk);
}

TEST(ExportManager, SaysWhyNothingIsOffered) {
  Bench bench(false, false, false);
  EXPECT_EQ(bench.start_status.code(), ErrorCode::kMissingFeature);
  EXPECT_NE(bench.start_status.error().message().find("too old"), std::string::npos);
  EXPECT_EQ(bench.attach(1).code(), ErrorCode::kMissingFeature);
}

TEST(ExportManager, TakesTheKindAskedFor) {
  Bench bench(true, false, true);
  EXPECT_EQ(bench.attach(1, ExportKind::kFuseLoop)->kind, ExportKind::kFuseLoop);
  const Result<ExportInfo> lacking = bench.attach(2, ExportKind::kNbd);
  EXPECT_EQ(lacking.code(), ErrorCode::kMissingFeature);
  EXPECT_NE(lacking.error().message().find("too old"), std::string::npos);
  // Again, and by another kind while it is there.
  EXPECT_EQ(bench.attach(1)->kind, ExportKind::kFuseLoop);
  EXPECT_EQ(bench.attach(1, ExportKind::kUblk).code(), ErrorCode::kInUse);
}

TEST(ExportManager, AdoptsAnOrphanByItsOwnKind) {
  Bench bench(true, true, true);
  ExportInfo orphan;
  orphan.volume = volume(5);
  orphan.kind = ExportKind::kFuseLoop;
  bench.f->left.push_back(orphan);
  EXPECT_EQ(bench.run(bench.manager->orphans())->size(), 1u);
  EXPECT_EQ(bench.attach(5)->kind, ExportKind::kFuseLoop);
  EXPECT_EQ(bench.run(bench.manager->orphans())->size(), 0u);
}

TEST(ExportManager, DetachKeepsWhatIsInUse) {
  Bench bench(false, false, true);
  ASSERT_TRUE(bench.attach(1).ok());
  bench.f->busy = true;
  EXPECT_EQ(bench.run(bench.manager->detach(volume(1))).code(), ErrorCode::kInUse);
  EXPECT_TRUE(bench.run(bench.manager->resized(volume(1))).ok());
  bench.f->busy = false;
  EXPECT_TRUE(bench.run(bench.manager->detach(volume(1))).ok());
  EXPECT_EQ(bench.run(bench.manager->resized(volume(1))).code(), ErrorCode::kNotAttached);
  EXPECT_TRUE(bench.run(bench.manager->detach(volume(1))).ok());
}

Task<void> attach_into(ExportManager& manager, VolumeId v, int* ok) {
  Result<ExportInfo> made =
      co_await manager.attach(v, ExportKind::kNone, std::make_shared<MemoryDevice>(kMiB));
  if (made.ok()) ++*ok;
}

TEST(ExportManager, OneAtATimePerVolume) {
  Bench bench(false, false, true);
  Gate gate;
  int ok = 0;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(spawn(gate, attach_into(*bench.manager, volume(1), &ok)));
  bench.loop.run();
  EXPECT_EQ(ok, 5);
  EXPECT_EQ(bench.f->most_inside, 1);
  for (uint64_t i = 2; i < 5; ++i)
    ASSERT_TRUE(spawn(gate, attach_into(*bench.manager, volume(i), &ok)));
  bench.loop.run();
  EXPECT_EQ(bench.f->most_inside, 3);
}

TEST(ExportKind, NamesGoBothWays) {
  for (const ExportKind kind : {ExportKind::kUblk, ExportKind::kNbd, ExportKind::kFuseLoop}) {
    EXPECT_EQ(export_kind_from_name(export_kind_name(kind)), kind);
  }
  EXPECT_EQ(export_kind_from_name("floppy"), ExportKind::kNone);
}

}  // namespace
}  // namespace hf::block
