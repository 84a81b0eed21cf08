// One step shared by all holdfast.v1 handlers: call, convert one value, map the error.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <utility>

#include "api/grpc_services.h"
#include "api/grpc_status.h"
#include "api/v1/convert.h"

namespace hf::api {

template <typename Info, typename Message>
grpc::Status answer(const ServiceContext& context, grpc::ServerContext* rpc, Message* out,
                    std::function<Task<Result<Info>>()> start) {
  Result<Info> result = context.bridge.call<Info>(std::move(start));
  if (result.ok()) fill(*result, out);
  return to_grpc(result, rpc);
}

}  // namespace hf::api
