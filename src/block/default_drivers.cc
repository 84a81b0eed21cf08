#include "block/default_drivers.h"

#include "block/fuse/fuse_driver.h"
#include "block/nbd/kernel/nbd_driver.h"
#include "block/ublk/ublk_driver.h"
#include "holder/client.h"
#include "runtime/process.h"

namespace hf::block {

std::vector<std::unique_ptr<Driver>> make_default_drivers(World& world, UringLoop& loop,
                                                          KernelIo& io,
                                                          const DriverSettings& settings) {
  std::vector<std::unique_ptr<Driver>> drivers;
  drivers.push_back(std::make_unique<ublk::UblkDriver>(world, loop, settings.run_dir));
  drivers.push_back(std::make_unique<nbdk::NbdDriver>(world, io, settings.run_dir));
  fuse::DriverOptions options;
  options.run_dir = settings.run_dir;
  options.holder_socket = settings.holder_socket;
  options.holder_program = settings.holder_program;
  drivers.push_back(std::make_unique<fuse::FuseDriver>(world, io, std::move(options)));
  return drivers;
}

Task<Result<bool>> ensure_holder(World& world, std::string program, std::string socket) {
  std::function<Status()> ping = [socket] { return holder::Client(socket).ping(); };
  Status answers = co_await run_blocking<Status>(world.blocking, ping);
  if (answers.ok()) co_return false;
  std::vector<std::string> argv;
  argv.push_back(program);
  argv.push_back(socket);
  Result<CommandResult> started = co_await world.process.run(std::move(argv), 10s);
  HF_CO_TRY(started);
  if (started->exit_status != 0) {
    co_return make_error(ErrorCode::kUnavailable, "{} could not be started for {}: {}", program,
                         socket, started->output);
  }
  answers = co_await run_blocking<Status>(world.blocking, ping);
  HF_CO_TRY(answers);
  co_return true;
}

}  // namespace hf::block
