// holdfast status, holdfast node …
#include "base/units.h"
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
  CLI::App* node = app.add_subcommand("node", "Look at the cluster's nodes");
  CLI::App* list = node->add_subcommand("list", "List nodes");
  list->alias("ls");
  list->footer(
      "EXPORTS are the ways in which the node can make a volume a device, the best one "
      "first.\n\nExamples:\n  holdfast node list");
  list->callback([&context] {
    context.action = [&context](Client& client) {
      Stub stub(client.channel());
      auto all = client.call<v1::ListNodesResponse>(stub, &Stub::Nodes, v1::ListNodesRequest());
      if (!all.ok()) return context.output.fail(all.error());
      Table table({"NAME", "STATE", "VERSION", "POOLS", "EXPORTS", "ADDRESS", "ID"});
      for (const v1::Node& n : all->nodes()) {
        table.add({n.name(), n.online() ? "online" : "offline", n.version(), std::to_string(n.pools_size()),
                   join(n.exports()), n.address(), n.id()});
      }
      context.output.print(*all, table.text());
      return 0;
    };
  });
}

}  // namespace hf::cli
