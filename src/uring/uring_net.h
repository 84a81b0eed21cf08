// UringNetwork: Unix and TCP sockets. See runtime/net.h.
//
// A Unix socket is born with the permissions asked for: there is no moment at which a wider circle
// could connect. Its directory is locked (flock) between the look for a living owner and the
// listen, so of two processes that start at once one gets kInUse. Paths may be longer than the
// kernel's 107 bytes. On TCP: SO_REUSEADDR, TCP_NODELAY, keep-alive.
#pragma once

#include "runtime/net.h"
#include "runtime/process.h"
#include "uring/uring_loop.h"

namespace hf {

class UringNetwork final : public Network {
 public:
  UringNetwork(UringLoop& loop, Clock& clock, BlockingPool& blocking)
      : loop_(loop), clock_(clock), blocking_(blocking) {}
  Task<Result<std::unique_ptr<Listener>>> listen(std::string address,
                                                 ListenOptions options) override;
  Task<Result<std::unique_ptr<Stream>>> connect(std::string address, Duration timeout) override;

 private:
  UringLoop& loop_;
  Clock& clock_;
  BlockingPool& blocking_;
};

}  // namespace hf
