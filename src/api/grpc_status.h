// Error → gRPC status, with the stable code in the trailer kErrorTrailer (base/error_trailer.h).
#pragma once

#include <grpcpp/grpcpp.h>

#include "base/error.h"
#include "base/error_trailer.h"

namespace hf::api {

grpc::Status to_grpc(const Error& error, grpc::ServerContext* context);

template <typename T>
grpc::Status to_grpc(const Result<T>& result, grpc::ServerContext* context) {
  return result.ok() ? grpc::Status::OK : to_grpc(result.error(), context);
}

}  // namespace hf::api
