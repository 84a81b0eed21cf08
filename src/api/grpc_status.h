// Error → gRPC status. The stable code travels in the trailing metadata key kErrorMetadataKey as
// "HF1007 no_space", so that clients need not parse sentences.
#pragma once

#include <grpcpp/grpcpp.h>

#include "base/error.h"

namespace hf::api {

inline constexpr char kErrorMetadataKey[] = "holdfast-error";

grpc::Status to_grpc(const Error& error, grpc::ServerContext* context);

template <typename T>
grpc::Status to_grpc(const Result<T>& result, grpc::ServerContext* context) {
  return result.ok() ? grpc::Status::OK : to_grpc(result.error(), context);
}

}  // namespace hf::api
