// holdfast completion bash|zsh|fish: small scripts that ask "holdfast completion words" what may
// stand next. That reads the words of the line from standard input, one a line, the last being the
// one to complete, and prints what fits: "VALUE<TAB>TEXT" lines, and
// ":files" where a path may stand. It knows the commands from the parser's own tree and the names
// from the daemon, so that neither can go stale; where no daemon answers within a second there are
// no names.
#include <algorithm>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/utc.h"
#include "cli/commands.h"
#include "holdfast/v1/holdfast.grpc.pb.h"
#include "volume/spec/key_doc.h"

namespace hf::cli {
namespace {

namespace v1 = holdfast::v1;

constexpr size_t kMaxWords = 1000;
constexpr std::chrono::seconds kPatience{1};

struct Candidate {
  std::string value, text;
};
using Candidates = std::vector<Candidate>;

// Where in the line the word stands: behind which command, option or arguments.
struct Place {
  const CLI::App* command = nullptr;
  std::vector<std::string> arguments;     // of the command, so far
  const CLI::Option* value_of = nullptr;  // the word is this option's value
};

bool takes_value(const CLI::Option& option) {
  return option.get_type_size_max() > 0;
}

// The option of that name, of the command or of what it stands in.
const CLI::Option* find_option(const CLI::App* command, const std::string& name) {
  for (; command != nullptr; command = command->get_parent()) {
    if (const CLI::Option* option = command->get_option_no_throw(name); option != nullptr)
      return option;
  }
  return nullptr;
}

const CLI::App* find_command(const CLI::App& parent, const std::string& name) {
  for (const CLI::App* child : parent.get_subcommands([](const CLI::App*) { return true; })) {
    if (child->check_name(name)) return child;
  }
  return nullptr;
}

Place find_place(const CLI::App& app, const std::vector<std::string>& words) {
  Place place;
  place.command = &app;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() > 1 && word[0] == '-') {
      const CLI::Option* option =
          word.find('=') == std::string::npos ? find_option(place.command, word) : nullptr;
      if (option == nullptr || !takes_value(*option)) continue;
      if (i + 2 == words.size()) place.value_of = option;
      ++i;
    } else if (const CLI::App* child = find_command(*place.command, word);
               child != nullptr && place.arguments.empty()) {
      place.command = child;
    } else {
      place.arguments.push_back(word);
    }
  }
  return place;
}

template <typename Response, typename Stub, typename Request>
Response ask(Stub& stub,
             grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
             const Request& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  Response response;
  if (!(stub.*method)(&context, request, &response).ok()) response.Clear();
  return response;
}

Candidates volume_names(Client& client) {
  v1::Volumes::Stub stub(client.channel());
  Candidates out;
  const auto all =
      ask<v1::ListVolumesResponse>(stub, &v1::Volumes::Stub::List, v1::ListVolumesRequest());
  for (const v1::Volume& volume : all.volumes()) out.push_back({volume.name(), volume.state()});
  return out;
}

Candidates snapshot_names(Client& client, const std::string& volume) {
  v1::Snapshots::Stub stub(client.channel());
  v1::ListSnapshotsRequest request;
  request.set_volume(volume);
  Candidates out;
  const auto all = ask<v1::ListSnapshotsResponse>(stub, &v1::Snapshots::Stub::List, request);
  for (const v1::Snapshot& snapshot : all.snapshots()) {
    out.push_back({snapshot.name(), format_utc(snapshot.created().seconds())});
  }
  return out;
}

Candidates pool_names(Client& client) {
  v1::Pools::Stub stub(client.channel());
  Candidates out;
  const auto all = ask<v1::ListPoolsResponse>(stub, &v1::Pools::Stub::List, v1::ListPoolsRequest());
  for (const v1::Pool& pool : all.pools()) {
    out.push_back({pool.path(), pool.state()});
    out.push_back({pool.id(), pool.path()});
  }
  return out;
}

// Where the volume whose name is an argument already is mounted.
Candidates mount_paths(Client& client, const std::string& name) {
  v1::Volumes::Stub stub(client.channel());
  v1::InspectVolumeRequest request;
  request.set_volume(name);
  Candidates out;
  const auto volume = ask<v1::Volume>(stub, &v1::Volumes::Stub::Inspect, request);
  for (const v1::MountPoint& mount : volume.attachment().mounts()) {
    out.push_back({mount.path(), "held by " + mount.holder()});
  }
  return out;
}

