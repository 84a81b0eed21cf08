// Each noun adds its subcommands to the parser; the chosen one leaves its action in `Context::action`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "cli/client.h"
#include "cli/output.h"

namespace hf::cli {

struct Context {
  std::string socket = kDefaultSocket;
  Output output;
  // Runs after parsing; returns the exit code.
  std::function<int(Client&)> action;
};

void add_volume_commands(CLI::App& app, Context& context);
void add_snapshot_commands(CLI::App& app, Context& context);
void add_pool_commands(CLI::App& app, Context& context);
void add_cluster_commands(CLI::App& app, Context& context);
void add_membership_commands(CLI::App& app, Context& context);
void add_completion_command(CLI::App& app, Context& context);

// "key=value" words to a map; kInvalidArgument names the word that is none.
Result<std::map<std::string, std::string>> parse_pairs(const std::vector<std::string>& words);

}  // namespace hf::cli
