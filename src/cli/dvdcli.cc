// dvdcli: what Mesos' docker/volume isolator runs. The same program as holdfast, by its name (docs/schedulers/mesos.md).
//
//   dvdcli mount --volumedriver=holdfast --volumename=NAME [--volumeopts=key=value ...]   prints the mount point, one line
//   dvdcli unmount --volumedriver=holdfast --volumename=NAME
//
// The agent calls mount once per container and unmount at the last one, and repeats either after it was restarted: so there
// is one holder for all, and both are idempotent. It kills a mount after 120 s; what that had begun, the next one finds.
#include <cstdio>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/dvdcli.h"
#include "holdfast/v1/holdfast.grpc.pb.h"
#include "volume/spec/inline_parser.h"

namespace hf::cli {
namespace {

namespace v1 = holdfast::v1;
using Volumes = v1::Volumes::Stub;

constexpr char kDriver[] = "holdfast";
constexpr char kHolder[] = "dvdi";

struct Arguments {
  std::string driver;
  std::string name;  // a plain name or an inline spec
  std::vector<std::string> options;
  bool explicit_create = false;
};

int refuse(const Error& error) {
  std::fprintf(stderr, "dvdcli: %s\n", error.to_string().c_str());
  return error_info(error.code()).exit_code;
}

Status check_driver(const Arguments& args) {
  if (args.driver == kDriver) return {};
  return make_error(ErrorCode::kInvalidArgument, "this dvdcli has volumes of the driver \"{}\", not of \"{}\"", kDriver,
                    args.driver.substr(0, 64));
}

// Creates the volume, or sees that the one of that name is what is asked for. A name alone takes it as it is.
Status make_sure_of(Client& client, Volumes& stub, const Arguments& args, const std::string& name, bool says_what) {
  if (!says_what || args.explicit_create) {
    v1::InspectVolumeRequest look;
    look.set_volume(name);
    const auto there = client.call<v1::Volume>(stub, &Volumes::Inspect, look);
    if (there.ok()) return {};
    if (there.code() != ErrorCode::kNotFound || args.explicit_create) return there.error();
  }
  v1::CreateVolumeRequest request;
  request.set_name(args.name);
  const Result<std::map<std::string, std::string>> options = parse_pairs(args.options);
  HF_TRY(options);
  for (const auto& [key, value] : *options) (*request.mutable_options())[key] = value;
  HF_TRY(client.call<v1::Volume>(stub, &Volumes::Create, request));
  return {};
}

int mount(Client& client, const Arguments& args) {
  const Result<spec::ParsedName> parsed = spec::parse_volume_name(args.name);
  if (!parsed.ok()) return refuse(parsed.error());
  Volumes stub(client.channel());
  const Status made =
      make_sure_of(client, stub, args, parsed->spec.name, parsed->is_inline || !args.options.empty());
  if (!made.ok()) return refuse(made.error());
  v1::MountVolumeRequest request;
  request.set_volume(parsed->spec.name);
  request.set_holder(kHolder);
  const auto mounted = client.call<v1::MountPoint>(stub, &Volumes::Mount, request);
  if (!mounted.ok()) return refuse(mounted.error());
  std::printf("%s\n", mounted->path().c_str());
  // The agent takes an empty answer for a mount point.
  if (std::fflush(stdout) != 0) return refuse(Error::from_errno(errno, "standard output"));
  return 0;
}

int unmount(Client& client, const Arguments& args) {
  const Result<spec::ParsedName> parsed = spec::parse_volume_name(args.name);
  if (!parsed.ok()) return refuse(parsed.error());
  Volumes stub(client.channel());
  v1::UnmountVolumeRequest request;
  request.set_volume(parsed->spec.name);
  request.set_holder(kHolder);
  const auto done = client.call<v1::Volume>(stub, &Volumes::Unmount, request);
  // One that was deleted meanwhile is not mounted either.
  return done.ok() || done.code() == ErrorCode::kNotFound ? 0 : refuse(done.error());
}

void add_common(CLI::App* command, Arguments& args) {
  command->add_option("--volumedriver", args.driver, "must be holdfast")->required();
  command->add_option("--volumename", args.name, "a name, or an inline spec with name=")->required();
  command->allow_extras(false);
}

}  // namespace

int run_dvdcli(int argc, char** argv) {
  std::string socket = kDefaultSocket;
  if (const char* given = std::getenv("HOLDFAST_SOCKET"); given != nullptr && *given != 0) socket = given;
  Arguments args;
  CLI::App app("Mounts volumes for the docker/volume isolator of Mesos.", "dvdcli");
  app.set_version_flag("--version", std::string("dvdcli of holdfast ") + HF_VERSION);
  app.require_subcommand(1);
  CLI::App* on = app.add_subcommand("mount", "Create the volume if need be, mount it, and print where");
  add_common(on, args);
  on->add_option("--volumeopts", args.options, "key=value of the volume's spec; may be given again")
      ->take_all()
      ->allow_extra_args(false);
  on->add_option("--explicitcreate", args.explicit_create, "true: never create it");
  CLI::App* off = app.add_subcommand("unmount", "Give up the mount; success where there is none");
  add_common(off, args);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    return refuse(make_error(ErrorCode::kInvalidArgument, "{}; see dvdcli --help", e.what()));
  }
  const Status driver = check_driver(args);
  if (!driver.ok()) return refuse(driver.error());
  const Status path = Client::check_socket_path(socket);
  if (!path.ok()) return refuse(path.error());
  Client client(socket);
  return on->parsed() ? mount(client, args) : unmount(client, args);
}

}  // namespace hf::cli
