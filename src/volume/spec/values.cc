#include "volume/spec/values.h"

#include <algorithm>
#include <array>
#include <utility>

namespace hf::spec {
namespace {

constexpr size_t kMaxReferenceBytes = 256;
constexpr size_t kMaxMapKeyBytes = 63;
constexpr size_t kMaxMapValueBytes = 253;
constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxHostBytes = 253;

// Printable ASCII that neither splits a spec nor needs quoting anywhere.
bool is_plain_text(char c) {
  return c > ' ' && c < 0x7f && c != ',' && c != ';' && c != '"' && c != '\'' && c != '\\';
}

struct MapSyntax {
  std::string_view thing;  // "label", "mount option"
  size_t max_entries;
  bool value_optional;
  bool key_may_hold_slash;
  bool value_may_hold_blanks;
};

Status check_map_key(std::string_view key, const MapSyntax& syntax) {
  if (key.size() > kMaxMapKeyBytes) {
    return reason("a {} has more than {} bytes before its value", syntax.thing, kMaxMapKeyBytes);
  }
  const bool good =
      !key.empty() && is_alnum(key.front()) && std::all_of(key.begin(), key.end(), [&](char c) {
        return is_alnum(c) || c == '.' || c == '_' || c == '-' ||
               (c == '/' && syntax.key_may_hold_slash);
      });
  if (!good) return reason("{} is not the name of a {}", in_quotes(key), syntax.thing);
  return {};
}

Status check_map_value(std::string_view key, std::string_view value, const MapSyntax& syntax) {
  if (value.empty()) return reason("{} {} has no value", syntax.thing, in_quotes(key));
  if (value.size() > kMaxMapValueBytes) {
    return reason("the value of {} {} has more than {} bytes", syntax.thing, in_quotes(key),
                  kMaxMapValueBytes);
  }
  const bool blank_end = value.front() == ' ' || value.back() == ' ';
  const bool good = std::all_of(value.begin(), value.end(), [&](char c) {
    return is_plain_text(c) || (c == ' ' && syntax.value_may_hold_blanks);
  });
  if (blank_end || !good) {
    return reason("{} is not a value for {} {}", in_quotes(value), syntax.thing, in_quotes(key));
  }
  return {};
}

Result<std::map<std::string, std::string>> parse_map(std::string_view text, ValueForm form,
                                                     const MapSyntax& syntax) {
  std::map<std::string, std::string> out;
  for (const std::string_view entry : split(text, form == ValueForm::kInline ? ";" : ";,")) {
    if (entry.empty()) return reason("an entry is empty");
    if (out.size() == syntax.max_entries) {
      return reason("more than {} {}s", syntax.max_entries, syntax.thing);
    }
    const size_t at = entry.find_first_of(":=");
    const bool has_value = at != std::string_view::npos;
    const std::string_view key = entry.substr(0, at);
    const std::string_view value = has_value ? entry.substr(at + 1) : std::string_view();
    HF_TRY(check_map_key(key, syntax));
    if (has_value || !syntax.value_optional) HF_TRY(check_map_value(key, value, syntax));
    if (!out.emplace(key, value).second) {
      return reason("{} {} is given twice", syntax.thing, in_quotes(key));
    }
  }
  return out;
}

}  // namespace

std::string to_lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = to_lower(c);
  return out;
}

std::string fold_slashes(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c != '/' || out.empty() || out.back() != '/') out.push_back(c);
  }
  if (!out.empty() && out.back() == '/') out.pop_back();
  return out;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> out;
  for (;;) {
    const size_t at = text.find_first_of(separators);
    out.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return out;
    text.remove_prefix(at + 1);
  }
}

Result<bool> parse_bool(std::string_view text) {
  const std::string lower = to_lower(text);
  if (lower == "true" || lower == "1" || lower == "yes" || lower == "on") return true;
  if (lower == "false" || lower == "0" || lower == "no" || lower == "off") return false;
  return reason("not a truth value");
}

Result<uint32_t> parse_whole(std::string_view text, uint32_t min, uint32_t max) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), is_digit)) {
    return reason("not a whole number");
  }
  uint64_t value = 0;
  for (const char c : text) {
    value = std::min<uint64_t>(value * 10 + static_cast<uint64_t>(c - '0'), uint64_t{1} << 33);
  }
  if (value < min) return reason("less than {}", min);
  if (value > max) return reason("more than {}", max);
  return static_cast<uint32_t>(value);
}

Result<uint64_t> parse_volume_size(std::string_view text) {
  const bool bare = !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
  const Result<uint64_t> parsed = parse_size(text, kGiB);
  const bool size_like = bare || parsed.ok();
  if (!size_like) return reason("not a size");
  if (!parsed.ok() || *parsed > kMaxVolumeBytes) {
    if (bare) {
      return reason("more than {}: a bare number counts GiB, for bytes write a B behind it",
                    format_size(kMaxVolumeBytes));
    }
    return reason("more than {}", format_size(kMaxVolumeBytes));
  }
  if (*parsed == 0) return reason("a volume cannot be empty");
  return round_up(*parsed, kBlockSize);
}

std::string format_exact_size(uint64_t bytes) {
  constexpr std::array<std::pair<uint64_t, char>, 4> kUnits = {
      {{kTiB, 'T'}, {kGiB, 'G'}, {kMiB, 'M'}, {kKiB, 'K'}}};
  for (const auto& [factor, letter] : kUnits) {
    if (bytes != 0 && bytes % factor == 0) return fmt::format("{}{}", bytes / factor, letter);
  }
  return fmt::format("{}B", bytes);
}

