// holdfast volume …
#include <poll.h>

#include <memory>

#include "base/units.h"
#include "base/utc.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "holdfast/v1/holdfast.grpc.pb.h"
#include "volume/spec/key_doc.h"

namespace hf::cli {
namespace {

namespace v1 = holdfast::v1;
using Stub = v1::Volumes::Stub;

std::string replicas_text(const v1::Volume& volume) {
  int online = 0;
  for (const v1::Replica& replica : volume.replicas()) {
    online += replica.state() == "online" && replica.in_sync();
  }
  return fmt::format("{}/{}", online, volume.replicas_size());
}

std::string findings_text(const v1::ScrubFindings& seen) {
  std::string text = format_size(seen.compared_bytes()) + " compared";
  if (seen.mended_bytes() > 0) text += ", " + format_size(seen.mended_bytes()) + " mended";
  if (seen.undecided_bytes() > 0) text += ", " + format_size(seen.undecided_bytes()) + " different without a majority";
  if (seen.lost_bytes() > 0) text += ", " + format_size(seen.lost_bytes()) + " damaged on every replica";
  const bool sound = seen.mended_bytes() + seen.undecided_bytes() + seen.lost_bytes() == 0;
  if (sound) text += ", nothing wrong";
  if (!seen.all_members()) text += "; not all replicas in sync were there all the time";
  return text;
}

// "2026-11-28T04:00:00Z: 3 GiB compared, nothing wrong; now at 1 GiB of 10 GiB".
std::string scrub_line(const v1::ScrubReport& scrub) {
  std::string text = "never at its end yet";
  if (scrub.has_ended()) text = fmt::format("{}: {}", format_utc(scrub.ended().seconds()), findings_text(scrub.last()));
  if (!scrub.has_begun()) return text;
  text += fmt::format("; {} {} of {}", scrub.running() ? "now at" : "cut short at", format_size(scrub.so_far().done_to()),
                      format_size(scrub.size_bytes()));
  if (!scrub.message().empty()) text += ": " + scrub.message();
  return text;
}

std::string describe(const v1::Volume& volume) {
  Fields fields;
  fields.add("name", volume.name());
  fields.add("id", volume.id());
  fields.add("state", volume.state());
  fields.add("message", volume.message());
  fields.add("placement", volume.placement());
  fields.add("size", format_size(volume.size_bytes()));
  fields.add("used", format_size(volume.used_bytes()));
  const auto fs = volume.spec().find("fs");
  fields.add("file system", fs == volume.spec().end() ? std::string() : fs->second);
  fields.add("spec", volume.inline_spec());
  fields.add("parent", volume.parent());
  fields.add("snapshots", std::to_string(volume.snapshot_count()));
  fields.add("created", format_utc(volume.created().seconds()));
  if (volume.has_scrub()) fields.add("scrub", scrub_line(volume.scrub()));
  for (const v1::Replica& replica : volume.replicas()) {
    std::string state = replica.state() + (replica.in_sync() ? "" : ", not in sync");
    if (replica.resync_bytes_total() > 0) {
      state += fmt::format(", {} of {} copied", format_size(replica.resync_bytes_done()),
                           format_size(replica.resync_bytes_total()));
    }
    fields.add("replica", fmt::format("{} ({})", replica.id(), state));
    fields.add("  on node", replica.node_name().empty() ? replica.node() : replica.node_name());
    fields.add("  in pool", replica.pool());
    fields.add("  message", replica.message());
  }
  if (volume.has_attachment()) {
    const v1::Attachment& at = volume.attachment();
    fields.add("attached on", at.node_name());
    fields.add("device", fmt::format("{} (by {})", at.device(), at.export_()));
    fields.add("mounted at", at.mount_path());
    for (const v1::MountPoint& mount : at.mounts()) {
      // Who mounts by hand has no name but the path.
      fields.add("mount", mount.holder().starts_with("path:")
                              ? mount.path()
                              : fmt::format("{} held by {}", mount.path(), mount.holder()));
    }
  }
  return fields.text();
}

std::string list_text(const v1::ListVolumesResponse& all) {
  Table table({"NAME", "SIZE", "USED", "STATE", "REPLICAS", "FS", "DEVICE", "MOUNTS"});
  for (const v1::Volume& volume : all.volumes()) {
    const auto fs = volume.spec().find("fs");
    table.add({volume.name(), format_size(volume.size_bytes()), format_size(volume.used_bytes()),
               volume.state(), replicas_text(volume),
               fs == volume.spec().end() ? std::string() : fs->second, volume.attachment().device(),
               std::to_string(volume.attachment().mounts_size())});
  }
  return table.empty() ? "no volumes; make one with: holdfast volume create NAME --size 10G\n"
                       : table.text();
}

// Runs one call that answers a Volume and prints it, in the words of `tell`.
template <typename Request>
int show(Client& client, const Output& output, const Request& request,
         grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, v1::Volume*),
         std::string (*tell)(const v1::Volume&) = describe) {
  Stub stub(client.channel());
  Result<v1::Volume> volume = client.call<v1::Volume>(stub, method, request);
  if (!volume.ok()) return output.fail(volume.error());
  output.print(*volume, tell(*volume));
  return 0;
}

// "pg is attached as /dev/loop3 (by fuse), mounted at 2 places".
std::string where_it_is(const v1::Volume& volume) {
  if (!volume.has_attachment()) return fmt::format("{} is {}\n", volume.name(), volume.state());
  const v1::Attachment& at = volume.attachment();
  const std::string device = at.device().empty()
                                 ? "for " + at.export_()
                                 : fmt::format("as {} (by {})", at.device(), at.export_());
  std::string text = fmt::format("{} is attached {}\n", volume.name(), device);
  for (const v1::MountPoint& mount : at.mounts())
    text += fmt::format("and mounted at {}\n", mount.path());
  return text;
}

void add_create(CLI::App& volume, Context& context) {
  struct Args {
    std::string name, size, fs, repl;
    std::vector<std::string> options;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = volume.add_subcommand("create", "Create a volume");
  app->add_option("name", args->name, "a name, or an inline spec: size=20G,fs=xfs,name=db")
      ->required();
  app->add_option("-s,--size", args->size, "size, such as 20G (a bare number is GiB)");
  app->add_option("--fs", args->fs, "ext4, xfs, btrfs or none");
  app->add_option("--repl", args->repl, "replicas, 1 to 3");
  app->add_option("-o,--opt", args->options, "key=value of the volume spec; may be repeated");
  app->footer("Keys of the spec (give them with -o key=value or inline):\n" + spec::help_text() +
              "\nExamples:\n  holdfast volume create pg --size 20G\n"
              "  holdfast volume create size=20G,fs=xfs,name=logs\n"
              "Asked again with the same spec, the command answers the volume that is there.");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Result<std::map<std::string, std::string>> options = parse_pairs(args->options);
      if (!options.ok()) return context.output.fail(options.error());
      v1::CreateVolumeRequest request;
      request.set_name(args->name);
      for (const auto& [key, value] : *options) (*request.mutable_options())[key] = value;
      const std::pair<const char*, const std::string*> flags[] = {
          {"size", &args->size}, {"fs", &args->fs}, {"repl", &args->repl}};
      for (const auto& [key, value] : flags) {
        if (!value->empty()) (*request.mutable_options())[key] = *value;
      }
      return show(client, context.output, request, &Stub::Create);
    };
  });
}

