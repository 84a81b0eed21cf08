// A bare NBD client: sockets and the protocol's simple replies, `depth` requests in flight.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/prng.h"
#include "block/nbd/nbd_protocol.h"
#include "load.h"
#include "runtime/sync.h"

namespace hf::bench {
namespace {

using Steady = std::chrono::steady_clock;

constexpr size_t kReplyBytes = 16;

template <typename T>
T big_endian(const std::byte* at) {
  T value{};
  std::memcpy(&value, at, sizeof value);
  if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(value));
  return static_cast<T>(__builtin_bswap64(value));
}

class Client {
 public:
  Client(const std::string& path, const std::string& name, const LoadJob& job)
      : job_(job), prng_(job.seed), started_(job.depth), input_(2 * kMiB), payload_(job.block_bytes) {
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    HF_ASSERT(fd_ >= 0 && path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.data(), path.size());
    HF_ASSERT(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "{}: {}",
              path, strerror(errno));
    for (size_t i = 0; i < payload_.size(); ++i) payload_[i] = static_cast<std::byte>(prng_.next());
    handshake(name);
  }
  ~Client() {
    request(nbd::Command::kDisconnect, 0, 0, 0);
    flush();
    ::close(fd_);
  }

  Sample run() {
    Sample sample;
    const Steady::time_point start = Steady::now();
    const auto seconds = [start] { return std::chrono::duration<double>(Steady::now() - start).count(); };
    for (uint32_t slot = 0; slot < job_.depth; ++slot) submit(slot);
    uint32_t in_flight = job_.depth;
    while (in_flight > 0) {
      flush();
      fill();
      const bool more = seconds() < job_.seconds;
      uint32_t slot = 0;
      while (take_reply(&slot)) {
        const double us =
            std::chrono::duration<double, std::micro>(Steady::now() - started_[slot]).count();
        sample.worst_us = std::max(sample.worst_us, us);
        ++sample.operations;
        if (more) {
          submit(slot);
        } else {
          --in_flight;
        }
      }
    }
    sample.seconds = seconds();
    return sample;
  }

 private:
  void handshake(const std::string& name) {
    receive(nbd::kGreetingBytes);
    const uint32_t flags = nbd::kFixedNewstyle | nbd::kNoZeroes;
    nbd::Out out(&output_);
    out.u32(flags);
    out.u64(nbd::kOptionMagic);
    out.u32(static_cast<uint32_t>(nbd::Option::kExportName));
    out.u32(static_cast<uint32_t>(name.size()));
    out.text(name);
    flush();
    begin_ = end_ = 0;
    receive(10);  // size and flags
    begin_ = end_ = 0;
  }
  void request(nbd::Command command, uint64_t cookie, uint64_t offset, uint32_t length) {
    nbd::Out out(&output_);
    out.u32(nbd::kRequestMagic);
    out.u16(command == nbd::Command::kWrite ? nbd::kFlagFua : 0);
    out.u16(static_cast<uint16_t>(command));
    out.u64(cookie);
    out.u64(offset);
    out.u32(length);
    if (command == nbd::Command::kWrite) out.raw(payload_);
  }
  void submit(uint32_t slot) {
    const uint64_t blocks = job_.span_bytes / job_.block_bytes;
    const uint64_t block = job_.sequential ? next_block_++ % blocks : prng_.below(blocks);
    request(job_.write ? nbd::Command::kWrite : nbd::Command::kRead, slot, block * job_.block_bytes,
            static_cast<uint32_t>(job_.block_bytes));
    started_[slot] = Steady::now();
  }
  void flush() {
    for (size_t sent = 0; sent < output_.size();) {
      const ssize_t n = ::send(fd_, output_.data() + sent, output_.size() - sent, MSG_NOSIGNAL);
      HF_ASSERT(n > 0, "send: {}", strerror(errno));
      sent += static_cast<size_t>(n);
    }
    output_.clear();
  }
  // At least one more byte.
  void fill() {
    if (begin_ > 0) {
      std::memmove(input_.data(), input_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    const ssize_t n = ::recv(fd_, input_.data() + end_, input_.size() - end_, 0);
    HF_ASSERT(n > 0, "the NBD server hung up: {}", strerror(errno));
    end_ += static_cast<size_t>(n);
  }
  void receive(size_t bytes) {
    while (end_ - begin_ < bytes) fill();
  }
  bool take_reply(uint32_t* slot) {
    const size_t wanted = kReplyBytes + (job_.write ? 0 : job_.block_bytes);
    if (end_ - begin_ < wanted) return false;
    const std::byte* at = input_.data() + begin_;
    HF_ASSERT(big_endian<uint32_t>(at) == nbd::kSimpleReplyMagic, "no simple reply");
    HF_ASSERT(big_endian<uint32_t>(at + 4) == 0, "NBD error {}", big_endian<uint32_t>(at + 4));
    *slot = static_cast<uint32_t>(big_endian<uint64_t>(at + 8));
    begin_ += wanted;
    return true;
  }

  const LoadJob job_;
  Prng prng_;
  std::vector<Steady::time_point> started_;
  int fd_ = -1;
  uint64_t next_block_ = 0;
  std::vector<std::byte> input_, output_, payload_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace

Task<Sample> run_nbd_load(UringLoop& loop, std::string socket_path, std::string name, LoadJob job) {
  Event ended;
  Sample sample;
  double client_cpu = 0;
  const double cpu = cpu_seconds_now();
  std::function<void()> client = [&] {
    {
      Client one(socket_path, name, job);
      sample = one.run();
    }
    client_cpu = thread_cpu_seconds_now();
    loop.post([&ended] { ended.set(); });
  };
  std::thread thread(client);
  co_await ended.wait();
  thread.join();
  sample.cpu_seconds = cpu_seconds_now() - cpu - client_cpu;
  co_return sample;
}

}  // namespace hf::bench
