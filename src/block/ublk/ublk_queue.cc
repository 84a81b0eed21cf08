#include "block/ublk/ublk_queue.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "runtime/fault_point.h"

namespace hf::ublk {
namespace {

constexpr size_t kMappedBytes = round_up(kQueueDepth * sizeof(IoDescriptor), kBlockSize);

ByteSpan bytes_of(const IoCommand& command) {
  return {reinterpret_cast<const std::byte*>(&command), sizeof command};
}

}  // namespace

UblkQueue::~UblkQueue() {
  HF_ASSERT(!commands_, "stop() comes before the end");
  if (descriptors_ != nullptr) munmap(const_cast<IoDescriptor*>(descriptors_), kMappedBytes);
}

Status UblkQueue::open(int number) {
  const std::string path = "/dev/ublkc" + std::to_string(number);
  fd_ = OwnedFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd_.valid()) return Error::from_errno(errno, "open " + path);
  Result<std::unique_ptr<CommandQueue>> made = CommandQueue::create(
      loop_, kQueueDepth, [this](uint16_t tag, int32_t result) { on_complete(tag, result); });
  if (!made.ok()) return made.error();
  commands_ = std::move(*made);
  HF_TRY(fetch_all());
  void* mapped = mmap(nullptr, kMappedBytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd_.get(), 0);
  if (mapped == MAP_FAILED) return Error::from_errno(errno, "map the request queue of " + path);
  descriptors_ = static_cast<const IoDescriptor*>(mapped);
  HF_ASSERT(spawn(dispatcher_, dispatch()));
  return Status();
}

// All in one system call, which a kill cannot cut in two: a queue that is fetched by half cannot be
// recovered. They come without CAP_SYS_ADMIN: then the kernel leaves the partition scan out of
// START_DEV; with the scan, a kill -9 at that moment hangs the device until the next reboot, and a
// volume has no partitions anyway.
Status UblkQueue::fetch_all() {
  const Result<uint16_t> without = commands_->personality_without(CAP_SYS_ADMIN);
  HF_TRY(without);
  for (uint16_t tag = 0; tag < kQueueDepth; ++tag) {
    IoCommand command;
    command.tag = tag;
    // The kernel refuses a tag that the queue does not have.
    if (HF_FAULT_POINT("ublk.refused_fetch") && tag == kQueueDepth / 2) command.tag = kQueueDepth;
    command.result = -1;
    commands_->prepare(tag, fd_.get(), kFetch, bytes_of(command), *without);
  }
  return commands_->submit();
}

void UblkQueue::on_complete(uint16_t tag, int32_t result) {
  if (result == 0) {
    arrived_.push_back(tag);
  } else {
    ++ended_tags_;
    // START_DEV and END_USER_RECOVERY wait for all tags: they need not wait any longer.
    refused_.cancel();
    if (result != -ENODEV && !stopping_) {
      HF_LOG(kError, "block", "ublk_fetch_failed device={} tag={} error=\"{}\"", name_, tag,
             strerror(-result));
    }
  }
  changed_.notify_all();
}

// Starts what has arrived, and hands over all answers given since in one system call.
Task<void> UblkQueue::dispatch() {
  while (!stopping_ || requests_.inside() > 0 || unsubmitted_) {
    while (!stopping_ && !arrived_.empty()) {
      const uint16_t tag = arrived_.front();
      arrived_.pop_front();
      HF_ASSERT(spawn(requests_, run(tag)));
    }
    if (unsubmitted_) {
      unsubmitted_ = false;
      const Status submitted = commands_->submit();
      HF_ASSERT(submitted.ok(), "{}", submitted.error().message());
    }
    if (!arrived_.empty() && !stopping_) continue;
    if (stopping_ && requests_.inside() == 0) break;
    co_await changed_.wait();
  }
}

Task<void> UblkQueue::stop() {
  stopping_ = true;
  changed_.notify_all();
  co_await requests_.close();
  changed_.notify_all();
  co_await dispatcher_.close();
  commands_.reset();
  if (descriptors_ != nullptr) munmap(const_cast<IoDescriptor*>(descriptors_), kMappedBytes);
  descriptors_ = nullptr;
  fd_.reset();
}

Task<void> UblkQueue::run(uint16_t tag) {
  const IoDescriptor request = descriptors_[tag];
  const uint64_t offset = request.start_sector * kSectorBytes;
  const uint64_t length = uint64_t{request.nr_sectors} * kSectorBytes;
  Status done = co_await perform(tag, request, offset, length);
  // The pool closes: whoever serves next is asked again.
  if (done.code() == ErrorCode::kClosed) co_return;
  const bool moves_data = (request.op_flags & kOpMask) <= kOpWrite;
  int32_t result = moves_data ? static_cast<int32_t>(length) : 0;
  if (!done.ok()) result = -done.error().info().sys_errno;
  commit(tag, result);
}

Task<Status> UblkQueue::perform(uint16_t tag, IoDescriptor request, uint64_t offset,
                                uint64_t length) {
  Status done;
  switch (request.op_flags & kOpMask) {
    case kOpRead:
    case kOpWrite:
      done = co_await transfer(tag, request, offset, length);
      break;
    case kOpFlush:
      done = co_await device_.flush();
      break;
    case kOpDiscard:
      done = co_await device_.discard(offset, length);
      break;
    case kOpWriteZeroes: {
      const bool deallocate = (request.op_flags & kFlagNoUnmap) == 0;
      done = co_await device_.write_zeroes(offset, length, deallocate);
      break;
    }
    default:
      done =
          make_error(ErrorCode::kNotSupported, "ublk operation {:#x} is unknown", request.op_flags);
      break;
  }
  const uint32_t operation = request.op_flags & kOpMask;
  const bool writes = operation != kOpRead && operation != kOpFlush;
  if (done.ok() && writes && (request.op_flags & kFlagFua) != 0) done = co_await device_.flush();
  co_return done;
}

Task<Status> UblkQueue::transfer(uint16_t tag, IoDescriptor request, uint64_t offset,
                                 uint64_t length) {
  if (length > kMaxIoBytes) {
    co_return make_error(ErrorCode::kProtocol, "a ublk request of {} bytes is longer than {}",
                         length, kMaxIoBytes);
  }
  const uint64_t units = round_up(length, kBlockSize) / kBlockSize;
  co_await budget_.acquire(units);
  const SemaphoreUnits held(budget_, units);
  AlignedBuffer data(length);
  const auto position = static_cast<off_t>(data_position(tag));
  const auto want = static_cast<ssize_t>(length);
  if ((request.op_flags & kOpMask) == kOpWrite) {
    if (::pread(fd_.get(), data.data(), length, position) != want) {
      co_return Error::from_errno(errno != 0 ? errno : EIO,
                                  "take the data of a write from " + name_);
    }
    co_return co_await device_.write(offset, data.span());
  }
  Status done = co_await device_.read(offset, data.span());
  HF_CO_TRY(done);
  if (::pwrite(fd_.get(), data.data(), length, position) != want) {
    co_return Error::from_errno(errno != 0 ? errno : EIO, "give the data of a read to " + name_);
  }
  co_return Status();
}

void UblkQueue::commit(uint16_t tag, int32_t result) {
  IoCommand command;
  command.tag = tag;
  command.result = result;
  commands_->prepare(tag, fd_.get(), kCommitAndFetch, bytes_of(command));
  unsubmitted_ = true;
  changed_.notify_all();
}

}  // namespace hf::ublk
