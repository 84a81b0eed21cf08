#include "holder/store.h"

namespace hf::holder {
namespace {

Message plain_reply(ReplyStatus status) {
  return make_message(kReplyMagic, static_cast<uint16_t>(status), "", {}, 0);
}

}  // namespace

ReplyStatus Store::put(const std::string& name, ByteSpan state, HeldFd fd) {
  auto found = entries_.find(name);
  if (found == entries_.end()) {
    if (fd.get() < 0) return ReplyStatus::kNotFound;
    if (entries_.size() >= kEntriesMax) return ReplyStatus::kFull;
    found = entries_.emplace(name, Entry{}).first;
  }
  if (fd.get() >= 0) found->second.fd = std::move(fd);
  found->second.state.assign(state.begin(), state.end());
  return ReplyStatus::kOk;
}

Message Store::handle(const Message& request, size_t received, int fd, int* reply_fd) {
  HeldFd came(fd);
  *reply_fd = -1;
  if (!message_is_valid(request, received, kRequestMagic))
    return plain_reply(ReplyStatus::kBadRequest);
  // What came after the end would be taken and lost.
  if (ended_) return plain_reply(ReplyStatus::kFull);
  const auto command = static_cast<Command>(request.code);
  if (command == Command::kList) {
    if (request.index >= entries_.size()) return plain_reply(ReplyStatus::kNotFound);
    const auto at = std::next(entries_.begin(), request.index);
    return make_message(kReplyMagic, 0, at->first, at->second.state, request.index);
  }
  if (command == Command::kEnd) {
    ended_ = entries_.empty();
    return plain_reply(ended_ ? ReplyStatus::kOk : ReplyStatus::kFull);
  }
  const std::string name = message_name(request);
  if (!name_is_valid(name)) return plain_reply(ReplyStatus::kBadRequest);
  switch (command) {
    case Command::kPut:
      return plain_reply(put(name, {request.state, request.state_size}, std::move(came)));
    case Command::kGet: {
      const auto found = entries_.find(name);
      if (found == entries_.end()) return plain_reply(ReplyStatus::kNotFound);
      *reply_fd = found->second.fd.get();
      return make_message(kReplyMagic, 0, name, found->second.state, 0);
    }
    case Command::kDel:
      return plain_reply(entries_.erase(name) == 1 ? ReplyStatus::kOk : ReplyStatus::kNotFound);
    case Command::kList:
    case Command::kEnd:
      break;
  }
  return plain_reply(ReplyStatus::kBadRequest);
}

}  // namespace hf::holder
