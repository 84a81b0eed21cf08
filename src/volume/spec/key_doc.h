// The key table as text: for `holdfast volume create --help`, for docs/volume-spec.md and for
// shells.
#pragma once

#include <string>

namespace hf::spec {

// "  size          number, fraction allowed ... (default 1 GiB)" lines, 80 columns.
std::string help_text();
// The table of docs/volume-spec.md, between its markers; a test compares them.
std::string markdown_key_table();
// The table of what is refused or only stored when a cluster lacks the feature.
std::string markdown_support_table();
// One key per line: name, aliases joined by ',', help; tab-separated, for completion and code
// generators.
std::string machine_list();

}  // namespace hf::spec
