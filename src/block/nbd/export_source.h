// ExportSource: what an NBD server serves. The daemon's is its volumes (node/nbd_exports.h);
// ExportTable is a fixed set, for tools and tests. Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "block/nbd/nbd_negotiation.h"
#include "block/nbd/nbd_transmission.h"

namespace hf::nbd {

// An export in use by one connection.
struct OpenExport {
  OpenExport() = default;
  ExportFacts facts;
  // Behind byte_granular(), the same for all connections of the export.
  std::shared_ptr<BlockDevice> device;
  std::string key;     // the source's own business
  std::string domain;  // of what gets stuck together: the pool. Empty: the export by itself
};

class ExportSource {
 public:
  virtual ~ExportSource() = default;
  // What a client is told of it; facts.name is the canonical one. The empty name is the default
  // export: the only one, where there is one only. kNotFound.
  virtual Task<Result<ExportFacts>> find(std::string name) = 0;
  virtual Task<Result<std::vector<ExportFacts>>> list() = 0;
  // Takes it into use for the connection from `peer`; the client is shown the error's message.
  // Every success is followed by one close(), with nothing of the connection under way any more.
  virtual Task<Result<OpenExport>> open(std::string name, std::string peer) = 0;
  virtual Task<void> close(OpenExport opened, std::string peer) = 0;
};

struct NbdExport {
  NbdExport() = default;
  std::string name;         // 1 to kStringMax bytes without NUL
  std::string description;  // for people; may be empty
  std::shared_ptr<BlockDevice> device;
  bool read_only = false;
};

class ExportTable final : public ExportSource {
 public:
  // kAlreadyExists, kInvalidArgument (name).
  Status add(NbdExport item);
  // Nobody opens it from now on; who has it open keeps it (NbdServer::disconnect). kNotFound.
  Status remove(const std::string& name);

  Task<Result<ExportFacts>> find(std::string name) override;
  Task<Result<std::vector<ExportFacts>>> list() override;
  Task<Result<OpenExport>> open(std::string name, std::string peer) override;
  Task<void> close(OpenExport opened, std::string peer) override;

 private:
  struct Item {
    NbdExport given;
    std::shared_ptr<BlockDevice> bytes;
  };
  const Item* look_up(const std::string& name) const;
  static ExportFacts facts_of(const Item& item);
  std::map<std::string, Item> items_;
};

}  // namespace hf::nbd
