#include "base/error.h"

#include <cerrno>
#include <cstring>
#include <iterator>

namespace hf {
namespace {

// gRPC status codes by number (grpc/status.h is not included so that base stays light).
constexpr int kGrpcOk = 0, kGrpcCancelled = 1, kGrpcInvalidArgument = 3, kGrpcDeadline = 4,
              kGrpcNotFound = 5, kGrpcAlreadyExists = 6, kGrpcPermission = 7, kGrpcExhausted = 8,
              kGrpcPrecondition = 9, kGrpcAborted = 10, kGrpcOutOfRange = 11,
              kGrpcUnimplemented = 12, kGrpcInternal = 13, kGrpcUnavailable = 14,
              kGrpcDataLoss = 15, kGrpcUnauthenticated = 16;
// NBD protocol, section "Error values".
constexpr uint32_t kNbdPerm = 1, kNbdIo = 5, kNbdNoMem = 12, kNbdInval = 22, kNbdNoSpc = 28,
                   kNbdNotSup = 95, kNbdShutdown = 108;
[[maybe_unused]] constexpr int kUnused = kGrpcOutOfRange;

// code, name, errno, nbd, grpc, http, exit, retryable, may have happened
constexpr ErrorInfo kTable[] = {
    {ErrorCode::kOk, "ok", 0, 0, kGrpcOk, 200, 0, false, false},
    {ErrorCode::kInvalidArgument, "invalid_argument", EINVAL, kNbdInval, kGrpcInvalidArgument, 400, 2, false, false},
    {ErrorCode::kInvalidSpec, "invalid_spec", EINVAL, kNbdInval, kGrpcInvalidArgument, 400, 2, false, false},
    {ErrorCode::kNotFound, "not_found", ENOENT, kNbdInval, kGrpcNotFound, 404, 3, false, false},
    {ErrorCode::kAlreadyExists, "already_exists", EEXIST, kNbdInval, kGrpcAlreadyExists, 409, 4, false, false},
    {ErrorCode::kSpecMismatch, "spec_mismatch", EEXIST, kNbdInval, kGrpcAlreadyExists, 409, 4, false, false},
    {ErrorCode::kNotSupported, "not_supported", EOPNOTSUPP, kNbdNotSup, kGrpcUnimplemented, 501, 5, false, false},
    {ErrorCode::kNoSpace, "no_space", ENOSPC, kNbdNoSpc, kGrpcExhausted, 507, 6, true, false},
    {ErrorCode::kInUse, "in_use", EBUSY, kNbdInval, kGrpcPrecondition, 409, 7, false, false},
    {ErrorCode::kNotAttached, "not_attached", ENODEV, kNbdInval, kGrpcPrecondition, 409, 8, false, false},
    {ErrorCode::kPermissionDenied, "permission_denied", EACCES, kNbdPerm, kGrpcPermission, 403, 9, false, false},
    {ErrorCode::kUnauthenticated, "unauthenticated", EACCES, kNbdPerm, kGrpcUnauthenticated, 401, 9, false, false},
    {ErrorCode::kLimitExceeded, "limit_exceeded", EAGAIN, kNbdNoMem, kGrpcExhausted, 429, 10, true, false},
    {ErrorCode::kFailedPrecondition, "failed_precondition", EINVAL, kNbdInval, kGrpcPrecondition, 409, 8, false, false},
    {ErrorCode::kConfirmationNeeded, "confirmation_needed", EPERM, kNbdPerm, kGrpcPrecondition, 409, 11, false, false},
    {ErrorCode::kIo, "io_error", EIO, kNbdIo, kGrpcDataLoss, 500, 20, false, true},
    {ErrorCode::kCorruption, "corruption", EIO, kNbdIo, kGrpcDataLoss, 500, 21, false, false},
    {ErrorCode::kNewerFormat, "newer_format", EINVAL, kNbdInval, kGrpcPrecondition, 409, 22, false, false},
    {ErrorCode::kWrongOwner, "wrong_owner", EACCES, kNbdPerm, kGrpcPrecondition, 409, 22, false, false},
    {ErrorCode::kLocked, "locked", EBUSY, kNbdIo, kGrpcPrecondition, 409, 7, true, false},
    {ErrorCode::kNotEmpty, "not_empty", ENOTEMPTY, kNbdInval, kGrpcPrecondition, 409, 11, false, false},
    {ErrorCode::kReadOnly, "read_only", EROFS, kNbdPerm, kGrpcPrecondition, 409, 9, false, false},
    {ErrorCode::kMissingFeature, "missing_feature", EOPNOTSUPP, kNbdNotSup, kGrpcPrecondition, 501, 5, false, false},
    {ErrorCode::kFailedPool, "failed_pool", EIO, kNbdIo, kGrpcUnavailable, 503, 20, false, true},
    {ErrorCode::kTimeout, "timeout", ETIMEDOUT, kNbdIo, kGrpcDeadline, 504, 30, true, true},
    {ErrorCode::kCancelled, "cancelled", ECANCELED, kNbdIo, kGrpcCancelled, 499, 30, true, true},
    {ErrorCode::kUnavailable, "unavailable", EAGAIN, kNbdIo, kGrpcUnavailable, 503, 31, true, false},
    {ErrorCode::kConflict, "conflict", EAGAIN, kNbdIo, kGrpcAborted, 409, 32, true, false},
    {ErrorCode::kAmbiguous, "ambiguous", EIO, kNbdIo, kGrpcUnavailable, 503, 31, true, true},
    {ErrorCode::kFenced, "fenced", EIO, kNbdShutdown, kGrpcPrecondition, 409, 33, false, false},
    {ErrorCode::kClosed, "closed", ESHUTDOWN, kNbdShutdown, kGrpcUnavailable, 503, 31, true, true},
    {ErrorCode::kProtocol, "protocol_error", EPROTO, kNbdInval, kGrpcInvalidArgument, 400, 34, false, false},
    {ErrorCode::kInternal, "internal", EIO, kNbdIo, kGrpcInternal, 500, 70, false, true},
};

}  // namespace

ErrorTable error_table() { return ErrorTable{kTable, std::size(kTable)}; }

const ErrorInfo& error_info(ErrorCode code) {
  for (const ErrorInfo& row : kTable) {
    if (row.code == code) return row;
  }
  HF_UNREACHABLE("error code {} is not in the table", static_cast<int>(code));
}

ErrorCode code_from_errno(int sys_errno) {
  switch (sys_errno) {
    case 0: return ErrorCode::kOk;
    case EINVAL: case ENAMETOOLONG: case ERANGE: case ENOTDIR: case EISDIR: case ELOOP: case EFBIG:
    case EADDRNOTAVAIL: case EAFNOSUPPORT:
      return ErrorCode::kInvalidArgument;
    case ENOENT: return ErrorCode::kNotFound;
    case EEXIST: return ErrorCode::kAlreadyExists;
    case EOPNOTSUPP: case ENOSYS: case ENOTTY: return ErrorCode::kMissingFeature;
    case ENOSPC: case EDQUOT: return ErrorCode::kNoSpace;
    case EBUSY: case ETXTBSY: case EADDRINUSE: return ErrorCode::kInUse;
    case EACCES: case EPERM: return ErrorCode::kPermissionDenied;
    case EMFILE: case ENFILE: case ENOMEM: return ErrorCode::kLimitExceeded;
    case EROFS: return ErrorCode::kReadOnly;
    case ENOTEMPTY: return ErrorCode::kNotEmpty;
    case ETIMEDOUT: return ErrorCode::kTimeout;
    case ECANCELED: return ErrorCode::kCancelled;
    case EAGAIN: case EINTR: case ECONNREFUSED: case EHOSTUNREACH: case ENETUNREACH:
      return ErrorCode::kUnavailable;
    case ECONNRESET: case ECONNABORTED: case EPIPE: case ESHUTDOWN: case ENOTCONN: return ErrorCode::kClosed;
    case EPROTO: return ErrorCode::kProtocol;
    default: return ErrorCode::kIo;
  }
}

Error Error::from_errno(int sys_errno, std::string_view what) {
  HF_ASSERT(sys_errno > 0, "errno {} from {}", sys_errno, what);
  char buffer[128];
  return Error(code_from_errno(sys_errno),
               fmt::format("{}: {}", what, strerror_r(sys_errno, buffer, sizeof buffer)));
}

std::string Error::to_string() const {
  return fmt::format("HF{} {}: {}", static_cast<int>(code_), info().name, message_);
}

Error Error::with_context(std::string_view context) const {
  return Error(code_, fmt::format("{}: {}", context, message_));
}

}  // namespace hf
