#include "replicate/peer_ports.h"

#include "replicate/local_port.h"

namespace hf {
namespace {

constexpr Duration kConnectWithin = 1s;

}  // namespace

Task<Result<std::shared_ptr<ReplicaPort>>> PeerPorts::open(VolumeMember member) {
  if (is_local(member)) {
    std::shared_ptr<ReplicaService> service = local_.find(volume_, member.replica);
    if (service == nullptr) {
      co_return make_error(ErrorCode::kNotFound, "there is no replica {} of volume {} here",
                           member.replica.to_string(), volume_.to_string());
    }
    std::shared_ptr<ReplicaPort> port = std::make_shared<LocalPort>(std::move(service));
    co_return port;
  }
  std::string address = address_of_(member.node);
  if (address.empty()) {
    co_return make_error(ErrorCode::kUnavailable, "the address of node {} is not known",
                         member.node.to_string());
  }
  PeerTarget target;
  target.cluster = cluster_;
  target.volume = volume_;
  target.replica = member.replica;
  Result<std::shared_ptr<PeerPort>> connected =
      co_await PeerPort::connect(net_, std::move(address), target, kConnectWithin, connections_);
  HF_CO_TRY(connected);
  std::shared_ptr<ReplicaPort> port = std::move(*connected);
  co_return port;
}

}  // namespace hf
