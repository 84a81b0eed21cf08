// Serves a file as a block device by a chosen kind of export, and adopts on a restart what an
// earlier one left: the daemon's attach path without a daemon. For tests.
//
//   block_export_tool --run-dir D --holder S --kind fuse|nbd|ublk --file F --size BYTES [--volume
//   ID]
//                     [--delay-us N]                     serve until a command says otherwise
//                     [--holder-program P]               starts a holder that died
//                     [--fault NAME]                     HF_FAULT_POINT(NAME) is true
// Prints "device /dev/loop3" when served. Reads commands from standard input, answers "ok" or an
// error:
//   grow BYTES    detach    orphans    problems    park (and end)    quit (without parking, as a kill)
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "base/log.h"
#include "block/default_drivers.h"
#include "block/export_manager.h"
#include "block/uring_kernel_io.h"
#include "file_device.h"
#include "runtime/fault_point.h"
#include "uring/fd_watch.h"
#include "uring/uring_world.h"

namespace hf {
namespace {

std::map<std::string, std::string> g_options;

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

Task<std::string> next_line(UringLoop& loop) {
  std::string line;
  for (;;) {
    Result<uint32_t> ready = co_await poll_once(loop, 0, POLLIN, CancelToken());
    if (!ready.ok()) co_return "quit";
    char c = 0;
    if (::read(0, &c, 1) != 1) co_return "park";
    if (c == '\n') co_return line;
    line.push_back(c);
  }
}

std::string text_of(const Status& status) {
  return status.ok() ? "ok" : status.error().to_string();
}

Task<bool> run_command(std::string line, block::ExportManager& manager, FileDevice& device,
                       VolumeId volume) {
  if (line.starts_with("grow ")) {
    device.grow(std::strtoull(line.c_str() + 5, nullptr, 10));
    Status told = co_await manager.resized(volume);
    say(text_of(told));
  } else if (line == "detach") {
    Status gone = co_await manager.detach(volume);
    say(text_of(gone));
  } else if (line == "orphans") {
    Result<std::vector<block::ExportInfo>> left = co_await manager.orphans();
    say(left.ok() ? fmt::format("orphans {}", left->size()) : left.error().to_string());
  } else if (line == "problems") {
    std::string all = "problems";
    for (const std::string& problem : manager.problems()) all += " " + problem;
    say(all);
  } else if (line == "quit") {
    _exit(0);
  } else {
    Status parked = co_await manager.park();
    say(text_of(parked));
    co_return false;
  }
  co_return true;
}

Task<void> serve(UringWorld& real, block::ExportManager& manager, int* exit_code) {
  *exit_code = 1;
  Status started = co_await manager.start();
  if (!started.ok()) {
    say(started.error().to_string());
    co_return;
  }
  OpenOptions options;
  options.write = options.create = options.direct = true;
  Result<std::unique_ptr<File>> file = co_await real.world().fs.open(g_options["--file"], options);
  if (!file.ok()) {
    say(file.error().to_string());
    co_return;
  }
  // As the pool's lock: a server before us must have ended, with all its writes.
  Status locked = (*file)->try_lock();
  for (int i = 0; i < 1000 && !locked.ok(); ++i) {
    Status slept = co_await real.world().clock.sleep_for(5ms, CancelToken());
    (void)slept;
    locked = (*file)->try_lock();
  }
  if (!locked.ok()) {
    say(locked.error().to_string());
    co_return;
  }
  const uint64_t size = std::strtoull(g_options["--size"].c_str(), nullptr, 10);
  const Result<uint64_t> now = (*file)->size();
  if (now.ok() && *now < size) {
    Status sized = co_await (*file)->set_size(size);
    if (!sized.ok()) say(sized.error().to_string());
  }
  VolumeId volume = VolumeId::from_random(1, 2);
  if (g_options.contains("--volume")) volume = *VolumeId::parse(g_options["--volume"]);
  const uint64_t delay = std::strtoull(g_options["--delay-us"].c_str(), nullptr, 10);
  auto device = std::make_shared<FileDevice>(std::move(*file), real.world().clock, size, delay,
                                             static_cast<uint64_t>(getpid()));
  const block::ExportKind kind = block::export_kind_from_name(g_options["--kind"]);
  Result<block::ExportInfo> made = co_await manager.attach(volume, kind, device);
  if (!made.ok()) {
    say(made.error().to_string());
    co_return;
  }
  say("device " + made->device + " " + block::export_kind_name(made->kind));
  *exit_code = 0;
  bool more = true;
  while (more) {
    std::string line = co_await next_line(real.loop());
    more = co_await run_command(std::move(line), manager, *device, volume);
  }
}

Task<void> run(UringWorld& real, int* exit_code) {
  block::UringKernelIo io(real.loop());
  block::DriverSettings settings;
  settings.run_dir = g_options["--run-dir"];
  settings.holder_socket = g_options["--holder"];
  settings.holder_program = g_options["--holder-program"];
  block::ExportManager manager(
      block::make_default_drivers(real.world(), real.loop(), io, settings));
  co_await serve(real, manager, exit_code);
  Status parked = co_await manager.park();
  if (!parked.ok()) say(parked.error().to_string());
}

class OneFault final : public FaultPlan {
 public:
  bool fault(const char* name) override { return name == g_options["--fault"]; }
  void probe(const char*) override {}
};

}  // namespace
}  // namespace hf

int main(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2) hf::g_options[argv[i]] = argv[i + 1];
  hf::Result<std::unique_ptr<hf::UringWorld>> real =
      hf::UringWorld::create(hf::UringWorldOptions());
  if (!real.ok()) {
    hf::say(real.error().to_string());
    return 1;
  }
  hf::OneFault fault;
  if (hf::g_options.contains("--fault")) hf::t_fault_plan = &fault;
  int exit_code = 1;
  (*real)->loop().run_until(hf::run(**real, &exit_code));
  return exit_code;
}