// "size=" and so on: the keys of the spec.
Candidates spec_keys() {
  Candidates out;
  std::string all = spec::machine_list();
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find('\n', at), all.size());
    const std::string line = all.substr(at, end - at);
    const size_t tab = line.find('\t'), last = line.rfind('\t');
    if (tab != std::string::npos) out.push_back({line.substr(0, tab) + "=", line.substr(last + 1)});
    at = end + 1;
  }
  return out;
}

Candidates words_of(std::initializer_list<const char*> words) {
  Candidates out;
  for (const char* word : words) out.push_back({word, ""});
  return out;
}

Candidates value_candidates(const Place& place, Client& client, bool* files) {
  const std::string name = place.value_of->get_single_name();
  const std::string first = place.arguments.empty() ? std::string() : place.arguments[0];
  if (name == "fs") return words_of({"ext4", "xfs", "btrfs", "none"});
  if (name == "repl") return words_of({"1", "2", "3"});
  if (name == "io-class") return words_of({"low", "medium", "high"});
  if (name == "export") return words_of({"ublk", "nbd", "fuse", "nbd-server"});
  if (name == "opt") return spec_keys();
  if (name == "snapshot") return snapshot_names(client, first);
  if (name == "socket" || name == "token-file" || (name.starts_with("etcd-") && name != "etcd-user")) *files = true;
  if (name == "ttl") return words_of({"10m", "1h", "1d"});
  return {};
}

Candidates argument_candidates(const Place& place, Client& client, bool* files) {
  std::vector<const CLI::Option*> positionals;
  for (const CLI::Option* option : place.command->get_options()) {
    if (option->get_positional()) positionals.push_back(option);
  }
  if (place.arguments.size() >= positionals.size()) return {};
  const std::string name = positionals[place.arguments.size()]->get_name(true);
  const std::string first = place.arguments.empty() ? std::string() : place.arguments[0];
  const bool offline =
      place.command->get_name() == "verify" || place.command->get_name() == "export";
  if ((name == "volume" && !offline) || name == "parent") return volume_names(client);
  if (name == "snapshot") return snapshot_names(client, first);
  if (name == "pool") return pool_names(client);
  if (name == "shell") return words_of({"bash", "zsh", "fish"});
  if (name == "path" && place.command->get_name() == "unmount") return mount_paths(client, first);
  *files = name == "path" || name == "to";
  return offline && name == "path" ? pool_names(client) : Candidates();
}

Candidates option_names(const CLI::App* command) {
  Candidates out;
  for (; command != nullptr; command = command->get_parent()) {
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        out.push_back({"--" + name, option->get_description()});
      }
    }
  }
  return out;
}

int print_candidates(const CLI::App& app, Client& client, const Output& output) {
  std::vector<std::string> words;
  std::string line;
  while (words.size() < kMaxWords && std::getline(std::cin, line)) words.push_back(line);
  if (words.empty()) words.emplace_back();
  const std::string& word = words.back();
  const Place place = find_place(app, words);
  bool files = false;
  Candidates candidates;
  if (place.value_of != nullptr) {
    candidates = value_candidates(place, client, &files);
  } else if (word.starts_with('-')) {
    candidates = option_names(place.command);
  } else if (place.arguments.empty()) {
    for (const CLI::App* child :
         place.command->get_subcommands([](const CLI::App*) { return true; })) {
      candidates.push_back({child->get_name(), child->get_description()});
    }
  }
  if (candidates.empty() && place.value_of == nullptr) {
    candidates = argument_candidates(place, client, &files);
  }
  std::string text;
  for (const Candidate& candidate : candidates) {
    // A line holds one of them: what has a line break or tab in it cannot be offered.
    const bool one_line = candidate.value.find_first_of("\n\t") == std::string::npos;
    if (!one_line || !candidate.value.starts_with(word)) continue;
    text += candidate.value + "\t" + candidate.text.substr(0, candidate.text.find('\n')) + "\n";
  }
  if (files) text += ":files\n";
  output.print_text(text);
  return 0;
}

