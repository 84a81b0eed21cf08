#include "api/http/server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <future>
#include <thread>
#include <utility>

#include "base/log.h"

namespace hf::api {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

constexpr size_t kMaxHeaderBytes = 16 * 1024;
constexpr size_t kMaxBodyBytes = 1024 * 1024;
constexpr std::chrono::minutes kHandlerTimeout{3};  // above kApiTimeout
constexpr std::chrono::milliseconds kAcceptRetry{100};

// What all sessions of a server share; outlives them.
struct Shared {
  Shared(HttpHandler h, const HttpServerOptions& options)
      : handler(std::move(h)), idle_timeout(options.idle_timeout), pool(options.handler_threads) {}
  HttpHandler handler;
  std::chrono::milliseconds idle_timeout;
  asio::thread_pool pool;
  std::atomic<size_t> connections{0};
  std::atomic<bool> stopping{false};
};

template <typename Protocol>
class Session : public std::enable_shared_from_this<Session<Protocol>> {
 public:
  Session(typename Protocol::socket socket, Shared& shared)
      : stream_(std::move(socket)), shared_(shared) {
    ++shared_.connections;
  }
  ~Session() { --shared_.connections; }

  void read() {
    parser_.emplace();
    parser_->header_limit(kMaxHeaderBytes);
    parser_->body_limit(kMaxBodyBytes);
    stream_.expires_after(shared_.idle_timeout);
    http::async_read(stream_, buffer_, *parser_,
                     [self = this->shared_from_this()](beast::error_code ec, size_t) {
                       self->on_read(ec);
                     });
  }

 private:
  static bool is_malformed(beast::error_code ec) {
    return ec && ec != http::error::partial_message &&
           ec.category() == http::make_error_code(http::error::bad_method).category();
  }
  void on_read(beast::error_code ec) {
    if (ec == http::error::end_of_stream) return shut_down();
    if (ec == http::error::body_limit || ec == http::error::header_limit) {
      HttpResponse refusal;
      refusal.status = 413;
      refusal.body = R"({"Err":"the request is too large"})";
      return write(std::move(refusal), false);
    }
    if (is_malformed(ec)) {
      HttpResponse refusal;
      refusal.status = 400;
      refusal.body = R"({"Err":"the request is not HTTP/1.1"})";
      return write(std::move(refusal), false);
    }
    if (ec || shared_.stopping) return;  // reset, timeout, or the end: the connection goes
    stream_.expires_after(kHandlerTimeout);
    asio::post(shared_.pool, [self = this->shared_from_this()] { self->handle(); });
  }

  // On a pool thread.
  void handle() {
    const auto& message = parser_->get();
    HttpRequest request;
    request.method = std::string(message.method_string());
    request.target = std::string(message.target());
    request.body = message.body();
    HttpResponse response = shared_.handler(request);
    const bool keep = message.keep_alive() && !shared_.stopping;
    asio::post(stream_.get_executor(),
               [self = this->shared_from_this(), response = std::move(response), keep]() mutable {
                 self->write(std::move(response), keep);
               });
  }

  void write(HttpResponse response, bool keep) {
    response_.emplace(static_cast<http::status>(response.status), 11);
    response_->set(http::field::server, "holdfast");
    response_->set(http::field::content_type, response.content_type);
    response_->keep_alive(keep);
    response_->body() = std::move(response.body);
    response_->prepare_payload();
    stream_.expires_after(shared_.idle_timeout);
    http::async_write(stream_, *response_,
                      [self = this->shared_from_this(), keep](beast::error_code ec, size_t) {
                        if (ec) return;
                        if (keep) self->read();
                        else self->shut_down();
                      });
  }

  void shut_down() {
    beast::error_code ignored;
    stream_.socket().shutdown(Protocol::socket::shutdown_send, ignored);
  }

  beast::basic_stream<Protocol> stream_;
  Shared& shared_;
  beast::flat_buffer buffer_{kMaxHeaderBytes + kMaxBodyBytes};
  std::optional<http::request_parser<http::string_body>> parser_;
  std::optional<http::response<http::string_body>> response_;
};

template <typename Protocol>
class Server : public HttpServer {
 public:
  Server(HttpServerOptions options, HttpHandler handler)
      : options_(std::move(options)),
        shared_(std::move(handler), options_),
        acceptor_(context_) {}
  ~Server() override { stop(); }

  Status open(const typename Protocol::endpoint& endpoint) {
    beast::error_code ec;
    acceptor_.open(endpoint.protocol(), ec);
    if (!ec && !is_unix()) acceptor_.set_option(asio::socket_base::reuse_address(true), ec);
    // No moment at which others could connect: the mode comes with the bind.
    const mode_t old_mask = is_unix() ? ::umask(0177) : 0;
    if (!ec) acceptor_.bind(endpoint, ec);
    if (is_unix()) ::umask(old_mask);
    if (!ec) acceptor_.listen(128, ec);
    if (ec) return Error::from_errno(ec.value(), "listen on " + describe());
    accept();
    thread_ = std::thread([this] { context_.run(); });
    return {};
  }

