// holdfast: the command line.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/dvdcli.h"
#include "cli/help.h"

namespace hf::cli {

Result<std::map<std::string, std::string>> parse_pairs(const std::vector<std::string>& words) {
  std::map<std::string, std::string> pairs;
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return make_error(ErrorCode::kInvalidArgument, "\"{}\" is not of the form key=value",
                        word.substr(0, 64));
    }
    if (!pairs.emplace(word.substr(0, equals), word.substr(equals + 1)).second) {
      return make_error(ErrorCode::kInvalidArgument, "\"{}\" is given twice",
                        word.substr(0, equals));
    }
  }
  return pairs;
}

namespace {

bool has_json_flag(int argc, char** argv) {
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    if (std::string_view(argv[i]) == "--json") return true;
  }
  return false;
}

// The innermost command that was named.
const CLI::App& named(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : named(*chosen.front());
}

std::string names_of_commands(const CLI::App& at) {
  std::string names;
  for (const CLI::App* sub : at.get_subcommands([](const CLI::App*) { return true; })) {
    names += (names.empty() ? "" : ", ") + sub->get_name();
  }
  return names;
}

// A command without its verb ("holdfast", "holdfast volume"): a person sees the help, on standard
// error since nothing was done; a program the error.
int incomplete(const CLI::App& app, const CLI::App& at, const Output& output) {
  if (!output.json) {
    std::fputs(app.help().c_str(), stderr);
    return error_info(ErrorCode::kInvalidArgument).exit_code;
  }
  return output.fail(make_error(ErrorCode::kInvalidArgument, "which command? There are: {}",
                                names_of_commands(at)));
}

// The first word of the line that the parser had no use for.
std::string first_unknown(const CLI::App& app, int argc, char** argv) {
  const std::vector<std::string> unknown = app.remaining(true);
  for (int i = 1; i < argc; ++i) {
    if (std::ranges::find(unknown, argv[i]) != unknown.end()) return argv[i];
  }
  return unknown.empty() ? std::string() : unknown.front();
}

std::string why_unknown(const CLI::App& at, const std::string& word) {
  if (word.starts_with('-')) return fmt::format("there is no option {}", word);
  const std::string commands = names_of_commands(at);
  if (commands.empty()) return fmt::format("\"{}\" is an argument too many", word);
  return fmt::format("there is no command \"{}\"; there are {}", word, commands);
}

int refuse(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv,
           const Output& output) {
  const CLI::App& at = named(app);
  std::string path = at.get_name();
  for (const CLI::App* up = at.get_parent(); up != nullptr; up = up->get_parent())
    path = up->get_name() + " " + path;
  const bool extras = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  const std::string why = extras ? why_unknown(at, first_unknown(app, argc, argv)) : error.what();
  return output.fail(make_error(ErrorCode::kInvalidArgument, "{}; see {} --help", why, path));
}

int run(int argc, char** argv) {
  Context context;
  if (const char* socket = std::getenv("HOLDFAST_SOCKET"); socket != nullptr && *socket != 0) {
    context.socket = socket;
  }
  CLI::App app(
      "Holdfast gives every container a persistent volume from a spec in its launch command.",
      "holdfast");
  app.formatter(std::make_shared<HelpFormatter>());
  app.fallthrough();  // --json and --socket may stand behind the command as well
  app.set_version_flag("--version", std::string("holdfast ") + HF_VERSION);
  app.add_option("--socket", context.socket, "the daemon's socket (or environment HOLDFAST_SOCKET)")
      ->capture_default_str();
  app.add_flag("--json", context.output.json, "print JSON, for programs");
  app.footer(
      "Exit codes: 0 success, 2 bad input, 3 not found, 4 exists with another spec, 6 no space,\n"
      "7 in use, 9 not permitted, 11 needs confirmation, 20-22 storage errors, 30-31 try again;\n"
      "the whole list: man holdfast. What a volume can be: man holdfast-volume-spec");
  add_volume_commands(app, context);
  add_snapshot_commands(app, context);
  add_pool_commands(app, context);
  add_cluster_commands(app, context);
  add_membership_commands(app, context);
  add_completion_command(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    // Help and version are no errors; everything else is bad input.
    if (e.get_exit_code() == 0) return app.exit(e);
    context.output.json = has_json_flag(argc, argv);
    return refuse(app, e, argc, argv, context.output);
  }
  if (!context.action) return incomplete(app, named(app), context.output);
  const Status path = Client::check_socket_path(context.socket);
  if (!path.ok()) return context.output.fail(path.error());
  Client client(context.socket);
  return context.action(client);
}

}  // namespace
}  // namespace hf::cli

int main(int argc, char** argv) {
  const std::string_view name = argc > 0 ? argv[0] : "";
  if (name.substr(name.rfind('/') + 1) == "dvdcli") return hf::cli::run_dvdcli(argc, argv);
  return hf::cli::run(argc, argv);
}
