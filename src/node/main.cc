// holdfastd: the daemon of one node.
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <thread>

#include "base/log.h"
#include "base/open_files.h"
#include "mount/freeze.h"
#include "node/daemon.h"
#include "node/idle_trim.h"

namespace hf::node {
namespace {

constexpr char kConfigFile[] = "/etc/holdfast/holdfastd.toml";

struct Flags {
  std::string config_file = kConfigFile;
  bool config_given = false;
  std::string log_level, state_dir, run_dir, docker_socket, node_name, export_kind, nbd_tcp;
  bool no_docker = false;
  int http_port = -1;
};

Status apply(const Flags& flags, NodeConfig* config) {
  Status file = read_config_file(flags.config_file, config);
  if (!file.ok() && (flags.config_given || file.code() != ErrorCode::kNotFound)) return file;
  const std::pair<const std::string*, std::string*> texts[] = {
      {&flags.state_dir, &config->state_dir},         {&flags.run_dir, &config->run_dir},
      {&flags.docker_socket, &config->docker_socket}, {&flags.node_name, &config->node_name},
      {&flags.export_kind, &config->export_kind},     {&flags.nbd_tcp, &config->nbd_tcp}};
  for (const auto& [from, to] : texts) {
    if (!from->empty()) *to = *from;
  }
  if (flags.no_docker) config->docker_socket.clear();
  if (flags.http_port >= 0) config->http_port = static_cast<uint16_t>(flags.http_port);
  if (!flags.log_level.empty() && !parse_log_level(flags.log_level, &config->log_level)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--log-level \"{}\": give debug, info, warn, error or off", flags.log_level);
  }
  return check_config(*config);
}

// Writes back its own device's dirty pages while the kernel needs memory: says so to the kernel, so that
// its allocations never wait for this very process. Needs CAP_SYS_RESOURCE.
void become_io_flusher() {
#ifdef PR_SET_IO_FLUSHER
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
    HF_LOG(kWarn, "node", "no_io_flusher reason=\"needs CAP_SYS_RESOURCE\"");
  }
#endif
}

// What ends the daemon, and whether it begins anew. Loop thread.
struct Ending {
  Event stop;
  CancelSource asked;  // by a signal: ends the waiting of a start, too
  bool restart = false;
};

Task<void> serve(Daemon& daemon, UringWorld& real, Ending& ending, Status* result) {
  *result = co_await daemon.start(real, CancelToken(ending.asked));
  if (result->ok()) {
    sd_notify(0, "READY=1\nSTATUS=");
    co_await ending.stop.wait();
    // Not where it begins anew in this very process: systemd would end that.
    sd_notify(0, ending.restart ? "STATUS=begins anew" : "STOPPING=1");
  } else if (ending.asked.is_cancelled()) {
    *result = Status();
  }
  co_await daemon.stop();
}

// A start that waits for others is no start that hangs.
void tell_waiting(const std::string& why) {
  sd_notifyf(0, "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=waits: %s", why.c_str());
}

// This program once more in this process: pid, systemd's socket and standard output stay; everything else
// that is open closes. Returns only where that cannot be.
Error begin_anew(char** argv) {
  char self[4096] = {};
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  const std::string_view path(self, n < 0 ? 0 : static_cast<size_t>(n));
  // An upgrade has put another file in its place: this one is still to be had.
  const char* program = path.empty() || path.ends_with(" (deleted)") ? "/proc/self/exe" : self;
  ::execv(program, argv);
  return Error::from_errno(errno, "cannot begin anew");
}

// glibc would give each of the API's threads a heap of its own, and each keeps what it once needed. The loop
// has the main one; all others share one.
constexpr int kHeaps = 2;

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// One thread waits for the signals that all others have blocked. A second signal ends the process at once:
// what is acknowledged is safe at any moment. In between it looks after freed memory.
void wait_for_signals(const sigset_t& signals, UringLoop& loop, Ending& ending) {
  IdleTrim trim;
  const timespec every{std::chrono::duration_cast<std::chrono::seconds>(IdleTrim::kEvery).count(), 0};
  for (bool told = false;;) {
    const int signal = sigtimedwait(&signals, nullptr, &every);
    if (signal < 0 && errno == EAGAIN && trim.look(cpu_seconds())) ::malloc_trim(0);
    if (signal < 0) continue;
    if (signal == SIGUSR1) return;  // the loop has ended
    HF_LOG(kInfo, "node", "signal number={}", signal);
    if (told) ::_exit(128 + signal);
    told = true;
    loop.post([&ending] {
      ending.restart = false;
      ending.asked.cancel();
      ending.stop.set();
    });
  }
}

int fail(const Error& error) {
  std::fprintf(stderr, "holdfastd: %s\n", error.to_string().c_str());
  return error.info().exit_code;
}

int run(const NodeConfig& config, char** argv) {
  ::mallopt(M_ARENA_MAX, kHeaps);
  set_log_level(config.log_level);
  if (::geteuid() != 0) {
    return fail(make_error(ErrorCode::kPermissionDenied,
                           "holdfastd mounts file systems and makes block devices: run it as root"));
  }
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  become_io_flusher();
  allow_all_open_files();
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  if (!real.ok()) return fail(real.error());
  Ending ending;
  std::thread waiter(
      [&signals, &real, &ending] { wait_for_signals(signals, (*real)->loop(), ending); });
  Status result;
  {
    DaemonHooks hooks;
    hooks.waiting = [](const std::string& why) { tell_waiting(why); };
    hooks.restart = [&ending] {
      ending.restart = !ending.asked.is_cancelled();
      ending.stop.set();
    };
    Daemon daemon(config, std::move(hooks));
    (*real)->loop().run_until(serve(daemon, **real, ending, &result));
  }
  pthread_kill(waiter.native_handle(), SIGUSR1);
  waiter.join();
  if (!result.ok()) return fail(result.error());
  return ending.restart ? fail(begin_anew(argv)) : 0;
}

int main_with(int argc, char** argv) {
  Flags flags;
  CLI::App app("The daemon of one Holdfast node.", "holdfastd");
  app.set_version_flag("--version", std::string("holdfastd ") + HF_VERSION);
  CLI::Option* file = app.add_option("--config", flags.config_file, "configuration (TOML)");
  file->capture_default_str();
  app.add_option("--state-dir", flags.state_dir, "state store, identity, mounts");
  app.add_option("--run-dir", flags.run_dir, "sockets");
  app.add_option("--docker-socket", flags.docker_socket, "where Docker finds the plugin");
  app.add_flag("--no-docker", flags.no_docker, "no Docker plugin");
  app.add_option("--http-port", flags.http_port, "/healthz and /metrics on loopback; 0: none")
      ->check(CLI::Range(0, 65535));
  app.add_option("--node-name", flags.node_name, "default: the host name");
  app.add_option("--export", flags.export_kind, "ublk, nbd or fuse; default: the best here");
  app.add_option("--nbd-tcp", flags.nbd_tcp, "address of the NBD server on TCP; default: none");
  app.add_option("--log-level", flags.log_level, "debug, info, warn, error or off");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : error_info(ErrorCode::kInvalidArgument).exit_code;
  }
  flags.config_given = file->count() > 0;
  NodeConfig config;
  const Status good = apply(flags, &config);
  return good.ok() ? run(config, argv) : fail(good.error());
}

}  // namespace
}  // namespace hf::node

int main(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  if (verb == hf::mount::kFreezeGuard || verb == hf::mount::kThawGuard) return hf::mount::freeze_main(argc, argv);
  return hf::node::main_with(argc, argv);
}
