#include "runtime/net.h"

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

}  // namespace hf