  void stop() override {
    if (stopped_.exchange(true)) return;
    // On the context's thread: behind it no session hands a request to the pool any more, which must not be given one
    // once it was joined.
    on_context([this] {
      beast::error_code ignored;
      shared_.stopping = true;
      acceptor_.close(ignored);
    });
    shared_.pool.join();
    // The answers of the last handlers were posted before this: they are on their way when it has run.
    on_context([] {});
    context_.stop();
    if (thread_.joinable()) thread_.join();
    if (is_unix()) ::unlink(options_.unix_path.c_str());
  }

  uint16_t tcp_port() const override {
    if constexpr (std::is_same_v<Protocol, asio::ip::tcp>) {
      beast::error_code ec;
      return acceptor_.local_endpoint(ec).port();
    } else {
      return 0;
    }
  }

 private:
  // Returns when `work` was done on the context's thread; at once where there is none.
  void on_context(std::function<void()> work) {
    if (!thread_.joinable()) return;
    std::promise<void> done;
    asio::post(context_, [&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  static constexpr bool is_unix() { return std::is_same_v<Protocol, asio::local::stream_protocol>; }
  std::string describe() const {
    return is_unix() ? options_.unix_path
                     : fmt::format("{}:{}", options_.tcp_host, options_.tcp_port);
  }

  void accept() {
    acceptor_.async_accept([this](beast::error_code ec, typename Protocol::socket socket) {
      if (shared_.stopping || !acceptor_.is_open()) return;
      if (ec) return accept_later(ec);
      if (shared_.connections < kMaxHttpConnections) {
        std::make_shared<Session<Protocol>>(std::move(socket), shared_)->read();
      } else {
        HF_LOG(kWarn, "api", "http_connection_refused reason=limit limit={}", kMaxHttpConnections);
      }
      accept();
    });
  }

  // For want of descriptors, for example: what listens goes on listening.
  void accept_later(beast::error_code why) {
    HF_LOG(kWarn, "api", "http_accept_failed address={} why=\"{}\"", describe(), why.message());
    accept_retry_.expires_after(kAcceptRetry);
    accept_retry_.async_wait([this](beast::error_code ec) {
      if (!ec && acceptor_.is_open()) accept();
    });
  }

  HttpServerOptions options_;
  Shared shared_;
  asio::io_context context_{1};
  // Runs until it is stopped, also once there is neither a listener nor a session.
  asio::executor_work_guard<asio::io_context::executor_type> until_stopped_{context_.get_executor()};
  asio::steady_timer accept_retry_{context_};
  typename Protocol::acceptor acceptor_;
  std::thread thread_;
  std::atomic<bool> stopped_{false};
};

// A path left behind by a dead process is removed; one that answers belongs to somebody.
Status clear_stale_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return make_error(ErrorCode::kInvalidArgument, "the socket path {} is longer than {} bytes", path,
                      sizeof address.sun_path - 1);
  }
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return {};
  if (!S_ISSOCK(info.st_mode)) {
    return make_error(ErrorCode::kAlreadyExists, "{} is there and is no socket; remove it", path);
  }
  path.copy(address.sun_path, path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Error::from_errno(errno, "socket");
  const int rc = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  const bool answers = rc == 0;
  ::close(fd);
  if (answers) {
    return make_error(ErrorCode::kInUse, "another process serves {}; is a second daemon running?",
                      path);
  }
  ::unlink(path.c_str());
  return {};
}

Result<std::unique_ptr<HttpServer>> start_unix(HttpServerOptions options, HttpHandler handler) {
  using Protocol = asio::local::stream_protocol;
  HF_TRY(clear_stale_socket(options.unix_path));
  const Protocol::endpoint endpoint(options.unix_path);
  auto server = std::make_unique<Server<Protocol>>(std::move(options), std::move(handler));
  HF_TRY(server->open(endpoint));
  return std::unique_ptr<HttpServer>(std::move(server));
}

Result<std::unique_ptr<HttpServer>> start_tcp(HttpServerOptions options, HttpHandler handler) {
  using Protocol = asio::ip::tcp;
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(options.tcp_host, ec);
  if (ec) {
    return make_error(ErrorCode::kInvalidArgument, "\"{}\" is not an IP address", options.tcp_host);
  }
  if (!address.is_loopback() && !options.any_address) {
    return make_error(ErrorCode::kPermissionDenied,
                      "{} is not a loopback address; this listener has no authentication",
                      options.tcp_host);
  }
  const Protocol::endpoint endpoint(address, options.tcp_port);
  auto server = std::make_unique<Server<Protocol>>(std::move(options), std::move(handler));
  HF_TRY(server->open(endpoint));
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpServerOptions options,
                                                      HttpHandler handler) {
  try {
    if (!options.unix_path.empty()) return start_unix(std::move(options), std::move(handler));
    return start_tcp(std::move(options), std::move(handler));
  } catch (const std::exception& e) {  // Asio throws where it has no error code (threads, epoll)
    return make_error(ErrorCode::kInternal, "start the HTTP server: {}", e.what());
  }
}

}  // namespace hf::api