void add_list_and_inspect(CLI::App& volume, Context& context) {
  CLI::App* list = volume.add_subcommand("list", "List volumes");
  list->alias("ls");
  list->footer(
      "SIZE is what the volume may hold, USED what it takes of its pools, REPLICAS how many of its "
      "replicas are\n"
      "online, MOUNTS how many have it mounted.\n\nExamples:\n  holdfast volume list --json");
  list->callback([&context] {
    context.action = [&context](Client& client) {
      Stub stub(client.channel());
      auto all = client.call<v1::ListVolumesResponse>(stub, &Stub::List, v1::ListVolumesRequest());
      if (!all.ok()) return context.output.fail(all.error());
      context.output.print(*all, list_text(*all));
      return 0;
    };
  });
  auto name = std::make_shared<std::string>();
  CLI::App* inspect = volume.add_subcommand("inspect", "Show a volume: spec, replicas, attachment");
  inspect->add_option("volume", *name, "name or id")->required();
  inspect->footer("Examples:\n  holdfast volume inspect pg\n  holdfast volume inspect pg --json");
  inspect->callback([&context, name] {
    context.action = [&context, name](Client& client) {
      v1::InspectVolumeRequest request;
      request.set_volume(*name);
      return show(client, context.output, request, &Stub::Inspect);
    };
  });
}

