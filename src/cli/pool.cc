// holdfast pool …
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <memory>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "holdfast/v1/holdfast.grpc.pb.h"

namespace hf::cli {
namespace {

namespace v1 = holdfast::v1;
using Stub = v1::Pools::Stub;

std::string describe(const v1::Pool& pool) {
  Fields fields;
  fields.add("id", pool.id());
  fields.add("node", pool.node());
  fields.add("path", pool.path());
  fields.add("kind", pool.on_device() ? "device" : "directory");
  fields.add("state", pool.state());
  fields.add("message", pool.message());
  fields.add("total", format_size(pool.total_bytes()));
  fields.add("used", format_size(pool.used_bytes()));
  fields.add("provisioned", format_size(pool.provisioned_bytes()));
  fields.add("io class", pool.io_class());
  fields.add("replicas", std::to_string(pool.replica_count()));
  return fields.text();
}

template <typename Request>
int show(Client& client, const Output& output, const Request& request,
         grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, v1::Pool*)) {
  Stub stub(client.channel());
  Result<v1::Pool> pool = client.call<v1::Pool>(stub, method, request);
  if (!pool.ok()) return output.fail(pool.error());
  output.print(*pool, describe(*pool));
  return 0;
}

// "" and "0" mean: as the command says.
Result<uint64_t> optional_size(const std::string& text) {
  return text.empty() ? Result<uint64_t>(uint64_t{0}) : parse_size(text, kGiB);
}

void add_add(CLI::App& parent, Context& context) {
  struct Args {
    std::string path, size, io_class;
    bool force = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("add", "Make a pool of a directory or a block device");
  app->add_option("path", args->path, "an existing directory, or a block device")->required();
  app->add_option("-s,--size", args->size,
                  "size of a directory's pool (default: 90 % of what is free)");
  app->add_option("--io-class", args->io_class, "low, medium or high: matched by io_priority");
  app->add_flag("--force", args->force, "take a device that carries data; the data is lost");
  app->footer(
      "Examples:\n  holdfast pool add /var/lib/holdfast/pool --size 50G\n"
      "  holdfast pool add /dev/nvme1n1 --io-class high");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Result<uint64_t> size = optional_size(args->size);
      if (!size.ok()) return context.output.fail(size.error());
      v1::AddPoolRequest request;
      request.set_path(args->path);
      request.set_size_bytes(*size);
      request.set_io_class(args->io_class);
      request.set_force(args->force);
      return show(client, context.output, request, &Stub::Add);
    };
  });
}

// The offline tools live in a program of their own, beside this one: they need the store, not a
// daemon.
int run_offline(const Output& output, std::vector<std::string> words) {
  char self[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  std::string program = n > 0 ? std::string(self, static_cast<size_t>(n)) : std::string("holdfast");
  program = program.substr(0, program.rfind('/')) + "/holdfast-pool";
  if (output.json) words.push_back("--json");
  std::vector<char*> argv{program.data()};
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  return output.fail(Error::from_errno(errno, "run " + program));
}

void add_list_and_inspect(CLI::App& parent, Context& context) {
  CLI::App* list = parent.add_subcommand("list", "List pools");
  list->alias("ls");
  list->footer(
      "PROVISIONED is the sum of the sizes of the volumes in the pool: space is given when it is "
      "written, so that may\n"
      "be more than TOTAL.\n\nExamples:\n  holdfast pool list --json");
  list->callback([&context] {
    context.action = [&context](Client& client) {
      Stub stub(client.channel());
      auto all = client.call<v1::ListPoolsResponse>(stub, &Stub::List, v1::ListPoolsRequest());
      if (!all.ok()) return context.output.fail(all.error());
      Table table({"PATH", "STATE", "TOTAL", "USED", "PROVISIONED", "CLASS", "REPLICAS", "ID"});
      for (const v1::Pool& pool : all->pools()) {
        table.add({pool.path(), pool.state(), format_size(pool.total_bytes()),
                   format_size(pool.used_bytes()), format_size(pool.provisioned_bytes()),
                   pool.io_class(), std::to_string(pool.replica_count()), pool.id()});
      }
      context.output.print(*all, table.empty()
                                     ? "no pools; make one with: holdfast pool add DIRECTORY\n"
                                     : table.text());
      return 0;
    };
  });
  auto pool = std::make_shared<std::string>();
  CLI::App* inspect =
      parent.add_subcommand("inspect", "Show a pool; without a daemon, the one at that path");
  inspect->add_option("pool", *pool, "id or path")->required();
  inspect->footer("Examples:\n  holdfast pool inspect /var/lib/holdfast/pool");
  inspect->callback([&context, pool] {
    context.action = [&context, pool](Client& client) {
      v1::InspectPoolRequest request;
      request.set_pool(*pool);
      Stub stub(client.channel());
      Result<v1::Pool> found = client.call<v1::Pool>(stub, &Stub::Inspect, request);
      // Without a daemon, a path can still be looked at.
      if (found.code() == ErrorCode::kUnavailable && pool->starts_with('/')) {
        return run_offline(context.output, {"inspect", *pool});
      }
      if (!found.ok()) return context.output.fail(found.error());
      context.output.print(*found, describe(*found));
      return 0;
    };
  });
}

void add_expand(CLI::App& parent, Context& context) {
  struct Args {
    std::string pool, size;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("expand", "Grow a pool, online");
  app->add_option("pool", args->pool, "id or path")->required();
  app->add_option("-s,--size", args->size,
                  "new size (default: all that the directory or device has)");
  app->footer("Examples:\n  holdfast pool expand /var/lib/holdfast/pool --size 100G");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Result<uint64_t> size = optional_size(args->size);
      if (!size.ok()) return context.output.fail(size.error());
      v1::ExpandPoolRequest request;
      request.set_pool(args->pool);
      request.set_size_bytes(*size);
      return show(client, context.output, request, &Stub::Expand);
    };
  });
}

