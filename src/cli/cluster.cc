// holdfast status, holdfast node …
#include <poll.h>

#include "base/units.h"
#include "cli/confirm.h"
#include "cli/commands.h"
#include "holdfast/v1/holdfast.grpc.pb.h"

namespace hf::cli {
namespace {

namespace v1 = holdfast::v1;
using Stub = v1::Cluster::Stub;

std::string describe(const v1::ClusterStatus& status) {
  Fields fields;
  fields.add("health", status.healthy() ? "healthy" : "needs attention");
  fields.add("cluster", status.id());
  fields.add("state store", status.state_store());
  fields.add("version", status.version());
  fields.add("nodes", fmt::format("{} of {} online", status.nodes_online(), status.nodes()));
  fields.add("volumes",
             fmt::format("{}, {} attached", status.volumes(), status.volumes_attached()));
  fields.add("capacity", fmt::format("{} used of {}", format_size(status.used_bytes()),
                                     format_size(status.total_bytes())));
  std::string text = fields.text();
  for (const std::string& problem : status.problems()) text += "! " + problem + "\n";
  return text;
}

std::string join(const google::protobuf::RepeatedPtrField<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : " ") + item;
  return text;
}

std::string state_of(const v1::Node& node) {
  const std::string now = node.online() ? "online" : "offline";
  if (!node.draining()) return now;
  return now + (node.replicas() > 0 ? ", draining" : ", drained");
}

// "eu/a/r1": region, zone, rack.
std::string place_of(const v1::Node& node) {
  if (node.region().empty() && node.zone().empty() && node.rack().empty()) return "-";
  return fmt::format("{}/{}/{}", node.region().empty() ? "-" : node.region(), node.zone().empty() ? "-" : node.zone(),
                     node.rack().empty() ? "-" : node.rack());
}

constexpr int kLookAgainMs = 1000;

int drain(Client& client, const Output& output, const v1::DrainNodeRequest& request, bool wait) {
  Stub stub(client.channel());
  auto node = client.call<v1::Node>(stub, &Stub::Drain, request);
  if (!node.ok()) return output.fail(node.error());
  while (wait && node->replicas() > 0) {
    ::poll(nullptr, 0, kLookAgainMs);
    auto all = client.call<v1::ListNodesResponse>(stub, &Stub::Nodes, v1::ListNodesRequest());
    if (!all.ok()) return output.fail(all.error());
    for (const v1::Node& now : all->nodes()) {
      if (now.id() == node->id()) *node = now;
    }
    if (!node->draining()) break;  // somebody has changed his mind
  }
  std::string text = "node " + node->name();
  if (!node->draining()) {
    text += " is not being drained: it gets replicas as any other\n";
  } else if (node->replicas() == 0) {
    text += fmt::format(" has nothing left; it may go: holdfast node decommission {}\n", node->name());
  } else {
    text += fmt::format(" gets nothing new; {} replicas are being moved (holdfast node list, holdfast status)\n",
                        node->replicas());
  }
  output.print(*node, text);
  return 0;
}

void add_drain(CLI::App& parent, Context& context) {
  struct Args {
    std::string node;
    bool undo = false, wait = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("drain", "Move a node's replicas to other nodes");
  app->add_option("node", args->node, "name or id")->required();
  app->add_flag("--undo", args->undo, "let it have replicas again");
  app->add_flag("--wait", args->wait, "return when nothing is left on it");
  app->footer(
      "Each replica is copied to another node first, and removed when that one is in sync: no volume has fewer\n"
      "at any time. What is attached there stays: have the scheduler move its containers. A replica for which\n"
      "no other node has room stays; status says so.\n\n"
      "Examples:\n  holdfast node drain node3 --wait\n  holdfast node drain node3 --undo");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      v1::DrainNodeRequest request;
      request.set_node(args->node);
      request.set_undo(args->undo);
      return drain(client, context.output, request, args->wait && !args->undo);
    };
  });
}