void add_delete(CLI::App& volume, Context& context) {
  struct Args {
    std::string name;
    bool snapshots = false, missing_ok = false, yes = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = volume.add_subcommand("delete", "Delete a volume and its data for good");
  app->alias("rm");
  app->add_option("volume", args->name, "name or id")->required();
  app->add_flag("--with-snapshots", args->snapshots, "delete its snapshots too");
  app->add_flag("--missing-ok", args->missing_ok, "succeed if there is no such volume");
  app->add_flag("-y,--yes", args->yes, "do not ask");
  app->footer(
      "A volume that is mounted or attached, that is sticky, or that has snapshots is refused. "
      "Clones of it\n"
      "stay what they are.\n\nExamples:\n  holdfast volume delete pg\n"
      "  holdfast volume delete pg --with-snapshots --yes");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Status sure =
          confirm(args->yes, fmt::format("Delete volume {} and all its data{}?", args->name,
                                         args->snapshots ? " and snapshots" : ""));
      if (!sure.ok()) return context.output.fail(sure.error());
      v1::DeleteVolumeRequest request;
      request.set_volume(args->name);
      request.set_with_snapshots(args->snapshots);
      request.set_missing_ok(args->missing_ok);
      Stub stub(client.channel());
      auto done = client.call<v1::DeleteVolumeResponse>(stub, &Stub::Delete, request);
      if (!done.ok()) return context.output.fail(done.error());
      context.output.print(*done, fmt::format("deleted {}\n", args->name));
      return 0;
    };
  });
}

void add_resize_and_update(CLI::App& volume, Context& context) {
  struct Args {
    std::string name, size;
    std::vector<std::string> options;
  };
  auto args = std::make_shared<Args>();
  CLI::App* resize = volume.add_subcommand("resize", "Grow a volume and its file system, online");
  resize->add_option("volume", args->name, "name or id")->required();
  resize->add_option("size", args->size, "new size, such as 40G (a bare number is GiB)")
      ->required();
  resize->footer(
      "A volume never shrinks. Its file system grows with it, while it is in use too; where that "
      "cannot\n"
      "be now, the answer says so and the next mount does it.\n\n"
      "Examples:\n  holdfast volume resize pg 40G");
  resize->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Result<uint64_t> size = parse_size(args->size, kGiB);
      if (!size.ok()) return context.output.fail(size.error());
      v1::ResizeVolumeRequest request;
      request.set_volume(args->name);
      request.set_size_bytes(*size);
      return show(client, context.output, request, &Stub::Resize);
    };
  });
  CLI::App* update = volume.add_subcommand("update", "Change keys of a volume's spec");
  update->add_option("volume", args->name, "name or id")->required();
  update->add_option("-o,--opt", args->options, "key=value; may be repeated")->required();
  update->footer(
      "Keys that decide what is on the disk already (fs, block_size) are refused; a new size is "
      "for resize.\n\n"
      "Examples:\n  holdfast volume update db -o sticky=true -o labels=team=core");
  update->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Result<std::map<std::string, std::string>> options = parse_pairs(args->options);
      if (!options.ok()) return context.output.fail(options.error());
      v1::UpdateVolumeRequest request;
      request.set_volume(args->name);
      for (const auto& [key, value] : *options) (*request.mutable_options())[key] = value;
      return show(client, context.output, request, &Stub::Update);
    };
  });
}

