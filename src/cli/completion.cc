// holdfast completion bash|zsh|fish: made from the parser's own tree, so that it cannot go stale.
#include <memory>

#include "cli/commands.h"

namespace hf::cli {
namespace {

// "path of commands" → words that may follow.
void collect(const CLI::App& app, const std::string& path,
             std::vector<std::pair<std::string, std::string>>* out) {
  std::string words;
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    words += child->get_name() + " ";
  }
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words += "--" + name + " ";
  }
  out->emplace_back(path, words);
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    collect(*child, path + " " + child->get_name(), out);
  }
}

std::string bash_script(const std::vector<std::pair<std::string, std::string>>& tree) {
  std::string cases;
  for (const auto& [path, words] : tree) {
    cases += fmt::format("    \"{}\") words=\"{}\";;\n", path, words);
  }
  return fmt::format(R"bash(# bash completion of holdfast; source it or put it into /etc/bash_completion.d/
_holdfast() {{
  local path="holdfast" words="" i word
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{COMP_WORDS[i]}}"
    [[ "$word" == -* ]] || case " $(_holdfast_words "$path") " in *" $word "*) path="$path $word";; esac
  done
  COMPREPLY=($(compgen -W "$(_holdfast_words "$path")" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
_holdfast_words() {{
  local words=""
  case "$1" in
{}  esac
  printf '%s' "$words"
}}
complete -o default -F _holdfast holdfast
)bash",
                     cases);
}

std::string fish_script(const std::vector<std::pair<std::string, std::string>>& tree) {
  std::string out = "# fish completion of holdfast; put it into ~/.config/fish/completions/\n";
  for (const auto& [path, words] : tree) {
    const std::string chain = path.substr(path.find(' ') == std::string::npos ? path.size()
                                                                              : path.find(' ') + 1);
    const std::string condition =
        chain.empty() ? "__fish_use_subcommand"
                      : fmt::format("__fish_seen_subcommand_from {}", chain.substr(chain.rfind(' ') + 1));
    out += fmt::format("complete -c holdfast -n '{}' -a '{}'\n", condition, words);
  }
  return out;
}

}  // namespace

void add_completion_command(CLI::App& app, Context& context) {
  auto shell = std::make_shared<std::string>();
  CLI::App* completion = app.add_subcommand("completion", "Print shell completion");
  completion->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->footer("Example:\n  source <(holdfast completion bash)");
  completion->callback([&app, &context, shell] {
    context.action = [&app, &context, shell](Client&) {
      std::vector<std::pair<std::string, std::string>> tree;
      collect(app, "holdfast", &tree);
      std::string script = *shell == "fish" ? fish_script(tree) : bash_script(tree);
      if (*shell == "zsh") script = "autoload -U +X bashcompinit && bashcompinit\n" + script;
      context.output.print_text(script);
      return 0;
    };
  });
}

}  // namespace hf::cli
