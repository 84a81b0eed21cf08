// holdfast.v1.Membership.
#include "api/proto_time.h"
#include "api/v1/call.h"
#include "holdfast/v1/holdfast.grpc.pb.h"

namespace hf::api {
namespace {

namespace v1 = holdfast::v1;

constexpr uint64_t kDefaultTokenSeconds = 3600;
constexpr uint64_t kMaxTokenSeconds = 7 * 24 * 3600;

EtcdAccess access_of(const v1::EtcdAccess& in) {
  EtcdAccess out;
  out.url = in.url();
  out.ca = in.ca_file();
  out.cert = in.cert_file();
  out.key = in.key_file();
  out.user = in.user();
  out.password_file = in.password_file();
  return out;
}

void fill_status(const MembershipInfo& info, v1::MembershipStatus* out) {
  out->set_member(info.member);
  out->set_cluster(info.cluster);
  out->set_node(info.node);
  out->set_address(info.address);
  out->set_state_store(info.state_store);
  out->set_carries_state_store(info.carries_state_store);
  out->set_state_store_voters(info.state_store_voters);
  out->set_signs(info.signs);
  out->set_instance(info.instance);
}

void fill_change(const ClusterChange& change, v1::ClusterChange* out) {
  fill_status(change.before, out->mutable_before());
  out->set_already(change.already);
  out->set_records_moved(change.records);
}

class Membership final : public v1::Membership::Service {
 public:
  explicit Membership(const ServiceContext& context) : context_(context) {}

  grpc::Status Status(grpc::ServerContext* rpc, const v1::MembershipStatusRequest*,
                      v1::MembershipStatus* out) override {
    auto info = ask<MembershipInfo>(rpc, [this] { return context_.admin->membership(); });
    if (info.ok()) fill_status(*info, out);
    return to_grpc(info, rpc);
  }
  grpc::Status Init(grpc::ServerContext* rpc, const v1::InitClusterRequest* in,
                    v1::ClusterChange* out) override {
    InitCluster request;
    request.address = in->address();
    request.kv = access_of(in->etcd());
    auto change = ask<ClusterChange>(rpc, [this, request] { return context_.admin->init(request); });
    if (change.ok()) fill_change(*change, out);
    return to_grpc(change, rpc);
  }
  grpc::Status Join(grpc::ServerContext* rpc, const v1::JoinClusterRequest* in,
                    v1::ClusterChange* out) override {
    JoinCluster request;
    request.token = in->token();
    request.address = in->address();
    request.kv = access_of(in->etcd());
    auto change = ask<ClusterChange>(rpc, [this, request] { return context_.admin->join(request); });
    if (change.ok()) fill_change(*change, out);
    return to_grpc(change, rpc);
  }
  grpc::Status CreateToken(grpc::ServerContext* rpc, const v1::CreateTokenRequest* in,
                           v1::JoinToken* out) override {
    const uint64_t seconds = in->ttl_seconds() == 0 ? kDefaultTokenSeconds : in->ttl_seconds();
    if (seconds > kMaxTokenSeconds) {
      return to_grpc(make_error(ErrorCode::kInvalidArgument,
                                "a token that is good for {} s; give a minute to 7 days", seconds),
                     rpc);
    }
    const Duration life = std::chrono::seconds(seconds);
    auto made = ask<NewToken>(rpc, [this, life] { return context_.admin->create_token(life); });
    if (made.ok()) {
      out->set_id(made->id);
      out->set_token(made->text);
      fill_time(made->expires, out->mutable_expires());
      out->set_carries_state_store(made->carries_state_store);
    }
    return to_grpc(made, rpc);
  }
  grpc::Status ListTokens(grpc::ServerContext* rpc, const v1::ListTokensRequest*,
                          v1::ListTokensResponse* out) override {
    auto all = ask<std::vector<TokenInfo>>(rpc, [this] { return context_.admin->list_tokens(); });
    if (!all.ok()) return to_grpc(all, rpc);
    for (const TokenInfo& token : *all) {
      v1::TokenState* state = out->add_tokens();
      state->set_id(token.id);
      state->set_state(token.used ? "used" : token.expired ? "expired" : "unused");
      state->set_node(token.node);
      state->set_carries_state_store(token.carries_state_store);
      fill_time(token.created, state->mutable_created());
      fill_time(token.expires, state->mutable_expires());
    }
    return grpc::Status::OK;
  }
  grpc::Status RevokeToken(grpc::ServerContext* rpc, const v1::RevokeTokenRequest* in,
                           v1::RevokeTokenResponse*) override {
    const std::string id = in->id();
    return to_grpc(ask<void>(rpc, [this, id] { return context_.admin->revoke_token(id); }), rpc);
  }
  grpc::Status Decommission(grpc::ServerContext* rpc, const v1::DecommissionRequest* in,
                            v1::Decommissioned* out) override {
    const std::string node = in->node();
    const bool force = in->force();
    auto gone = ask<NodeGone>(rpc, [this, node, force] { return context_.admin->decommission(node, force); });
    if (gone.ok()) {
      out->set_id(gone->id);
      out->set_name(gone->name);
      out->set_replicas(gone->replicas);
      out->set_state_store_voters(gone->voters);
    }
    return to_grpc(gone, rpc);
  }

 private:
  // Who asks over TCP has shown nothing of who he is: who decides the membership of a node is root.
  template <typename T>
  Result<T> ask(grpc::ServerContext* rpc, std::function<Task<Result<T>>()> start) {
    if (!rpc->peer().starts_with("unix:")) {
      return make_error(ErrorCode::kPermissionDenied,
                        "the membership of a node is changed over its Unix socket alone");
    }
    return context_.bridge.call<T>(std::move(start));
  }

  ServiceContext context_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_v1_membership(const ServiceContext& context) {
  return std::make_unique<Membership>(context);
}

}  // namespace hf::api