// Readline cuts words at "=" and ":" too, which stand in our names: they are put together again
// from the line itself.
constexpr char kBash[] = R"bash(# bash completion of holdfast; made by: holdfast completion bash
_holdfast() {
  local rest=$COMP_LINE words=() i word blank cut value text files=
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    blank=
    [[ $i -eq 0 || $rest == [[:space:]]* ]] && blank=1
    rest=${rest#"${rest%%[![:space:]]*}"}
    rest=${rest#"$word"}
    if [[ $blank ]]; then words+=("$word"); else words[-1]+=$word; fi
  done
  local typed=${words[-1]} last=${COMP_WORDS[COMP_CWORD]}
  [[ $last == [=:]* ]] && last=
  cut=${typed%"$last"}
  local quote=
  [[ $last == [\"\']* ]] && quote=${last:0:1}
  for i in "${!words[@]}"; do
    word=${words[i]//\\/}
    word=${word//\"/}
    words[i]=${word//\'/}
  done
  cut=${cut//\\/}
  COMPREPLY=()
  while IFS=$'\t' read -r value text; do
    if [[ $value == :files && -z $text ]]; then files=1; continue; fi
    value=${value#"$cut"}
    case $quote in
      "'") value=${value//"'"/"'\\''"} ;;
      '"') for text in \\ '"' '$' '`'; do value=${value//"$text"/"\\$text"}; done ;;
      *) printf -v value %q "$value" ;;
    esac
    COMPREPLY+=("$value")
  done < <(printf '%s\n' "${words[@]:1}" | holdfast completion words 2>/dev/null)
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
  [[ $files && ${#COMPREPLY[@]} -eq 0 ]] && compopt -o default -o filenames
  return 0
}
complete -F _holdfast holdfast
)bash";

constexpr char kZsh[] = R"zsh(#compdef holdfast
# zsh completion of holdfast; made by: holdfast completion zsh
_holdfast() {
  local line value files
  local -a values texts keys typed
  typed=("${(@Q)words[2,CURRENT]}")
  [[ $typed[-1] == [\"\']* ]] && typed[-1]=${typed[-1][2,-1]}
  for line in "${(@f)$(printf '%s\n' "${typed[@]}" | holdfast completion words 2>/dev/null)}"; do
    [[ -n $line ]] || continue
    if [[ $line == :files ]]; then files=1; continue; fi
    value=${line%%$'\t'*}
    if [[ $value == *= ]]; then keys+=("$value"); else values+=("$value"); texts+=("$value  ${line#*$'\t'}"); fi
  done
  (( $#values )) && compadd -l -d texts -a values
  (( $#keys )) && compadd -S '' -a keys
  [[ -n $files ]] && _files
}
if [[ $funcstack[1] == _holdfast ]]; then _holdfast "$@"; else compdef _holdfast holdfast; fi
)zsh";

constexpr char kFish[] = R"fish(# fish completion of holdfast; made by: holdfast completion fish
function __holdfast_complete
    set -l word (commandline -ct)
    # As it will be once the shell has read it; an open quote is read by hand.
    set -l plain (string unescape -- $word; or string trim -l -c '"\'' -- $word)
    set -l words (commandline -opc) "$plain"
    printf '%s\n' $words[2..-1] | holdfast completion words 2>/dev/null | while read -l line
        if test "$line" = :files
            __fish_complete_path $word
        else
            echo $line
        end
    end
end
complete -c holdfast -f -a '(__holdfast_complete)'
)fish";

}  // namespace

void add_completion_command(CLI::App& app, Context& context) {
  auto shell = std::make_shared<std::string>();
  CLI::App* completion = app.add_subcommand("completion", "Print shell completion");
  completion
      ->add_option("shell", *shell,
                   "bash, zsh or fish; words is what these ask, with the line on standard input")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish", "words"}));
  completion->footer("Example:\n  source <(holdfast completion bash)");
  completion->callback([&app, &context, shell] {
    context.action = [&app, &context, shell](Client& client) {
      if (*shell == "words") return print_candidates(app, client, context.output);
      context.output.print_text(*shell == "bash" ? kBash : *shell == "zsh" ? kZsh : kFish);
      return 0;
    };
  });
}

}  // namespace hf::cli
