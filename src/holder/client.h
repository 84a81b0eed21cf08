// The daemon's side of the holder. Calls block for the time of a local round trip (at most
// kTimeoutMs): run them in the blocking pool. One thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "holder/protocol.h"

namespace hf::holder {

inline constexpr int kTimeoutMs = 5000;

struct Held {
  Held() = default;
  std::string name;
  std::vector<std::byte> state;
  int fd = -1;  // get() only; the caller's to close
};

class Client {
 public:
  // `socket_path` is absolute. Nothing happens until the first call; a connection that broke is
  // made anew, within the call where its holder has ended since the last one.
  explicit Client(std::string socket_path) : path_(std::move(socket_path)) {}
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // kUnavailable when nothing serves the socket.
  Status ping();
  // The holder gets a copy of `fd`; -1 replaces only the state of an entry that exists.
  Status put(std::string_view name, int fd, ByteSpan state);
  Result<Held> get(std::string_view name);
  // Success if it was not there.
  Status remove(std::string_view name);
  // Ends the holder if it holds nothing; else kInUse. Success if none serves the socket.
  Status end_if_empty();
  // Entries whose name begins with `prefix`, without descriptors.
  Result<std::vector<Held>> list(std::string_view prefix);
  // Counts the connections made. When it has grown, the holder may be another process than before,
  // which holds nothing: whoever needs something held puts it again. From any thread.
  uint64_t connections() const { return connections_; }

 private:
  Status connect();
  Result<Held> call(Command command, std::string_view name, uint32_t index, ByteSpan state, int fd);
  Result<Held> exchange(const Message& request, int fd);

  std::string path_;
  int socket_ = -1;
  std::atomic<uint64_t> connections_ = 0;
};

}  // namespace hf::holder
