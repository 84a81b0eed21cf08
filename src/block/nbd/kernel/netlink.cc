#include "block/nbd/kernel/netlink.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "uring/owned_fd.h"

namespace hf::nbdk {
namespace {

constexpr size_t kAttributeHeader = 4;
constexpr uint32_t kSequence = 1;
constexpr uint64_t kBlock = kBlockSize;

size_t padded(size_t size) {
  return (size + 3) & ~size_t{3};
}

// One request and its answer on a socket of its own.
Result<Answer> exchange(const std::vector<std::byte>& request) {
  const OwnedFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
  if (!fd.valid()) return Error::from_errno(errno, "make a netlink socket");
  const timeval timeout{30, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  if (::send(fd.get(), request.data(), request.size(), 0) != static_cast<ssize_t>(request.size())) {
    return Error::from_errno(errno, "send to the kernel's nbd driver");
  }
  Answer answer;
  std::byte buffer[16384];
  constexpr int kDatagramsMax = 16;
  for (int i = 0; i < kDatagramsMax && !answer.acknowledged; ++i) {
    const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (n < 0) return Error::from_errno(errno, "receive from the kernel's nbd driver");
    if (!parse_answer({buffer, static_cast<size_t>(n)}, kSequence, &answer)) {
      return make_error(ErrorCode::kProtocol, "the kernel's netlink answer is malformed");
    }
  }
  if (!answer.acknowledged)
    return make_error(ErrorCode::kProtocol, "the kernel does not acknowledge");
  return answer;
}

Result<uint16_t> family() {
  Message message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, kSequence);
  message.add_string(CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME);
  const Result<Answer> answer = exchange(message.finish());
  if (!answer.ok()) return answer.error();
  const auto id = find_attribute(answer->payload, CTRL_ATTR_FAMILY_ID);
  if (answer->sys_errno != 0 || !id || id->size() < sizeof(uint16_t)) {
    return make_error(
        ErrorCode::kMissingFeature,
        "this kernel has no nbd driver: load it (modprobe nbd), or use a kernel that has "
        "CONFIG_BLK_DEV_NBD");
  }
  uint16_t value = 0;
  std::memcpy(&value, id->data(), sizeof value);
  return value;
}

Result<Answer> ask(Message& message, std::string_view what) {
  Result<Answer> answer = exchange(message.finish());
  if (answer.ok() && answer->sys_errno != 0) return Error::from_errno(answer->sys_errno, what);
  return answer;
}

void add_socket(Message& message, int socket) {
  const size_t sockets = message.open_nested(NBD_ATTR_SOCKETS);
  const size_t item = message.open_nested(NBD_SOCK_ITEM);
  message.add_u32(NBD_SOCK_FD, static_cast<uint32_t>(socket));
  message.close_nested(item);
  message.close_nested(sockets);
}

std::string read_text(const std::string& path) {
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[256];
  const ssize_t n = fd.valid() ? ::read(fd.get(), buffer, sizeof buffer) : -1;
  if (n <= 0) return "";
  std::string text(buffer, static_cast<size_t>(n));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

void write_text(const std::string& path, std::string_view text) {
  const OwnedFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  // Older kernels have other limits: then they stay as they are.
  if (fd.valid() && ::write(fd.get(), text.data(), text.size()) < 0) errno = 0;
}

}  // namespace

Message::Message(uint16_t family, uint8_t command, uint32_t sequence)
    : bytes_(NLMSG_HDRLEN + GENL_HDRLEN) {
  nlmsghdr header{};
  header.nlmsg_type = family;
  header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  header.nlmsg_seq = sequence;
  genlmsghdr generic{};
  generic.cmd = command;
  generic.version = 1;
  std::memcpy(bytes_.data(), &header, sizeof header);
  std::memcpy(bytes_.data() + NLMSG_HDRLEN, &generic, sizeof generic);
}

void Message::add(uint16_t type, ByteSpan value) {
  const size_t at = bytes_.size();
  const auto length = static_cast<uint16_t>(kAttributeHeader + value.size());
  bytes_.resize(at + padded(length));
  std::memcpy(bytes_.data() + at, &length, sizeof length);
  std::memcpy(bytes_.data() + at + 2, &type, sizeof type);
  if (!value.empty())
    std::memcpy(bytes_.data() + at + kAttributeHeader, value.data(), value.size());
}

void Message::add_u32(uint16_t type, uint32_t value) {
  add(type, {reinterpret_cast<const std::byte*>(&value), sizeof value});
}
void Message::add_u64(uint16_t type, uint64_t value) {
  add(type, {reinterpret_cast<const std::byte*>(&value), sizeof value});
}
void Message::add_string(uint16_t type, std::string_view text) {
  const std::string with_zero(text);
  add(type, {reinterpret_cast<const std::byte*>(with_zero.c_str()), with_zero.size() + 1});
}

size_t Message::open_nested(uint16_t type) {
  const size_t at = bytes_.size();
  add(static_cast<uint16_t>(type | NLA_F_NESTED), {});
  return at;
}

void Message::close_nested(size_t at) {
  const auto length = static_cast<uint16_t>(bytes_.size() - at);
  std::memcpy(bytes_.data() + at, &length, sizeof length);
}

const std::vector<std::byte>& Message::finish() {
  const auto length = static_cast<uint32_t>(bytes_.size());
  std::memcpy(bytes_.data(), &length, sizeof length);
  return bytes_;
}

bool parse_answer(ByteSpan datagram, uint32_t sequence, Answer* answer) {
  while (!datagram.empty()) {
    nlmsghdr header;
    if (datagram.size() < sizeof header) return false;
    std::memcpy(&header, datagram.data(), sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > datagram.size()) return false;
    const ByteSpan body = datagram.subspan(NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
    if (header.nlmsg_seq == sequence && header.nlmsg_type == NLMSG_ERROR) {
      int32_t error = 0;
      if (body.size() < sizeof error) return false;
      std::memcpy(&error, body.data(), sizeof error);
      if (error > 0) return false;
      answer->sys_errno = -error;
      answer->acknowledged = true;
    } else if (header.nlmsg_seq == sequence && body.size() >= GENL_HDRLEN) {
      answer->payload.assign(body.begin() + GENL_HDRLEN, body.end());
    }
    datagram = datagram.subspan(std::min(padded(header.nlmsg_len), datagram.size()));
  }
  return true;
}

std::optional<ByteSpan> find_attribute(ByteSpan attributes, uint16_t type) {
  while (attributes.size() >= kAttributeHeader) {
    uint16_t length = 0, found = 0;
    std::memcpy(&length, attributes.data(), sizeof length);
    std::memcpy(&found, attributes.data() + 2, sizeof found);
    if (length < kAttributeHeader || length > attributes.size()) return std::nullopt;
    if ((found & NLA_TYPE_MASK) == type)
      return attributes.subspan(kAttributeHeader, length - kAttributeHeader);
    attributes = attributes.subspan(std::min(padded(length), attributes.size()));
  }
  return std::nullopt;
}

Status NbdControl::probe() {
  const Result<uint16_t> id = family();
  if (!id.ok()) return id.error();
  return Status();
}

Result<uint32_t> NbdControl::connect(const ConnectRequest& request) {
  const Result<uint16_t> id = family();
  if (!id.ok()) return id.error();
  Message message(*id, NBD_CMD_CONNECT, kSequence);
  message.add_u64(NBD_ATTR_SIZE_BYTES, request.size_bytes);
  message.add_u64(NBD_ATTR_BLOCK_SIZE_BYTES, kBlock);
  message.add_u64(NBD_ATTR_TIMEOUT, request.timeout_s);
  message.add_u64(NBD_ATTR_DEAD_CONN_TIMEOUT, request.dead_timeout_s);
  message.add_u64(NBD_ATTR_SERVER_FLAGS, request.server_flags);
  message.add_string(NBD_ATTR_BACKEND_IDENTIFIER, request.backend);
  add_socket(message, request.socket);
  const Result<Answer> answer = ask(message, "attach an nbd device");
  if (!answer.ok()) return answer.error();
  const auto index = find_attribute(answer->payload, NBD_ATTR_INDEX);
  if (!index || index->size() < sizeof(uint32_t)) {
    return make_error(ErrorCode::kProtocol,
                      "the kernel's nbd driver attached a device and does not say which");
  }
  uint32_t value = 0;
  std::memcpy(&value, index->data(), sizeof value);
  return value;
}

Status NbdControl::reconnect(uint32_t index, std::string_view backend, int socket) {
  const Result<uint16_t> id = family();
  if (!id.ok()) return id.error();
  Message message(*id, NBD_CMD_RECONFIGURE, kSequence);
  message.add_u32(NBD_ATTR_INDEX, index);
  message.add_string(NBD_ATTR_BACKEND_IDENTIFIER, backend);
  add_socket(message, socket);
  const Result<Answer> answer = ask(message, fmt::format("connect /dev/nbd{} again", index));
  if (!answer.ok()) return answer.error();
  return Status();
}

Status NbdControl::resize(uint32_t index, std::string_view backend, uint64_t size_bytes) {
  const Result<uint16_t> id = family();
  if (!id.ok()) return id.error();
  Message message(*id, NBD_CMD_RECONFIGURE, kSequence);
  message.add_u32(NBD_ATTR_INDEX, index);
  message.add_string(NBD_ATTR_BACKEND_IDENTIFIER, backend);
  message.add_u64(NBD_ATTR_SIZE_BYTES, size_bytes);
  const Result<Answer> answer = ask(message, fmt::format("grow /dev/nbd{}", index));
  if (!answer.ok()) return answer.error();
  return Status();
}

Status NbdControl::disconnect(uint32_t index) {
  const Result<uint16_t> id = family();
  if (!id.ok()) return id.error();
  Message message(*id, NBD_CMD_DISCONNECT, kSequence);
  message.add_u32(NBD_ATTR_INDEX, index);
  const Result<Answer> answer = exchange(message.finish());
  if (!answer.ok()) return answer.error();
  if (answer->sys_errno == 0 || answer->sys_errno == EINVAL) return Status();
  return Error::from_errno(answer->sys_errno, fmt::format("detach /dev/nbd{}", index));
}

Result<std::vector<NbdControl::Device>> NbdControl::find(std::string_view prefix) {
  std::vector<Device> found;
  DIR* dir = opendir("/sys/block");
  if (dir == nullptr) return Error::from_errno(errno, "list /sys/block");
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with("nbd")) continue;
    Device device;
    const auto parsed = std::from_chars(name.data() + 3, name.data() + name.size(), device.index);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
    device.backend = read_text("/sys/block/" + std::string(name) + "/backend");
    if (!device.backend.empty() && device.backend.starts_with(prefix))
      found.push_back(std::move(device));
  }
  closedir(dir);
  return found;
}

void NbdControl::tune(uint32_t index) {
  const std::string queue = "/sys/block/nbd" + std::to_string(index) + "/queue/";
  write_text(queue + "scheduler", "none");
  write_text(queue + "max_sectors_kb", "1024");
}

}  // namespace hf::nbdk