void add_decommission(CLI::App& parent, Context& context) {
  struct Args {
    std::string node;
    bool force = false, yes = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("decommission", "Let a node leave the cluster, for good");
  app->add_option("node", args->node, "name or id; asked of another node than this")->required();
  app->add_flag("--force", args->force, "give up the volumes whose only replica in sync it has");
  app->add_flag("--yes", args->yes, "do not ask");
  app->footer(
      "For a node that is drained, or dead. Its certificate is revoked and its member of the state store removed;\n"
      "replicas that it had are made anew on other nodes at once. It never comes back as what it was: to use the\n"
      "machine again, install it anew and let it join.\n\n"
      "Examples:\n  holdfast node decommission node3");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      const Status sure = confirm(args->yes, fmt::format("Let node {} leave the cluster for good?", args->node));
      if (!sure.ok()) return context.output.fail(sure.error());
      v1::Membership::Stub stub(client.channel());
      v1::DecommissionRequest request;
      request.set_node(args->node);
      request.set_force(args->force);
      auto gone = client.call<v1::Decommissioned>(stub, &v1::Membership::Stub::Decommission, request);
      if (!gone.ok()) return context.output.fail(gone.error());
      std::string text = fmt::format("node {} has left the cluster\n", gone->name());
      if (gone->replicas() > 0) {
        text += fmt::format("{} replicas that it had are made anew elsewhere (holdfast status)\n", gone->replicas());
      }
      if (gone->state_store_voters() == 1 || gone->state_store_voters() == 2) {
        text += fmt::format("{} of the state store {} left: the next node that joins carries it too "
                            "(holdfast cluster token create)\n",
                            gone->state_store_voters(), gone->state_store_voters() == 1 ? "member is" : "members are");
      }
      context.output.print(*gone, text);
      return 0;
    };
  });
}

}  // namespace

void add_cluster_commands(CLI::App& app, Context& context) {
  CLI::App* status = app.add_subcommand("status", "Say in words how the cluster is");
  status->footer(
      "\"healthy\", or a line with \"!\" for each thing that needs somebody, with what to do. Exit "
      "0 in both cases; with\n"
      "--json programs read \"healthy\" and \"problems\".\n\nExamples:\n  holdfast status --json");
  status->callback([&context] {
    context.action = [&context](Client& client) {
      Stub stub(client.channel());
      auto now = client.call<v1::ClusterStatus>(stub, &Stub::Status, v1::ClusterStatusRequest());
      if (!now.ok()) return context.output.fail(now.error());
      context.output.print(*now, describe(*now));
      return 0;
    };
  });
  CLI::App* node = app.add_subcommand("node", "Look at the cluster's nodes, and take one out");
  add_drain(*node, context);
  add_decommission(*node, context);
  CLI::App* list = node->add_subcommand("list", "List nodes");
  list->alias("ls");
  list->footer(
      "PLACE is region/zone/rack of the node, from its holdfastd.toml. EXPORTS are the ways in which the node can\n"
      "make a volume a device, the best one first.\n\nExamples:\n  holdfast node list");
  list->callback([&context] {
    context.action = [&context](Client& client) {
      Stub stub(client.channel());
      auto all = client.call<v1::ListNodesResponse>(stub, &Stub::Nodes, v1::ListNodesRequest());
      if (!all.ok()) return context.output.fail(all.error());
      Table table({"NAME", "STATE", "VERSION", "PLACE", "POOLS", "REPLICAS", "EXPORTS", "ADDRESS", "ID"});
      for (const v1::Node& n : all->nodes()) {
        table.add({n.name(), state_of(n), n.version(), place_of(n), std::to_string(n.pools_size()), std::to_string(n.replicas()),
                   join(n.exports()), n.address(), n.id()});
      }
      context.output.print(*all, table.text());
      return 0;
    };
  });
}

}  // namespace hf::cli
