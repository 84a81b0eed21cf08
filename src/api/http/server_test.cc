#include "api/http/server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace hf::api {
namespace {

using namespace std::chrono_literals;

class Http : public testing::Test {
 protected:
  void SetUp() override { start(HttpServerOptions().idle_timeout); }
  void start(std::chrono::milliseconds idle_timeout) {
    if (server_ != nullptr) server_->stop();
    server_.reset();
    path_ = "/tmp/hf-http-" + std::to_string(::getpid()) + ".sock";
    HttpServerOptions options;
    options.unix_path = path_;
    options.idle_timeout = idle_timeout;
    options.handler_threads = 2;
    auto server = HttpServer::start(options, [this](const HttpRequest& request) {
      ++handled_;
      // Goes on until the server is being stopped.
      for (int i = 0; request.target == "/slow" && i < 12'000 && accepts(); ++i) {
        std::this_thread::sleep_for(5ms);
      }
      HttpResponse response;
      response.body = request.method + " " + request.target + " " + std::to_string(request.body.size());
      return response;
    });
    ASSERT_TRUE(server.ok()) << server.error().to_string();
    server_ = std::move(*server);
  }
  // A descriptor, and whether it is connected.
  std::pair<int, bool> try_connect() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, path_.size());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return {fd, ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0};
  }
  int connect() const {
    const auto [fd, connected] = try_connect();
    EXPECT_TRUE(connected);
    return fd;
  }
  bool accepts() const {
    const auto [fd, connected] = try_connect();
    ::close(fd);
    return connected;
  }
  static void send(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;  // refused meanwhile
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // Everything up to the end of the connection; fails after a minute.
  static std::string rest(int fd) {
    std::string text;
    char buffer[4096];
    for (;;) {
      pollfd poll_fd{fd, POLLIN, 0};
      if (::poll(&poll_fd, 1, 60'000) != 1) {
        ADD_FAILURE() << "the server neither answers nor closes";
        break;
      }
      const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) break;
      text.append(buffer, static_cast<size_t>(n));
    }
    ::close(fd);
    return text;
  }
  std::string talk(std::string_view bytes) {
    const int fd = connect();
    send(fd, bytes);
    ::shutdown(fd, SHUT_WR);
    return rest(fd);
  }
  static std::string post(const std::string& target, const std::string& body) {
    return "POST " + target + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  std::string path_;
  std::atomic<int> handled_{0};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(Http, AnswersAndIsRootsAlone) {
  const std::string answer = talk(post("/VolumeDriver.Get", "{}"));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  EXPECT_TRUE(answer.ends_with("POST /VolumeDriver.Get 2")) << answer;
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(Http, AnswersPipelinedRequestsInOrder) {
  const std::string answer = talk(post("/one", "") + post("/two", "x") + post("/three", "xy"));
  const size_t one = answer.find("POST /one 0"), two = answer.find("POST /two 1"), three = answer.find("POST /three 2");
  EXPECT_NE(three, std::string::npos) << answer;
  EXPECT_LT(one, two);
  EXPECT_LT(two, three);
  EXPECT_EQ(handled_, 3);
}

TEST_F(Http, RefusesWhatIsTooLarge) {
  EXPECT_TRUE(talk(post("/x", std::string(1024 * 1024, 'x'))).starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(talk(post("/x", std::string(1024 * 1024 + 1, 'x'))).starts_with("HTTP/1.1 413"));
  EXPECT_TRUE(talk("POST /x HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n").starts_with("HTTP/1.1 413"));
  EXPECT_TRUE(talk("POST /x HTTP/1.1\r\nA: " + std::string(20'000, 'y') + "\r\n\r\n").starts_with("HTTP/1.1 413"));
  std::string chunks = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 20; ++i) chunks += "10000\r\n" + std::string(0x10000, 'z') + "\r\n";
  EXPECT_TRUE(talk(chunks + "0\r\n\r\n").starts_with("HTTP/1.1 413"));
  EXPECT_EQ(handled_, 1);
}

TEST_F(Http, RefusesWhatIsMalformed) {
  for (const char* bytes : {"\r\n\r\nGET", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n",
                            "\x16\x03\x01\x02", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "G\x01T / HTTP/1.1\r\n\r\n",
                            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    const std::string answer = talk(bytes);
    EXPECT_TRUE(answer.empty() || answer.starts_with("HTTP/1.1 400")) << bytes << " -> " << answer;
  }
  EXPECT_TRUE(talk("GET / HTTP/1.1\r\nbad header\r\n\r\n").starts_with("HTTP/1.1 400"));
  EXPECT_EQ(handled_, 0);
  EXPECT_TRUE(talk(post("/still", "")).ends_with("POST /still 0"));
}

TEST_F(Http, EndsWhatIsSlowAndServesTheOthers) {
  start(2s);
  std::vector<int> idle;
  for (int i = 0; i < 40; ++i) idle.push_back(connect());
  for (size_t i = 0; i < idle.size(); ++i) {
    if (i % 2 == 0) send(idle[i], "POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nab");
  }
  EXPECT_TRUE(talk(post("/now", "")).ends_with("POST /now 0"));
  for (const int fd : idle) EXPECT_EQ(rest(fd), "");
  EXPECT_EQ(handled_, 1);
}

TEST_F(Http, BoundsItsConnections) {
  start(500ms);
  std::vector<int> many;
  for (size_t i = 0; i < kMaxHttpConnections + 40; ++i) many.push_back(connect());
  size_t refused = 0;
  for (const int fd : many) refused += rest(fd).empty() ? 1 : 0;  // by the limit, or by the time
  EXPECT_EQ(refused, many.size());
  std::string after;  // again where the machine stood still for longer than a client may
  for (int i = 0; i < 60 && after.empty(); ++i) after = talk(post("/after", ""));
  EXPECT_TRUE(after.ends_with("POST /after 0"));
}

// A moment without descriptors is not the end of listening.
TEST_F(Http, GoesOnAfterAnAcceptThatFailed) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(0);
  ::close(next);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(next) + 1;  // for this side of the connection only
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const int fd = connect();
  EXPECT_EQ(fd, next);
  send(fd, post("/late", ""));
  std::this_thread::sleep_for(250ms);
  EXPECT_EQ(handled_, 0);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ::shutdown(fd, SHUT_WR);
  EXPECT_TRUE(rest(fd).ends_with("POST /late 0"));
}

TEST_F(Http, RefusesASocketThatIsServed) {
  HttpServerOptions options;
  options.unix_path = path_;
  const auto second = HttpServer::start(options, [](const HttpRequest&) { return HttpResponse(); });
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.code(), ErrorCode::kInUse);
  server_->stop();
  EXPECT_NE(::access(path_.c_str(), F_OK), 0);
}

// What was done is said, also by a daemon that ends; what comes after that is not begun.
TEST_F(Http, AnswersWhatRunsWhenItStops) {
  for (int round = 0; round < 5; ++round) {
    const int fd = connect();
    send(fd, post("/slow", "") + post("/behind", ""));
    while (handled_ == 0) std::this_thread::sleep_for(1ms);
    server_->stop();
    server_.reset();  // closes what is open
    const std::string answer = rest(fd);
    EXPECT_NE(answer.find("POST /slow 0"), std::string::npos) << answer;
    EXPECT_EQ(answer.find("/behind"), std::string::npos) << answer;
    handled_ = 0;
    SetUp();
  }
}

TEST(HttpTcp, OnlyOnLoopback) {
  HttpServerOptions options;
  options.tcp_host = "0.0.0.0";
  EXPECT_EQ(HttpServer::start(options, nullptr).code(), ErrorCode::kPermissionDenied);
  options.tcp_host = "localhost";
  EXPECT_EQ(HttpServer::start(options, nullptr).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace hf::api
