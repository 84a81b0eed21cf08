// A small HTTP/1.1 server (Boost.Beast) for the Docker plugin and for /healthz and /metrics.
//
// Reads and writes are asynchronous on one thread; handlers run on a bounded pool and may block.
// Bounded: 1 MiB of body, 16 KiB of header, kMaxConnections, 30 s without progress of the client.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"

namespace hf::api {

struct HttpRequest {
  std::string method;  // "GET", "POST"
  std::string target;  // "/VolumeDriver.Create"
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
};

// On a pool thread, several at the same time. Must not throw.
using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

inline constexpr size_t kMaxHttpConnections = 256;

struct HttpServerOptions {
  // Either a Unix socket (made with mode 0600, a stale one replaced) …
  std::string unix_path;
  // … or TCP; only loopback addresses unless `any_address`.
  std::string tcp_host;
  uint16_t tcp_port = 0;  // 0: chosen by the system
  bool any_address = false;
  size_t handler_threads = 8;
  std::chrono::milliseconds idle_timeout{30'000};  // without progress of the client
};

class HttpServer {
 public:
  virtual ~HttpServer() = default;  // stops
  // Listening on return. kInUse when another process answers there.
  static Result<std::unique_ptr<HttpServer>> start(HttpServerOptions options, HttpHandler handler);
  // Accepts no more, lets running handlers finish and answers their clients, joins all threads. Idempotent.
  virtual void stop() = 0;
  virtual uint16_t tcp_port() const = 0;
};

}  // namespace hf::api
