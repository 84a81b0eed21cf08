// holdfast snapshot …
#include <memory>

#include "base/units.h"
#include "base/utc.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "holdfast/v1/holdfast.grpc.pb.h"

namespace hf::cli {
namespace {

namespace v1 = holdfast::v1;
using Stub = v1::Snapshots::Stub;

struct Args {
  std::string volume, snapshot;
  std::vector<std::string> labels;
  bool yes = false;
  bool freeze = false;
};

void add_create(CLI::App& parent, Context& context) {
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("create", "Cut a snapshot; the volume may be in use");
  app->add_option("volume", args->volume, "name or id")->required();
  app->add_option("name", args->snapshot, "the snapshot's name (default: the time)");
  app->add_option("-l,--label", args->labels, "key=value; may be repeated");
  app->add_flag("--freeze", args->freeze,
                "make writers wait for the cut, 10 s at most, so that it needs no recovery");
  app->footer(
      "It takes a moment, and no space until blocks change. What it holds of a volume in use is "
      "what a crash at\n"
      "this moment would have left: databases and file systems recover from that. With --freeze its file\n"
      "system needs no recovery; its writers wait meanwhile.\n\n"
      "Examples:\n  holdfast snapshot create pg\n  holdfast snapshot create pg before-migration -l "
      "why=upgrade");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Result<std::map<std::string, std::string>> labels = parse_pairs(args->labels);
      if (!labels.ok()) return context.output.fail(labels.error());
      v1::CreateSnapshotRequest request;
      request.set_volume(args->volume);
      request.set_name(args->snapshot);
      request.set_freeze(args->freeze);
      for (const auto& [key, value] : *labels) (*request.mutable_labels())[key] = value;
      Stub stub(client.channel());
      auto made = client.call<v1::Snapshot>(stub, &Stub::Create, request);
      if (!made.ok()) return context.output.fail(made.error());
      context.output.print(*made,
                           fmt::format("snapshot {} of {}\n", made->name(), made->volume_name()));
      return 0;
    };
  });
}

void add_list(CLI::App& parent, Context& context) {
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("list", "List snapshots, oldest first");
  app->alias("ls");
  app->add_option("volume", args->volume, "only of this volume");
  app->footer("Examples:\n  holdfast snapshot list\n  holdfast snapshot list pg --json");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      v1::ListSnapshotsRequest request;
      request.set_volume(args->volume);
      Stub stub(client.channel());
      auto all = client.call<v1::ListSnapshotsResponse>(stub, &Stub::List, request);
      if (!all.ok()) return context.output.fail(all.error());
      Table table({"VOLUME", "SNAPSHOT", "SIZE", "CREATED", "ID"});
      for (const v1::Snapshot& s : all->snapshots()) {
        table.add({s.volume_name(), s.name(), format_size(s.size_bytes()),
                   format_utc(s.created().seconds()), s.id()});
      }
      context.output.print(*all, table.empty() ? "no snapshots\n" : table.text());
      return 0;
    };
  });
}

void add_delete(CLI::App& parent, Context& context) {
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("delete", "Delete a snapshot; volumes and clones stay");
  app->alias("rm");
  app->add_option("volume", args->volume, "name or id")->required();
  app->add_option("snapshot", args->snapshot, "name or id")->required();
  app->add_flag("-y,--yes", args->yes, "do not ask");
  app->footer("Examples:\n  holdfast snapshot delete pg before-migration");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Status sure = confirm(args->yes,
                            fmt::format("Delete snapshot {} of {}?", args->snapshot, args->volume));
      if (!sure.ok()) return context.output.fail(sure.error());
      v1::DeleteSnapshotRequest request;
      request.set_volume(args->volume);
      request.set_snapshot(args->snapshot);
      Stub stub(client.channel());
      auto done = client.call<v1::DeleteSnapshotResponse>(stub, &Stub::Delete, request);
      if (!done.ok()) return context.output.fail(done.error());
      context.output.print(*done, fmt::format("deleted {}@{}\n", args->volume, args->snapshot));
      return 0;
    };
  });
}

void add_restore(CLI::App& parent, Context& context) {
  auto args = std::make_shared<Args>();
  CLI::App* app =
      parent.add_subcommand("restore", "Make a volume again what it was; later writes are lost");
  app->add_option("volume", args->volume, "name or id")->required();
  app->add_option("snapshot", args->snapshot, "name or id")->required();
  app->add_flag("-y,--yes", args->yes, "do not ask");
  app->footer(
      "The volume must not be mounted or attached: stop its container first. To keep what it holds "
      "now, cut a\n"
      "snapshot before; to only look at the old state, clone the snapshot instead.\n\n"
      "Examples:\n  holdfast snapshot restore pg before-migration");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Status sure = confirm(
          args->yes, fmt::format("Restore {} to snapshot {}? Everything written since is lost.",
                                 args->volume, args->snapshot));
      if (!sure.ok()) return context.output.fail(sure.error());
      v1::RestoreSnapshotRequest request;
      request.set_volume(args->volume);
      request.set_snapshot(args->snapshot);
      Stub stub(client.channel());
      auto volume = client.call<v1::Volume>(stub, &Stub::Restore, request);
      if (!volume.ok()) return context.output.fail(volume.error());
      context.output.print(
          *volume, fmt::format("{} is what it was at {}\n", volume->name(), args->snapshot));
      return 0;
    };
  });
}

}  // namespace

void add_snapshot_commands(CLI::App& app, Context& context) {
  CLI::App* snapshot = app.add_subcommand("snapshot", "Cut, list, delete and restore snapshots");
  add_create(*snapshot, context);
  add_list(*snapshot, context);
  add_delete(*snapshot, context);
  add_restore(*snapshot, context);
}

}  // namespace hf::cli
