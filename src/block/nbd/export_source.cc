#include "block/nbd/export_source.h"

namespace hf::nbd {
namespace {

Error no_such_export(const std::string& name) {
  return make_error(ErrorCode::kNotFound, "there is no NBD export \"{}\"", printable(name));
}

}  // namespace

Status ExportTable::add(NbdExport item) {
  HF_ASSERT(item.device != nullptr);
  if (item.name.empty() || !is_valid_text(as_bytes(item.name))) {
    return make_error(ErrorCode::kInvalidArgument,
                      "NBD export name \"{}\": 1 to {} bytes without NUL are allowed",
                      printable(item.name), kStringMax);
  }
  if (items_.contains(item.name)) {
    return make_error(ErrorCode::kAlreadyExists, "NBD export \"{}\" exists already", item.name);
  }
  if (item.description.size() > kStringMax) item.description.resize(kStringMax);
  Item& made = items_[item.name];
  made.bytes = byte_granular(item.device);
  made.given = std::move(item);
  return Status();
}

Status ExportTable::remove(const std::string& name) {
  return items_.erase(name) > 0 ? Status() : Status(no_such_export(name));
}

const ExportTable::Item* ExportTable::look_up(const std::string& name) const {
  auto at = items_.find(name);
  if (name.empty() && items_.size() == 1) at = items_.begin();
  return at == items_.end() ? nullptr : &at->second;
}

ExportFacts ExportTable::facts_of(const Item& item) {
  ExportFacts facts;
  facts.name = item.given.name;
  facts.description = item.given.description;
  facts.size = item.given.device->size();
  facts.read_only = item.given.read_only;
  return facts;
}

Task<Result<ExportFacts>> ExportTable::find(std::string name) {
  const Item* item = look_up(name);
  if (item == nullptr) co_return no_such_export(name);
  co_return facts_of(*item);
}

Task<Result<std::vector<ExportFacts>>> ExportTable::list() {
  std::vector<ExportFacts> all;
  for (const auto& [name, item] : items_) all.push_back(facts_of(item));
  co_return std::move(all);
}

Task<Result<OpenExport>> ExportTable::open(std::string name, std::string) {
  const Item* item = look_up(name);
  if (item == nullptr) co_return no_such_export(name);
  OpenExport opened;
  opened.facts = facts_of(*item);
  opened.device = item->bytes;
  co_return std::move(opened);
}

Task<void> ExportTable::close(OpenExport, std::string) { co_return; }

}  // namespace hf::nbd