struct RemoveArgs {
  std::string pool;
  bool force = false, missing_ok = false, yes = false;
};

std::string named(const google::protobuf::RepeatedPtrField<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string removal_text(const RemoveArgs& args, const v1::RemovePoolResponse& done) {
  if (!done.removed()) return fmt::format("there is no pool {}\n", args.pool);
  std::string text = fmt::format("removed pool {} ({}); what is in it stays there\n",
                                 done.pool().path(), done.pool().id());
  if (done.lost_volumes_size() > 0) {
    text += fmt::format("lost with it: {}; holdfast volume delete takes them off the list\n",
                        named(done.lost_volumes()));
  }
  if (done.degraded_volumes_size() > 0) {
    text += fmt::format("with one replica less: {}\n", named(done.degraded_volumes()));
  }
  return text;
}

// With --force it is asked for by the names of what goes with it, which only the daemon knows.
int remove_pool(Client& client, const Output& output, const RemoveArgs& args) {
  Stub stub(client.channel());
  v1::RemovePoolRequest request;
  request.set_pool(args.pool);
  request.set_force(args.force);
  request.set_missing_ok(args.missing_ok);
  if (args.force && !args.yes) {
    request.set_only_look(true);
    auto seen = client.call<v1::RemovePoolResponse>(stub, &Stub::Remove, request);
    if (!seen.ok()) return output.fail(seen.error());
    const std::string lost = named(seen->lost_volumes());
    Status sure =
        confirm(false, fmt::format("Give up pool {}{}?", args.pool,
                                   lost.empty() ? "" : " and, for good, all data of: " + lost));
    if (!sure.ok()) return output.fail(sure.error());
    request.set_only_look(false);
  }
  auto done = client.call<v1::RemovePoolResponse>(stub, &Stub::Remove, request);
  if (!done.ok()) return output.fail(done.error());
  output.print(*done, removal_text(args, *done));
  return 0;
}

void add_remove(CLI::App& parent, Context& context) {
  auto args = std::make_shared<RemoveArgs>();
  CLI::App* app = parent.add_subcommand("remove", "Take a pool of this node out of the cluster");
  app->alias("rm");
  app->add_option("pool", args->pool, "id or path")->required();
  app->add_flag(
      "--force", args->force,
      "give up a pool that cannot be opened, with the volumes that have nothing elsewhere");
  app->add_flag("--missing-ok", args->missing_ok, "succeed if there is no such pool");
  app->add_flag("-y,--yes", args->yes, "do not ask");
  app->footer(
      "What is in the pool stays where it is; nothing opens it any more (holdfast pool export "
      "reads it). A pool that "
      "holds\nreplicas of volumes is refused. One that cannot be opened, since its disk is gone "
      "for ever, goes by --force: "
      "volumes\nwhose only replica was in it are lost, and named before it asks.\n\n"
      "Examples:\n  holdfast pool remove /var/lib/holdfast/pool2\n"
      "  holdfast pool remove /dev/nvme1n1 --force");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      return remove_pool(client, context.output, *args);
    };
  });
}

void add_offline(CLI::App& parent, Context& context) {
  struct Args {
    std::string path, volume, to;
  };
  auto args = std::make_shared<Args>();
  CLI::App* verify = parent.add_subcommand(
      "verify", "Check every checksum of a pool that no daemon serves (read-only)");
  verify->add_option("path", args->path, "the pool's directory or device")->required();
  verify->footer(
      "Changes nothing. Exit 0 and \"0 findings\", or exit 21 and one line for each block that is "
      "damaged.\n\n"
      "Examples:\n  systemctl stop holdfastd && holdfast pool verify /var/lib/holdfast/pool");
  verify->callback([&context, args] {
    context.action = [&context, args](Client&) {
      return run_offline(context.output, {"verify", args->path});
    };
  });
  CLI::App* exports = parent.add_subcommand(
      "export", "Write a volume to a raw file, from a pool that no daemon serves");
  exports->add_option("path", args->path, "the pool's directory or device")->required();
  exports->add_option("volume", args->volume, "volume or replica id, or id@snapshot-id")
      ->required();
  exports->add_option("to", args->to, "a file to make, or - for standard output")->required();
  exports->footer(
      "Needs neither a daemon nor the state store: the way to save data from a dead machine's "
      "disk. The ids are\n"
      "those that \"holdfast pool inspect PATH\" shows while no daemon runs.\n\n"
      "Examples:\n  holdfast pool export /var/lib/holdfast/pool VOLUME-ID /mnt/backup/pg.img\n"
      "  holdfast pool export /mnt/old/pool VOLUME-ID@SNAPSHOT-ID - | zstd >pg.zst");
  exports->callback([&context, args] {
    context.action = [&context, args](Client&) {
      return run_offline(context.output, {"export", args->path, args->volume, args->to});
    };
  });
}

}  // namespace

void add_pool_commands(CLI::App& app, Context& context) {
  CLI::App* pool = app.add_subcommand("pool", "Give storage to the node, look at it, check it");
  add_add(*pool, context);
  add_list_and_inspect(*pool, context);
  add_expand(*pool, context);
  add_remove(*pool, context);
  add_offline(*pool, context);
}

}  // namespace hf::cli