// How many replicas, and where it is used.
void add_replicas_and_move(CLI::App& volume, Context& context) {
  struct Args {
    std::string name, node;
    uint32_t repl = 0;
    bool force = false, yes = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* ha = volume.add_subcommand("ha-update", "Change how many replicas a volume has, online");
  ha->add_option("volume", args->name, "name or id")->required();
  ha->add_option("--repl", args->repl, "1 to 3")->required();
  ha->footer(
      "The same as: volume update NAME -o repl=N. A new replica is copied while the volume is used; inspect shows\n"
      "how far it is. Of too many, those that lack writes go first, and the one of the node that uses it last.\n\n"
      "Examples:\n  holdfast volume ha-update db --repl 3");
  ha->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      v1::UpdateVolumeRequest request;
      request.set_volume(args->name);
      (*request.mutable_options())["repl"] = std::to_string(args->repl);
      return show(client, context.output, request, &Stub::Update);
    };
  });
  CLI::App* move = volume.add_subcommand("move", "Attach a volume on another node");
  move->add_option("volume", args->name, "name or id")->required();
  move->add_option("--to", args->node, "name or id of the node")->required();
  move->add_flag("--force", args->force, "also from a node that is alive and uses it");
  move->add_flag("--yes", args->yes, "with --force: do not ask");
  move->footer(
      "For a planned move: it is ready where its next container will start. A container that starts on another node\n"
      "needs none of this, it takes the volume along by itself. Replicas stay where they are (node drain moves those).\n"
      "Refused while it is mounted where it is; with --force its users there get I/O errors from then on.\n\n"
      "Examples:\n  holdfast volume move db --to node2");
  move->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Status sure;
      if (args->force) sure = confirm(args->yes, fmt::format("Take volume {} from whoever uses it now?", args->name));
      if (!sure.ok()) return context.output.fail(sure.error());
      v1::MoveVolumeRequest request;
      request.set_volume(args->name);
      request.set_node(args->node);
      request.set_force(args->force);
      return show(client, context.output, request, &Stub::Move, where_it_is);
    };
  });
}

constexpr int kLookAgainMs = 500;

int scrub(Client& client, const Output& output, v1::ScrubVolumeRequest request, bool wait) {
  Stub stub(client.channel());
  auto scrub = client.call<v1::ScrubReport>(stub, &Stub::Scrub, request);
  if (!scrub.ok()) return output.fail(scrub.error());
  request.set_only_look(true);
  while (wait && scrub->running()) {
    ::poll(nullptr, 0, kLookAgainMs);
    scrub = client.call<v1::ScrubReport>(stub, &Stub::Scrub, request);
    if (!scrub.ok()) return output.fail(scrub.error());
  }
  if (wait && scrub->has_begun()) {
    return output.fail(make_error(ErrorCode::kUnavailable, "the scrub of {} was cut short at {} of {}: {}; asked again it goes on "
                                  "there",
                                  scrub->volume(), format_size(scrub->so_far().done_to()), format_size(scrub->size_bytes()),
                                  scrub->message().empty() ? "the volume went elsewhere, or its node ended" : scrub->message()));
  }
  output.print(*scrub, fmt::format("{}: {}\n", scrub->volume(), scrub_line(*scrub)));
  const bool bad = wait && scrub->last().undecided_bytes() + scrub->last().lost_bytes() > 0;
  return bad ? Error(ErrorCode::kCorruption, "").info().exit_code : 0;
}

void add_scrub(CLI::App& volume, Context& context) {
  struct Args {
    std::string name, rate;
    bool no_wait = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = volume.add_subcommand("scrub", "Compare a volume's replicas and mend what one has damaged");
  app->add_option("volume", args->name, "name or id")->required();
  app->add_option("--rate", args->rate, "at most so much a second of each replica, such as 50M (default: no limit)");
  app->add_flag("--no-wait", args->no_wait, "return at once; inspect shows how far it is");
  app->footer(
      "Reads all that is allocated while the volume is used, compares what the replicas in sync have, and writes anew what\n"
      "is damaged on some or different from most. Of two that differ none is taken for right: that is told, as is what\n"
      "every replica has damaged, and the exit code is that of \"corruption\". Of a volume of one replica the checksums are\n"
      "checked. A round that is cut short goes on where it was. Every volume is scrubbed by itself, too\n"
      "(scrub_every_days in holdfastd.toml).\n\n"
      "Examples:\n  holdfast volume scrub db\n  holdfast volume scrub db --rate 50M --no-wait");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      v1::ScrubVolumeRequest request;
      request.set_volume(args->name);
      if (!args->rate.empty()) {
        Result<uint64_t> rate = parse_size(args->rate, kMiB);
        if (!rate.ok()) return context.output.fail(rate.error());
        request.set_bytes_per_second(*rate);
      }
      return scrub(client, context.output, request, !args->no_wait);
    };
  });
}

