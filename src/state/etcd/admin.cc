#include "state/etcd/admin.h"

namespace hf::state {
namespace {

using etcdserverpb::CompactionRequest;
using etcdserverpb::CompactionResponse;
using etcdserverpb::MemberAddRequest;
using etcdserverpb::MemberAddResponse;
using etcdserverpb::MemberListRequest;
using etcdserverpb::MemberListResponse;
using etcdserverpb::MemberPromoteRequest;
using etcdserverpb::MemberPromoteResponse;
using etcdserverpb::MemberRemoveRequest;
using etcdserverpb::MemberRemoveResponse;
using Done = std::function<void(grpc::Status)>;

constexpr int kMaxUrls = 16;

void start_list(EtcdEndpoint& at, grpc::ClientContext* context, const MemberListRequest* request,
                MemberListResponse* answer, Done done) {
  at.cluster->async()->MemberList(context, request, answer, std::move(done));
}
void start_add(EtcdEndpoint& at, grpc::ClientContext* context, const MemberAddRequest* request,
               MemberAddResponse* answer, Done done) {
  at.cluster->async()->MemberAdd(context, request, answer, std::move(done));
}
void start_promote(EtcdEndpoint& at, grpc::ClientContext* context,
                   const MemberPromoteRequest* request, MemberPromoteResponse* answer, Done done) {
  at.cluster->async()->MemberPromote(context, request, answer, std::move(done));
}
void start_remove(EtcdEndpoint& at, grpc::ClientContext* context,
                  const MemberRemoveRequest* request, MemberRemoveResponse* answer, Done done) {
  at.cluster->async()->MemberRemove(context, request, answer, std::move(done));
}
void start_compact(EtcdEndpoint& at, grpc::ClientContext* context, const CompactionRequest* request,
                   CompactionResponse* answer, Done done) {
  at.kv->async()->Compact(context, request, answer, std::move(done));
}

Result<EtcdMemberInfo> info_of(const etcdserverpb::Member& member) {
  if (member.id() == 0 || member.peerurls_size() > kMaxUrls ||
      member.clienturls_size() > kMaxUrls) {
    return Error(ErrorCode::kProtocol, "etcd told of a member that is none");
  }
  EtcdMemberInfo info;
  info.id = member.id();
  info.name = member.name();
  info.peer_urls.assign(member.peerurls().begin(), member.peerurls().end());
  info.client_urls.assign(member.clienturls().begin(), member.clienturls().end());
  info.learner = member.islearner();
  return info;
}

}  // namespace

Task<Result<std::vector<EtcdMemberInfo>>> etcd_members(EtcdSession& session) {
  MemberListRequest request;
  Result<MemberListResponse> answer = co_await session.call(
      CallKind::kRead, "list of etcd's members", &start_list, std::move(request));
  HF_CO_TRY(answer);
  if (static_cast<size_t>(answer->members_size()) > kMaxEtcdMembers) {
    co_return make_error(ErrorCode::kLimitExceeded, "etcd has {} members, more than {}",
                         answer->members_size(), kMaxEtcdMembers);
  }
  std::vector<EtcdMemberInfo> members;
  for (const etcdserverpb::Member& member : answer->members()) {
    Result<EtcdMemberInfo> info = info_of(member);
    HF_CO_TRY(info);
    members.push_back(std::move(*info));
  }
  co_return std::move(members);
}

Task<Result<EtcdMemberInfo>> etcd_add_member(EtcdSession& session, std::string peer_url,
                                             bool learner) {
  MemberAddRequest request;
  request.add_peerurls(peer_url);
  request.set_islearner(learner);
  Result<MemberAddResponse> answer = co_await session.call(
      CallKind::kWrite, "adding of a member to etcd", &start_add, std::move(request));
  HF_CO_TRY(answer);
  Result<EtcdMemberInfo> info = info_of(answer->member());
  if (!info.ok()) co_return Error(ErrorCode::kAmbiguous, info.error().message());
  co_return std::move(info);
}

Task<Status> etcd_promote_member(EtcdSession& session, uint64_t id) {
  MemberPromoteRequest request;
  request.set_id(id);
  Result<MemberPromoteResponse> answer = co_await session.call(
      CallKind::kWrite, "promotion of an etcd member", &start_promote, std::move(request));
  HF_CO_TRY(answer);
  co_return Status();
}

Task<Status> etcd_remove_member(EtcdSession& session, uint64_t id) {
  MemberRemoveRequest request;
  request.set_id(id);
  Result<MemberRemoveResponse> answer = co_await session.call(
      CallKind::kWrite, "removal of an etcd member", &start_remove, std::move(request));
  if (!answer.ok() && answer.code() != ErrorCode::kNotFound) co_return answer.error();
  co_return Status();
}

Task<Status> etcd_compact(EtcdSession& session, Revision revision) {
  CompactionRequest request;
  request.set_revision(static_cast<int64_t>(revision));
  request.set_physical(true);
  Result<CompactionResponse> answer = co_await session.call(CallKind::kWrite, "compaction of etcd",
                                                            &start_compact, std::move(request));
  HF_CO_TRY(answer);
  co_return Status();
}

}  // namespace hf::state
