// Generic netlink for the kernel's nbd driver: build, send, parse (docs/facts-block.md,
// section 2.2). The message functions are pure; the calls of NbdControl block for a moment:
// blocking pool only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace hf::nbdk {

// A request under construction; attributes in the order of the calls.
class Message {
 public:
  Message(uint16_t family, uint8_t command, uint32_t sequence);
  void add_u32(uint16_t type, uint32_t value);
  void add_u64(uint16_t type, uint64_t value);
  void add_string(uint16_t type, std::string_view text);
  // Everything until close_nested() lies inside.
  size_t open_nested(uint16_t type);
  void close_nested(size_t at);
  // With its final length.
  const std::vector<std::byte>& finish();

 private:
  void add(uint16_t type, ByteSpan value);
  std::vector<std::byte> bytes_;
};

struct Answer {
  int sys_errno = 0;  // of the acknowledgement
  bool acknowledged = false;
  std::vector<std::byte> payload;  // attributes of the message before it, if there was one
};
// Takes one datagram; false when it is malformed. `sequence` is that of the request.
bool parse_answer(ByteSpan datagram, uint32_t sequence, Answer* answer);
// The value of the first attribute of `type` in a run of attributes.
std::optional<ByteSpan> find_attribute(ByteSpan attributes, uint16_t type);

struct ConnectRequest {
  ConnectRequest() = default;
  uint64_t size_bytes = 0;
  uint64_t timeout_s = 0;
  uint64_t dead_timeout_s = 0;
  uint64_t server_flags = 0;
  std::string backend;
  int socket = -1;  // the kernel takes a reference of its own
};

class NbdControl {
 public:
  // Whether the kernel has nbd with what we need; kMissingFeature with the way out.
  static Status probe();
  // A free device; its number.
  static Result<uint32_t> connect(const ConnectRequest& request);
  static Status reconnect(uint32_t index, std::string_view backend, int socket);
  static Status resize(uint32_t index, std::string_view backend, uint64_t size_bytes);
  // Success when it is not connected.
  static Status disconnect(uint32_t index);

  struct Device {
    uint32_t index = 0;
    std::string backend;
    std::string path() const { return "/dev/nbd" + std::to_string(index); }
  };
  // Devices whose backend begins with `prefix`, connected or waiting for a server.
  static Result<std::vector<Device>> find(std::string_view prefix);
  // Scheduler none and requests of up to 1 MiB. As far as this kernel lets us.
  static void tune(uint32_t index);
};

}  // namespace hf::nbdk
