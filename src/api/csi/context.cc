#include "api/csi/context.h"

#include "api/grpc_status.h"

namespace hf::api::csi_driver {

using Code = grpc::StatusCode;

// UNIMPLEMENTED would say that the driver lacks the call, INTERNAL that nothing can be done about it.
Code csi_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk: return Code::OK;
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInvalidSpec:
    case ErrorCode::kNotSupported: return Code::INVALID_ARGUMENT;
    case ErrorCode::kNotFound: return Code::NOT_FOUND;
    case ErrorCode::kAlreadyExists:
    case ErrorCode::kSpecMismatch: return Code::ALREADY_EXISTS;
    case ErrorCode::kNoSpace:
    case ErrorCode::kLimitExceeded: return Code::RESOURCE_EXHAUSTED;
    case ErrorCode::kInUse:
    case ErrorCode::kNotAttached:
    case ErrorCode::kFailedPrecondition:
    case ErrorCode::kConfirmationNeeded:
    case ErrorCode::kNewerFormat:
    case ErrorCode::kWrongOwner:
    case ErrorCode::kLocked:
    case ErrorCode::kNotEmpty:
    case ErrorCode::kReadOnly:
    case ErrorCode::kMissingFeature:
    case ErrorCode::kFenced: return Code::FAILED_PRECONDITION;
    case ErrorCode::kPermissionDenied: return Code::PERMISSION_DENIED;
    case ErrorCode::kUnauthenticated: return Code::UNAUTHENTICATED;
    case ErrorCode::kCorruption: return Code::DATA_LOSS;
    case ErrorCode::kIo:
    case ErrorCode::kProtocol:
    case ErrorCode::kInternal: return Code::INTERNAL;
    // Goes on, or may have happened: schedulers ask again, and never take these for the end of it.
    case ErrorCode::kTimeout: return Code::DEADLINE_EXCEEDED;
    case ErrorCode::kCancelled:
    case ErrorCode::kFailedPool:
    case ErrorCode::kUnavailable:
    case ErrorCode::kAmbiguous:
    case ErrorCode::kClosed: return Code::UNAVAILABLE;
    case ErrorCode::kConflict: return Code::ABORTED;
  }
  HF_UNREACHABLE("code {}", static_cast<int>(code));
}

Answer::Answer(Error error) : error_(std::move(error)), code_(csi_code(error_->code())) {}

grpc::Status to_grpc(const Answer& answer, grpc::ServerContext* rpc) {
  if (answer.ok()) return grpc::Status::OK;
  const grpc::Status status = api::to_grpc(answer.error(), rpc);  // for its trailer
  return grpc::Status(answer.code(), status.error_message());
}

Answer out_of_range(std::string sentence) {
  return Answer(Error(ErrorCode::kInvalidArgument, std::move(sentence)), Code::OUT_OF_RANGE);
}

Result<BusyNames::Hold> BusyNames::take(const std::string& name) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!changed_.wait_for(lock, patience_, [&] { return !busy_.contains(name); })) {
    return make_error(ErrorCode::kConflict, "another call for {} is still being worked on; ask again when it has ended",
                      name);
  }
  busy_.insert(name);
  return Hold(this, name);
}

void BusyNames::release(const std::string& name) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    busy_.erase(name);
  }
  changed_.notify_all();
}

Result<cluster::VolumeInfo> find_volume(Context& context, const std::string& volume_id) {
  if (volume_id.empty() || volume_id.size() > kMaxTextBytes) {
    return make_error(ErrorCode::kInvalidArgument, "a volume_id of 1 to {} bytes is needed", kMaxTextBytes);
  }
  const std::optional<VolumeId> id = VolumeId::parse(volume_id);
  const Error none = make_error(ErrorCode::kNotFound, "there is no volume of id {:?}", volume_id);
  if (!id) return none;
  Result<cluster::VolumeInfo> found = context.bridge.call<cluster::VolumeInfo>(
      [&control = context.control, volume_id] { return control.inspect_volume(volume_id); });
  if (found.code() == ErrorCode::kNotFound || (found.ok() && found->id != *id)) return none;
  return found;
}

}  // namespace hf::api::csi_driver
