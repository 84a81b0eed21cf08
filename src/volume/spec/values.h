// Parsing and printing of single values: the building blocks of the key table's rows. Internal to
// this folder. Errors are kInvalidSpec with the reason alone; bad_value() makes the sentence of it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "volume/spec/key_table.h"
#include "volume/spec/volume_spec.h"

namespace hf::spec {

inline bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
inline bool is_alnum(char c) {
  return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}
inline char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
std::string to_lower(std::string_view text);

// "//" folded to '/', trailing '/' dropped.
std::string fold_slashes(std::string_view text);
// Between every two of `separators`; an empty entry stays as an empty view.
std::vector<std::string_view> split(std::string_view text, std::string_view separators);

Result<bool> parse_bool(std::string_view text);
// Decimal digits alone, within [min, max].
Result<uint32_t> parse_whole(std::string_view text, uint32_t min, uint32_t max);
// Rounded up to a multiple of kBlockSize; up to kMaxVolumeBytes.
Result<uint64_t> parse_volume_size(std::string_view text);
// "10G", "1536M", "4100B": the largest unit that divides it.
std::string format_exact_size(uint64_t bytes);

// [0-9A-Za-z][0-9A-Za-z._-]{0,127}
Status check_word(std::string_view text);
// Words as segments between '/' or '@', at most 256 bytes: "db/pg", "pg@nightly", an id.
Status check_reference(std::string_view text);
// Words between ';'. Sorted; a word given twice is an error.
Result<std::vector<std::string>> parse_words(std::string_view text);
// "k:v;k2:v2"; '=' for ':' is accepted, and ',' for ';' as an option.
Result<std::map<std::string, std::string>> parse_labels(std::string_view text, ValueForm form);
// "k;k2:v2", likewise. Options that change what is mounted, or where, are refused.
Result<std::map<std::string, std::string>> parse_mount_options(std::string_view text,
                                                               ValueForm form);
// "k=v;k2": passes through `docker run -v`, which splits at ':'.
std::string format_map(const std::map<std::string, std::string>& map);
std::string join(const std::vector<std::string>& words, std::string_view separator);

// `text` has been folded: "nfs:/host/path".
Result<ProxyEndpoint> parse_proxy_endpoint(std::string_view text);
std::string format_proxy_endpoint(const ProxyEndpoint& endpoint);

// A kInvalidSpec Error with this reason.
template <typename... A>
Error reason(fmt::format_string<A...> format, A&&... args) {
  return Error(ErrorCode::kInvalidSpec, fmt::format(format, std::forward<A>(args)...));
}

}  // namespace hf::spec
