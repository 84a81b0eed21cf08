// What of ublk needs no kernel that has it; the rest is tests/block/block_ublk_machine.py.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "block/ublk/ublk_driver.h"
#include "block/ublk/ublk_wire.h"
#include "uring/uring_world.h"

namespace hf::ublk {
namespace {

TEST(UblkWire, HasTheKernelsLayout) {
  EXPECT_EQ(offsetof(ControlCommand, addr), 8u);
  EXPECT_EQ(offsetof(ControlCommand, data), 16u);
  EXPECT_EQ(offsetof(DeviceInfo, dev_id), 12u);
  EXPECT_EQ(offsetof(DeviceInfo, flags), 24u);
  EXPECT_EQ(offsetof(DeviceInfo, ublksrv_flags), 32u);
  EXPECT_EQ(offsetof(Params, max_sectors), 16u);
  EXPECT_EQ(offsetof(Params, dev_sectors), 24u);
  EXPECT_EQ(offsetof(Params, discard_alignment), 40u);
  EXPECT_EQ(offsetof(Params, max_discard_segments), 56u);
}

TEST(UblkWire, EncodesCommandNumbersAsTheKernelDoes) {
  // _IOC(direction, 'u', number, size)
  const auto ioc = [](uint32_t direction, uint32_t number, uint32_t size) {
    return direction << 30 | size << 16 | uint32_t{'u'} << 8 | number;
  };
  constexpr uint32_t kRead = 2, kReadWrite = 3;
  EXPECT_EQ(kGetDevInfo, ioc(kRead, 0x02, sizeof(ControlCommand)));
  EXPECT_EQ(kAddDev, ioc(kReadWrite, 0x04, sizeof(ControlCommand)));
  EXPECT_EQ(kStartDev, ioc(kReadWrite, 0x06, sizeof(ControlCommand)));
  EXPECT_EQ(kStopDev, ioc(kReadWrite, 0x07, sizeof(ControlCommand)));
  EXPECT_EQ(kSetParams, ioc(kReadWrite, 0x08, sizeof(ControlCommand)));
  EXPECT_EQ(kStartRecovery, ioc(kReadWrite, 0x10, sizeof(ControlCommand)));
  EXPECT_EQ(kEndRecovery, ioc(kReadWrite, 0x11, sizeof(ControlCommand)));
  EXPECT_EQ(kGetFeatures, ioc(kRead, 0x13, sizeof(ControlCommand)));
  EXPECT_EQ(kDelDevAsync, ioc(kRead, 0x14, sizeof(ControlCommand)));
  EXPECT_EQ(kUpdateSize, ioc(kReadWrite, 0x15, sizeof(ControlCommand)));
  EXPECT_EQ(kFetch, ioc(kReadWrite, 0x20, sizeof(IoCommand)));
  EXPECT_EQ(kCommitAndFetch, ioc(kReadWrite, 0x21, sizeof(IoCommand)));
}

TEST(UblkWire, ATagsWindowHoldsTheLongestRequest) {
  EXPECT_EQ(data_position(0), 0x80000000u);
  EXPECT_GE(data_position(1) - data_position(0), kMaxIoBytes);
}

TEST(UblkDriver, KeysTellVolumesAndRunDirectoriesApart) {
  const VolumeId one = VolumeId::from_random(1, 2), other = VolumeId::from_random(3, 2);
  EXPECT_EQ(device_key("/run/a/ublk", one), device_key("/run/a/ublk", one));
  EXPECT_NE(device_key("/run/a/ublk", one), device_key("/run/a/ublk", other));
  EXPECT_NE(device_key("/run/a/ublk", one), device_key("/run/b/ublk", one));
}

Task<void> start_and_tell(World& world, UringLoop& loop, block::Offer* offer) {
  UblkDriver driver(world, loop, "/nonexistent");
  *offer = co_await driver.start();
}

TEST(UblkDriver, SaysWhyItIsNotOffered) {
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  ASSERT_TRUE(real.ok()) << real.error().to_string();
  block::Offer offer;
  (*real)->loop().run_until(start_and_tell((*real)->world(), (*real)->loop(), &offer));
  if (access("/dev/ublk-control", F_OK) == 0) GTEST_SKIP() << "this kernel has ublk";
  EXPECT_EQ(offer.kind, block::ExportKind::kUblk);
  EXPECT_FALSE(offer.offered);
  EXPECT_FALSE(offer.survives_restart);
  EXPECT_NE(offer.why_not.find("ublk_drv"), std::string::npos) << offer.why_not;
}

}  // namespace
}  // namespace hf::ublk
