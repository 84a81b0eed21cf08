// The connection to the daemon and one unary call.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>

#include "base/error.h"

namespace hf::cli {

inline constexpr char kDefaultSocket[] = "/run/holdfast/api.sock";
inline constexpr std::chrono::seconds kCallTimeout{100};  // above the daemon's own 90 s

class Client {
 public:
  explicit Client(std::string socket_path);
  // kInvalidArgument for a path that no Unix socket can have: gRPC would only log it.
  static Status check_socket_path(const std::string& path);
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // Result<v1::Volume> r = client.call<v1::Volume>(stub, &Stub::Inspect, request);
  template <typename Response, typename Stub, typename Request>
  Result<Response> call(Stub& stub,
                        grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                        const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (status.ok()) return response;
    return to_error(status, context);
  }

 private:
  // The stable code from the trailing metadata; without one, what the transport says.
  Error to_error(const grpc::Status& status, const grpc::ClientContext& context) const;
  // Why nothing answers: gRPC does not tell a socket that one may not open from one that is not there.
  Error why_unreachable() const;
  std::string socket_path_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace hf::cli