std::string joined(const google::protobuf::RepeatedPtrField<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return text;
}

int force_promote(Client& client, const Output& output, v1::ForcePromoteRequest request, bool yes) {
  Stub stub(client.channel());
  request.set_only_look(true);
  auto would = client.call<v1::Promotion>(stub, &Stub::ForcePromote, request);
  if (!would.ok()) return output.fail(would.error());
  if (!would->done()) {
    const std::string since = would->has_away_since() ? fmt::format(" (away since {})", format_utc(would->away_since().seconds())) : "";
    const Status sure = confirm(
        yes, fmt::format("The replica of {} on node {}{} lacks what was written after it had left (generation {} of the volume's "
                         "configuration; {} had all of it, up to generation {}, epoch {}).\nEverything acknowledged since is LOST "
                         "FOR GOOD, also if {} should ever come back. Take it for the truth?",
                         would->volume(), would->node(), since, would->left_generation(), joined(would->lost_nodes()),
                         would->generation(), would->epoch(), joined(would->lost_nodes())));
    if (!sure.ok()) return output.fail(sure.error());
    request.set_only_look(false);
    would = client.call<v1::Promotion>(stub, &Stub::ForcePromote, request);
    if (!would.ok()) return output.fail(would.error());
  }
  output.print(*would, fmt::format("{} is now what node {} has of it; check its file system and data before it is used\n",
                                   would->volume(), would->node()));
  return 0;
}

void add_force_promote(CLI::App& volume, Context& context) {
  struct Args {
    std::string name, node;
    std::vector<std::string> lost;
    bool yes = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = volume.add_subcommand("force-promote", "Take an older replica for the truth: the others are lost for good");
  app->add_option("volume", args->name, "name or id")->required();
  app->add_option("--node", args->node, "whose replica: name or id of the node")->required();
  app->add_option("--lost", args->lost, "a node, or a pool, that never comes back; may be repeated");
  app->add_flag("--yes", args->yes, "do not ask");
  app->footer(
      "The last way out, where no replica with every acknowledged write can come back. What was acknowledged after the\n"
      "replica had left is lost: a snapshot or backup may be newer. Refused while a replica that has everything is there,\n"
      "or may come back: a node is lost when it was decommissioned with --force, or is named with --lost. Replicas that\n"
      "turn up later are made like the one that was promoted, never the other way round.\n\n"
      "Examples:\n  holdfast volume force-promote db --node n2 --lost n1");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      v1::ForcePromoteRequest request;
      request.set_volume(args->name);
      request.set_node(args->node);
      for (const std::string& lost : args->lost) request.add_lost(lost);
      return force_promote(client, context.output, request, args->yes);
    };
  });
}

void add_attach_and_detach(CLI::App& volume, Context& context) {
  struct Args {
    std::string name, kind;
    bool force = false, yes = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* attach = volume.add_subcommand("attach", "Make the volume a block device on this node");
  attach->add_option("volume", args->name, "name or id")->required();
  attach->add_option("--export", args->kind,
                     "ublk, nbd, fuse or nbd-server (default: the best that the kernel has)");
  attach->add_flag("--force", args->force, "also from a node that is alive and uses it");
  attach->add_flag("--yes", args->yes, "with --force: do not ask");
  attach->footer(
      "With --force a volume that another node uses is taken from it: its users there get I/O\n"
      "errors from then on and have to be restarted. What was acknowledged to them is kept.\n\n"
      "Nothing is formatted or mounted: for databases on raw devices, and to look at a volume "
      "whose file\n"
      "system does not mount. It stays attached until \"volume detach\".\n\n"
      "Examples:\n  holdfast volume attach raw\n  holdfast volume attach raw --export nbd-server");
  attach->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Status sure;
      if (args->force) {
        sure = confirm(args->yes, fmt::format("Take volume {} from whoever uses it on another node?", args->name));
      }
      if (!sure.ok()) return context.output.fail(sure.error());
      v1::AttachVolumeRequest request;
      request.set_force(args->force);
      request.set_volume(args->name);
      request.set_export_(args->kind);
      return show(client, context.output, request, &Stub::Attach, where_it_is);
    };
  });
  CLI::App* detach = volume.add_subcommand("detach", "Take the block device away again");
  detach->add_option("volume", args->name, "name or id")->required();
  detach->footer("Refused while it is mounted.\n\nExamples:\n  holdfast volume detach raw");
  detach->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      v1::DetachVolumeRequest request;
      request.set_volume(args->name);
      return show(client, context.output, request, &Stub::Detach, where_it_is);
    };
  });
}

