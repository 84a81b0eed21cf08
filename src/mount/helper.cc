#include "mount/helper.h"

namespace hf::mount {

namespace {

constexpr int kNotExecuted = 69;  // of flock(1): EX_UNAVAILABLE

}  // namespace

std::vector<std::string> alone_with(const std::string& device, std::vector<std::string> argv) {
  // -F: becomes the program, so that a limit of time kills the program itself.
  std::vector<std::string> all = {"flock", "-F", "-x", device};
  all.insert(all.end(), std::make_move_iterator(argv.begin()), std::make_move_iterator(argv.end()));
  return all;
}

std::string in_one_line(const std::string& output) {
  std::string line;
  for (const char c : output) {
    const bool blank = static_cast<unsigned char>(c) <= ' ';
    if (!blank) line += c;
    else if (!line.empty() && line.back() != ' ') line += ' ';
    if (line.size() == 300) break;
  }
  while (line.ends_with(' ') || line.ends_with('.')) line.pop_back();
  return line.empty() ? "nothing" : line;
}

Task<Status> must_run(Process& process, std::vector<std::string> argv, Duration limit) {
  const bool locked = argv[0] == "flock";
  const std::string program = locked ? argv[4] : argv[0];
  Result<CommandResult> ran = co_await process.run(std::move(argv), limit);
  const bool not_there = ran.ok() && locked && ran->exit_status == kNotExecuted;
  if (not_there || ran.code() == ErrorCode::kMissingFeature) {
    co_return make_error(
        ErrorCode::kMissingFeature,
        "{} is not installed; install e2fsprogs, xfsprogs, btrfs-progs, mount and util-linux",
        program);
  }
  HF_CO_TRY(ran);
  if (ran->exit_status == 0) co_return Status();
  co_return make_error(ErrorCode::kIo, "{} failed with {}: {}", program, ran->exit_status,
                       in_one_line(ran->output));
}

}  // namespace hf::mount
