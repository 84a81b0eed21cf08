#include "mount/mount_options.h"

#include "volume/spec/mount_options.h"

namespace hf::mount {

using spec::FsType;

Result<std::string> mount_options(const FilesystemSpec& spec) {
  std::vector<std::string> options;
  if (spec.discard) options.push_back("discard");
  if (spec.fs == FsType::kXfs) options.push_back("nouuid");
  if (spec.fs == FsType::kExt4) {
    options.push_back("errors=remount-ro");
    if (spec.journal_data) options.push_back("data=journal");
  }
  for (const std::string& option : spec.mount_options) {
    const size_t equals = option.find('=');
    const std::string value = equals == std::string::npos ? std::string() : option.substr(equals + 1);
    HF_TRY(spec::check_mount_options(spec.fs, {{option.substr(0, equals), value}}));
    options.push_back(option);
  }
  std::string text;
  for (const std::string& option : options) text += (text.empty() ? "" : ",") + option;
  return text.empty() ? std::string("rw") : text;
}

}  // namespace hf::mount
