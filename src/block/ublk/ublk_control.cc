#include "block/ublk/ublk_control.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace hf::ublk {

Result<std::unique_ptr<UblkControl>> UblkControl::create(UringLoop& loop) {
  OwnedFd fd(::open("/dev/ublk-control", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    return make_error(
        ErrorCode::kMissingFeature,
        "/dev/ublk-control cannot be opened ({}): load the kernel's ublk_drv module (Linux 6.0 or "
        "newer with CONFIG_BLK_DEV_UBLK) and run as root",
        strerror(errno));
  }
  Result<std::unique_ptr<CommandRing>> ring = CommandRing::create(loop);
  if (!ring.ok()) return ring.error();
  return std::unique_ptr<UblkControl>(new UblkControl(std::move(fd), std::move(*ring)));
}

std::vector<int> UblkControl::list() {
  std::vector<int> numbers;
  DIR* dir = opendir("/sys/class/ublk-char");
  if (dir == nullptr) return numbers;
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    int number = -1;
    if (!name.starts_with("ublkc")) continue;
    const auto parsed = std::from_chars(name.data() + 5, name.data() + name.size(), number);
    if (parsed.ec == std::errc() && parsed.ptr == name.data() + name.size())
      numbers.push_back(number);
  }
  closedir(dir);
  return numbers;
}

Task<Result<int>> UblkControl::command(std::string what, uint32_t operation, ControlCommand command,
                                       CancelToken cancel) {
  const ByteSpan bytes{reinterpret_cast<const std::byte*>(&command), sizeof command};
  co_await slots_.acquire();
  const SemaphoreUnits held(slots_, 1);
  Result<int> done = co_await ring_->raw_command(what, fd_.get(), operation, bytes, cancel);
  HF_CO_TRY(done);
  if (*done < 0 && cancel.is_cancelled()) {
    co_return make_error(ErrorCode::kCancelled, "{}: the kernel refused its queue", what);
  }
  if (*done == -ENODEV) co_return make_error(ErrorCode::kNotFound, "{}: no such device", what);
  if (*done < 0) co_return Error::from_errno(-*done, what);
  co_return done;
}

Task<Status> UblkControl::simple(const char* what, uint32_t operation, int number, uint64_t data,
                                 CancelToken cancel) {
  ControlCommand request;
  request.dev_id = static_cast<uint32_t>(number);
  request.data = data;
  Result<int> done =
      co_await command(fmt::format("{} ublk device {}", what, number), operation, request, cancel);
  HF_CO_TRY(done);
  co_return Status();
}

Task<uint64_t> UblkControl::features() {
  uint64_t features = 0;
  ControlCommand request;
  request.len = sizeof features;
  request.addr = reinterpret_cast<uint64_t>(&features);
  Result<int> done = co_await command("ask for the features of ublk", kGetFeatures, request);
  co_return done.ok() ? features : 0;
}

Task<Result<int>> UblkControl::add(uint64_t our_flags) {
  DeviceInfo wanted;
  wanted.nr_hw_queues = 1;
  wanted.queue_depth = kQueueDepth;
  wanted.max_io_buf_bytes = kMaxIoBytes;
  wanted.dev_id = UINT32_MAX;
  wanted.ublksrv_pid = getpid();
  wanted.flags = kFlagsWanted;
  wanted.ublksrv_flags = our_flags;
  ControlCommand request;
  request.dev_id = UINT32_MAX;
  request.len = sizeof wanted;
  request.addr = reinterpret_cast<uint64_t>(&wanted);
  Result<int> done = co_await command("make a ublk device", kAddDev, request);
  HF_CO_TRY(done);
  const int number = static_cast<int>(wanted.dev_id);
  if (wanted.queue_depth != kQueueDepth || (wanted.flags & kFlagsWanted) != kFlagsWanted) {
    Status removed = co_await remove(number);
    (void)removed;
    co_return make_error(ErrorCode::kMissingFeature,
                         "this kernel's ublk lacks what a restart of the daemon needs");
  }
  co_return number;
}

Task<Status> UblkControl::set_params(int number, uint64_t size_bytes) {
  Params params;
  params.len = sizeof params;
  params.types = kParamBasic | kParamDiscard;
  params.attrs = kAttrVolatileCache | kAttrFua;
  params.max_sectors = kMaxIoBytes / kSectorBytes;
  params.dev_sectors = size_bytes / kSectorBytes;
  params.discard_granularity = kBlockSize;
  params.max_discard_sectors = params.max_write_zeroes_sectors = kMaxDiscardBytes / kSectorBytes;
  ControlCommand request;
  request.dev_id = static_cast<uint32_t>(number);
  request.len = sizeof params;
  request.addr = reinterpret_cast<uint64_t>(&params);
  Result<int> done =
      co_await command(fmt::format("describe ublk device {}", number), kSetParams, request);
  HF_CO_TRY(done);
  co_return Status();
}

Task<Result<DeviceInfo>> UblkControl::info(int number) {
  DeviceInfo info;
  ControlCommand request;
  request.dev_id = static_cast<uint32_t>(number);
  request.len = sizeof info;
  request.addr = reinterpret_cast<uint64_t>(&info);
  Result<int> done =
      co_await command(fmt::format("look at ublk device {}", number), kGetDevInfo, request);
  HF_CO_TRY(done);
  co_return info;
}

Task<Status> UblkControl::start(int number, CancelToken give_up) {
  return simple("start", kStartDev, number, static_cast<uint64_t>(getpid()), give_up);
}
Task<Status> UblkControl::start_recovery(int number) {
  return simple("recover", kStartRecovery, number, 0);
}
Task<Status> UblkControl::end_recovery(int number, CancelToken give_up) {
  return simple("go on with", kEndRecovery, number, static_cast<uint64_t>(getpid()), give_up);
}
Task<Status> UblkControl::update_size(int number, uint64_t size_bytes) {
  return simple("grow", kUpdateSize, number, size_bytes / kSectorBytes);
}
Task<Status> UblkControl::stop(int number) {
  return simple("stop", kStopDev, number, 0);
}
Task<Status> UblkControl::remove(int number) {
  return simple("remove", kDelDevAsync, number, 0);
}

}  // namespace hf::ublk
