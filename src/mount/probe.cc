#include "mount/probe.h"

#include "mount/helper.h"

namespace hf::mount {
namespace {

constexpr Duration kProbeLimit = 60s;
constexpr int kNothingFound = 2, kAmbivalent = 8;

}  // namespace

std::string Content::describe() const {
  if (ambivalent) return "signatures of several kinds";
  std::string text = type.empty() ? "a partition table (" + partitions + ")" : "a " + type + " file system";
  if (type == "ext2" || type == "ext3" || type == "ext4") text = "an " + type + " file system";
  if (!label.empty()) text += " labelled \"" + label + "\"";
  if (!uuid.empty()) text += " (UUID " + uuid + ")";
  return text;
}

Result<Content> parse_blkid(int exit_status, std::string_view output) {
  Content content;
  if (exit_status == kNothingFound) return content;
  if (exit_status == kAmbivalent) {
    content.ambivalent = true;
    return content;
  }
  if (exit_status != 0) {
    return make_error(ErrorCode::kIo, "blkid failed with {}: {}", exit_status, output.substr(0, 200));
  }
  while (!output.empty()) {
    const size_t end = output.find('\n');
    const std::string_view line = output.substr(0, end);
    output = end == std::string_view::npos ? std::string_view() : output.substr(end + 1);
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = line.substr(0, equals);
    const std::string value(line.substr(equals + 1));
    if (key == "TYPE") content.type = value;
    if (key == "PTTYPE") content.partitions = value;
    if (key == "UUID") content.uuid = value;
    if (key == "LABEL") content.label = value;
  }
  return content;
}

Task<Result<Content>> probe(Process& process, std::string device) {
  std::vector<std::string> argv = {"blkid", "-p", "-o", "export", device};
  Result<CommandResult> ran = co_await process.run(alone_with(device, std::move(argv)), kProbeLimit);
  HF_CO_TRY(ran);
  Result<Content> content = parse_blkid(ran->exit_status, ran->output);
  if (!content.ok()) co_return content.error().with_context(device);
  co_return content;
}

}  // namespace hf::mount
