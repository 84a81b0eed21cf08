#include "node/export_adapter.h"

namespace hf::node {
namespace {

// The two enums have the same values by contract (block/driver.h).
static_assert(static_cast<int>(cluster::ExportKind::kUblk) == static_cast<int>(block::ExportKind::kUblk));
static_assert(static_cast<int>(cluster::ExportKind::kNbd) == static_cast<int>(block::ExportKind::kNbd));
static_assert(static_cast<int>(cluster::ExportKind::kFuseLoop) ==
              static_cast<int>(block::ExportKind::kFuseLoop));

cluster::ExportInfo to_cluster(const block::ExportInfo& from) {
  cluster::ExportInfo out;
  out.volume = from.volume;
  out.kind = static_cast<cluster::ExportKind>(from.kind);
  out.device = from.device;
  return out;
}

}  // namespace

std::vector<cluster::ExportKind> ExportAdapter::offered() const {
  std::vector<cluster::ExportKind> out;
  for (const block::ExportKind kind : manager_.offered()) {
    out.push_back(static_cast<cluster::ExportKind>(kind));
  }
  out.push_back(cluster::ExportKind::kNbdServer);  // last: never chosen unless asked for
  return out;
}

Task<Result<cluster::ExportInfo>> ExportAdapter::attach(VolumeId volume, cluster::ExportKind kind,
                                                        std::shared_ptr<BlockDevice> device) {
  if (kind == cluster::ExportKind::kNbdServer) co_return nbd_.attach(volume, std::move(device));
  Result<block::ExportInfo> made =
      co_await manager_.attach(volume, static_cast<block::ExportKind>(kind), std::move(device));
  HF_CO_TRY(made);
  co_return to_cluster(*made);
}

Task<Status> ExportAdapter::detach(VolumeId volume) {
  if (nbd_.has(volume)) co_return nbd_.detach(volume);
  co_return co_await manager_.detach(volume);
}

Task<Status> ExportAdapter::resized(VolumeId volume) {
  if (nbd_.has(volume)) co_return Status();  // the server looks at every request
  co_return co_await manager_.resized(volume);
}

Task<Status> ExportAdapter::park() {
  nbd_.park();
  co_return co_await manager_.park();
}

Task<Result<std::vector<cluster::ExportInfo>>> ExportAdapter::orphans() {
  Result<std::vector<block::ExportInfo>> found = co_await manager_.orphans();
  HF_CO_TRY(found);
  std::vector<cluster::ExportInfo> out;
  for (const block::ExportInfo& info : *found) out.push_back(to_cluster(info));
  co_return out;
}

}  // namespace hf::node
