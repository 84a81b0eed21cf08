// Finding rows of the key table, near misses, and the sentences about bad values.
#include <algorithm>
#include <utility>

#include "volume/spec/key_table.h"
#include "volume/spec/values.h"

namespace hf::spec {
namespace {

// What people call things elsewhere, too far from our spelling for nearest_key to see.
constexpr std::array<std::pair<std::string_view, SpecKey>, 13> kOtherNames = {{
    {"replicas", SpecKey::kRepl},
    {"replication", SpecKey::kRepl},
    {"replica", SpecKey::kRepl},
    {"filesystem", SpecKey::kFs},
    {"fstype", SpecKey::kFs},
    {"fs_type", SpecKey::kFs},
    {"encrypted", SpecKey::kSecure},
    {"encryption", SpecKey::kSecure},
    {"capacity", SpecKey::kSize},
    {"volume", SpecKey::kName},
    {"policy", SpecKey::kStoragePolicy},
    {"snapshot", SpecKey::kSnapSchedule},
    {"priority", SpecKey::kIoPriority},
}};

// Optimal string alignment distance: insert, delete, replace, swap neighbours. Both at most 32
// bytes.
size_t distance(std::string_view a, std::string_view b) {
  std::array<std::array<size_t, 33>, 33> d{};
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + cost});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

const KeyInfo* find_key(std::string_view spelled) {
  if (spelled.empty()) return nullptr;  // an unused alias is ""
  for (const KeyInfo& row : key_table()) {
    if (row.name == spelled || row.aliases[0] == spelled || row.aliases[1] == spelled) return &row;
  }
  return nullptr;
}

std::string_view nearest_key(std::string_view spelled) {
  if (spelled.empty() || spelled.size() > 32) return "";
  std::string plain = to_lower(spelled);
  std::replace(plain.begin(), plain.end(), '-', '_');
  for (const auto& [other, key] : kOtherNames) {
    if (plain == other) return key_info(key).name;
  }
  std::string_view best;
  size_t best_distance = plain.size() <= 4 ? 2 : 3;  // nearer than this
  for (const KeyInfo& row : key_table()) {
    for (const std::string_view name : {row.name, row.aliases[0], row.aliases[1]}) {
      if (name.empty()) continue;
      const size_t d = distance(plain, name);
      if (d < best_distance && d < name.size()) {
        best = name;
        best_distance = d;
      }
    }
  }
  return best;
}

std::string in_quotes(std::string_view text) {
  constexpr size_t kShown = 64;
  std::string out = "\"";
  for (const char c : text.substr(0, kShown)) {
    if (c >= ' ' && c < 0x7f) {
      out.push_back(c);
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  out += text.size() > kShown ? "...\"" : "\"";
  return out;
}

Error bad_value(const KeyInfo& key, std::string_view value, std::string_view why) {
  return make_error(ErrorCode::kInvalidSpec, "{}={}: {}; accepted: {}", key.name,
                    key.secret ? "***" : in_quotes(value), why, key.accepted);
}

}  // namespace hf::spec