Status check_word(std::string_view text) {
  if (text.empty()) return reason("an entry is empty");
  if (text.size() > kMaxNameBytes) return reason("longer than {} bytes", kMaxNameBytes);
  const bool good = is_alnum(text.front()) && std::all_of(text.begin(), text.end(), [](char c) {
                      return is_alnum(c) || c == '.' || c == '_' || c == '-';
                    });
  if (!good) {
    return reason(
        "{} is not a name of letters, digits, '.', '_' and '-' that begins with a letter "
        "or digit",
        in_quotes(text));
  }
  return {};
}

Status check_reference(std::string_view text) {
  if (text.size() > kMaxReferenceBytes) return reason("longer than {} bytes", kMaxReferenceBytes);
  for (const std::string_view segment : split(text, "/@")) HF_TRY(check_word(segment));
  return {};
}

Result<std::vector<std::string>> parse_words(std::string_view text) {
  std::vector<std::string> out;
  for (const std::string_view word : split(text, ";")) {
    if (const Status status = check_word(word); !status.ok()) return status.error();
    if (out.size() == kMaxListEntries) return reason("more than {} entries", kMaxListEntries);
    out.emplace_back(word);
  }
  std::sort(out.begin(), out.end());
  const auto twice = std::adjacent_find(out.begin(), out.end());
  if (twice != out.end()) return reason("{} is given twice", in_quotes(*twice));
  return out;
}

Result<std::map<std::string, std::string>> parse_labels(std::string_view text, ValueForm form) {
  return parse_map(text, form, MapSyntax{"label", kMaxLabels, false, true, true});
}

Result<std::map<std::string, std::string>> parse_mount_options(std::string_view text,
                                                               ValueForm form) {
  // These would mount something else than the volume, or elsewhere, or change another mount.
  static constexpr std::array<std::string_view, 11> kRefused = {
      "bind",      "rbind",      "move",    "remount", "loop", "offset",
      "sizelimit", "encryption", "uhelper", "helper",  "user"};
  auto options =
      parse_map(text, form, MapSyntax{"mount option", kMaxMountOptions, true, false, false});
  if (!options.ok()) return options;
  for (const auto& [name, value] : *options) {
    const std::string lower = to_lower(name);
    if (std::find(kRefused.begin(), kRefused.end(), lower) != kRefused.end() ||
        lower.starts_with("x-mount")) {
      return reason("mount option {} would change what is mounted, and is not for a volume to set",
                    in_quotes(name));
    }
  }
  return options;
}

std::string format_map(const std::map<std::string, std::string>& map) {
  std::string out;
  for (const auto& [key, value] : map) {
    if (!out.empty()) out += ';';
    out += key;
    if (!value.empty()) (out += '=') += value;
  }
  return out;
}

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

namespace {

// "host", "host:port", "[v6]", "[v6]:port" into `out`.
Status parse_host(std::string_view text, ProxyEndpoint& out) {
  size_t host_end = 0;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return reason("the host has '[' without ']'");
    host_end = close + 1;
    const std::string_view v6 = text.substr(1, close - 1);
    const bool good = !v6.empty() && std::all_of(v6.begin(), v6.end(), [](char c) {
      return is_digit(c) || (to_lower(c) >= 'a' && to_lower(c) <= 'f') || c == ':' || c == '.';
    });
    if (!good) return reason("{} is not an IPv6 address", in_quotes(v6));
  } else {
    host_end = std::min(text.find(':'), text.size());
    const std::string_view host = text.substr(0, host_end);
    const bool good = !host.empty() && is_alnum(host.front()) &&
                      std::all_of(host.begin(), host.end(), [](char c) {
                        return is_alnum(c) || c == '.' || c == '-' || c == '_';
                      });
    if (!good) return reason("{} is not a host", in_quotes(host));
  }
  if (host_end > kMaxHostBytes) return reason("the host is longer than {} bytes", kMaxHostBytes);
  out.host = text.substr(0, host_end);
  const std::string_view rest = text.substr(host_end);
  if (rest.empty()) return {};
  if (rest.front() != ':') return reason("{} stands behind the host", in_quotes(rest));
  const Result<uint32_t> port = parse_whole(rest.substr(1), 1, 65535);
  if (!port.ok()) return reason("the port is {}", port.error().message());
  out.port = static_cast<uint16_t>(*port);
  return {};
}

}  // namespace

Result<ProxyEndpoint> parse_proxy_endpoint(std::string_view text) {
  constexpr std::string_view kScheme = "nfs:/";
  if (!text.starts_with(kScheme)) return reason("it does not begin with nfs://");
  text.remove_prefix(kScheme.size());
  ProxyEndpoint out;
  const size_t slash = text.find('/');
  if (const Status host = parse_host(text.substr(0, slash), out); !host.ok()) return host.error();
  out.path = slash == std::string_view::npos ? "/" : text.substr(slash);
  if (out.path.size() > kMaxPathBytes) {
    return reason("the path is longer than {} bytes", kMaxPathBytes);
  }
  for (const std::string_view part : split(out.path, "/")) {
    if (part == "." || part == "..") return reason("the path holds {}", in_quotes(part));
    if (!std::all_of(part.begin(), part.end(), is_plain_text)) {
      return reason("{} cannot stand in the path", in_quotes(part));
    }
  }
  return out;
}

std::string format_proxy_endpoint(const ProxyEndpoint& endpoint) {
  if (endpoint.port == 0) return fmt::format("nfs://{}{}", endpoint.host, endpoint.path);
  return fmt::format("nfs://{}:{}{}", endpoint.host, endpoint.port, endpoint.path);
}

}  // namespace hf::spec