void add_mount_and_unmount(CLI::App& volume, Context& context) {
  struct Args {
    std::string name, path;
    bool read_only = false, keep = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* mount =
      volume.add_subcommand("mount", "Attach, make or check the file system, and mount");
  mount->add_option("volume", args->name, "name or id")->required();
  mount->add_option("path", args->path, "an existing directory, absolute")->required();
  mount->add_flag("-r,--read-only", args->read_only, "mount read-only");
  mount->footer(
      "The first mount makes the file system. A volume may be mounted at several places of its "
      "node. Containers\n"
      "need none of this: docker run -v size=20G,name=pg:/data --volume-driver holdfast does it "
      "all.\n\n"
      "Examples:\n  mkdir /mnt/pg && holdfast volume mount pg /mnt/pg");
  mount->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      v1::MountVolumeRequest request;
      request.set_volume(args->name);
      request.set_target_path(args->path);
      request.set_read_only(args->read_only);
      Stub stub(client.channel());
      auto mounted = client.call<v1::MountPoint>(stub, &Stub::Mount, request);
      if (!mounted.ok()) return context.output.fail(mounted.error());
      context.output.print(*mounted,
                           fmt::format("{} is mounted at {}\n", args->name, mounted->path()));
      return 0;
    };
  });
  CLI::App* unmount = volume.add_subcommand("unmount", "Unmount; the last one detaches the volume");
  unmount->alias("umount");
  unmount->add_option("volume", args->name, "name or id")->required();
  unmount->add_option("path", args->path,
                      "where it is mounted (may be left out if that is one place only)");
  unmount->add_flag("--keep-attached", args->keep, "leave the block device");
  unmount->footer(
      "Examples:\n  holdfast volume unmount pg\n  holdfast volume unmount pg /mnt/pg "
      "--keep-attached");
  unmount->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      v1::UnmountVolumeRequest request;
      request.set_volume(args->name);
      request.set_target_path(args->path);
      request.set_keep_attached(args->keep);
      return show(client, context.output, request, &Stub::Unmount, where_it_is);
    };
  });
}

void add_clone(CLI::App& volume, Context& context) {
  struct Args {
    std::string parent, name, snapshot;
    std::vector<std::string> labels;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = volume.add_subcommand("clone", "Make a new volume from a volume or its snapshot");
  app->add_option("parent", args->parent, "the volume to clone")->required();
  app->add_option("name", args->name, "the new volume's name")->required();
  app->add_option("--snapshot", args->snapshot, "clone this snapshot (default: the state now)");
  app->add_option("-l,--label", args->labels, "key=value; may be repeated");
  app->footer(
      "The clone is a volume of its own, at once, and shares unchanged blocks with its parent. "
      "That may be in use: the\n"
      "clone then is what a crash at this moment would have left.\n\n"
      "Examples:\n  holdfast volume clone pg pg-test\n  holdfast volume clone pg pg-old --snapshot "
      "before-migration");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Result<std::map<std::string, std::string>> labels = parse_pairs(args->labels);
      if (!labels.ok()) return context.output.fail(labels.error());
      v1::CloneVolumeRequest request;
      request.set_name(args->name);
      request.set_parent(args->parent);
      request.set_snapshot(args->snapshot);
      for (const auto& [key, value] : *labels) (*request.mutable_labels())[key] = value;
      return show(client, context.output, request, &Stub::Clone);
    };
  });
}

}  // namespace

void add_volume_commands(CLI::App& app, Context& context) {
  CLI::App* volume = app.add_subcommand("volume", "Create, use and delete volumes");
  add_create(*volume, context);
  add_list_and_inspect(*volume, context);
  add_delete(*volume, context);
  add_resize_and_update(*volume, context);
  add_replicas_and_move(*volume, context);
  add_scrub(*volume, context);
  add_force_promote(*volume, context);
  add_attach_and_detach(*volume, context);
  add_mount_and_unmount(*volume, context);
  add_clone(*volume, context);
}

}  // namespace hf::cli
