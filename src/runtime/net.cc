#include "runtime/net.h"

#include "base/log.h"

namespace hf {

Task<Status> Stream::read_exact(MutableByteSpan out) {
  size_t at = 0;
  while (at < out.size()) {
    Result<size_t> n = co_await read_some(out.subspan(at));
    HF_CO_TRY(n);
    if (*n == 0) {
      if (at == 0) co_return make_error(ErrorCode::kClosed, "{} closed the connection", peer());
      co_return make_error(ErrorCode::kProtocol, "{} closed the connection after {} of {} bytes",
                           peer(), at, out.size());
    }
    at += *n;
  }
  co_return Status();
}

Task<Status> Stream::write_bytes(ByteSpan bytes) {
  const ByteSpan segments[1] = {bytes};
  co_return co_await write_all(segments);
}

Task<Result<std::unique_ptr<Stream>>> accept_next(Listener& listener, Clock& clock, std::string who, CancelToken cancel) {
  constexpr Duration kPause = 100ms;
  while (true) {
    Result<std::unique_ptr<Stream>> stream = co_await listener.accept();
    if (stream.ok() || stream.code() == ErrorCode::kClosed || stream.code() == ErrorCode::kCancelled) co_return std::move(stream);
    HF_LOG(kWarn, "runtime", "accept_failed who={} address={} error=\"{}\"", who, listener.address(), stream.error().to_string());
    Status slept = co_await clock.sleep_for(kPause, cancel);
    HF_CO_TRY(slept);
  }
}

}  // namespace hf
