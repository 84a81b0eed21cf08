#include "api/grpc_server.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/testing/fake_control.h"
#include "api/text.h"
#include "base/error_trailer.h"
#include "base/prng.h"
#include "holdfast/v1/holdfast.grpc.pb.h"

namespace hf::api {
namespace {

namespace v1 = holdfast::v1;

class Grpc : public testing::Test {
 protected:
  void SetUp() override {
    path_ = "/tmp/hf-grpc-" + std::to_string(::getpid()) + ".sock";
    GrpcServerOptions options;
    options.unix_path = path_;
    auto server = GrpcServer::start(options, control_, bridge_);
    ASSERT_TRUE(server.ok()) << server.error().to_string();
    server_ = std::move(*server);
    grpc::ChannelArguments arguments;
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
    stub_ = v1::Volumes::NewStub(grpc::CreateCustomChannel("unix:" + path_, grpc::InsecureChannelCredentials(), arguments));
  }
  grpc::Status inspect(const std::string& name, std::string* trailer = nullptr) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::InspectVolumeRequest request;
    request.set_volume(name);
    v1::Volume answer;
    const grpc::Status status = stub_->Inspect(&context, request, &answer);
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto found = trailers.find(kErrorTrailer);
    if (trailer != nullptr && found != trailers.end()) trailer->assign(found->second.data(), found->second.size());
    return status;
  }
  void throw_at_it(std::string_view bytes) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, path_.size());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::shutdown(fd, SHUT_WR);
    const timeval limit{2, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char buffer[4096];
    while (::recv(fd, buffer, sizeof buffer, 0) > 0) {
    }
    ::close(fd);
  }

  InlineLoop loop_;
  Gate gate_;
  FakeControl control_;
  LoopBridge bridge_{loop_, gate_};
  std::string path_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Volumes::Stub> stub_;
};

TEST_F(Grpc, EveryCodeOfTheTableArrives) {
  const ErrorTable table = error_table();
  for (size_t i = 1; i < table.count; ++i) {
    const ErrorInfo& row = table.rows[i];
    control_.next_error = Error(row.code, "why: " + std::string(row.name));
    std::string trailer;
    const grpc::Status status = inspect("v", &trailer);
    EXPECT_EQ(static_cast<int>(status.error_code()), row.grpc_status) << row.name;
    EXPECT_NE(row.grpc_status, 0) << row.name;
    EXPECT_EQ(status.error_message(), "why: " + std::string(row.name));
    EXPECT_EQ(trailer, fmt::format("HF{} {}", static_cast<int>(row.code), row.name));
  }
}

TEST_F(Grpc, MalformedBytesEndTheirConnectionOnly) {
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  const std::string settings("\0\0\0\4\0\0\0\0\0", 9);
  throw_at_it("");
  throw_at_it("GET / HTTP/1.1\r\n\r\n");
  throw_at_it(preface.substr(0, 10));
  throw_at_it(preface + std::string("\xff\xff\xff\4\0\0\0\0\0", 9));      // a frame of 16 MiB
  throw_at_it(preface + settings + std::string("\0\0\4\1\4\0\0\0\1\xff\xff\xff\xff", 13));  // headers that do not decode
  throw_at_it(preface + settings + std::string("\0\0\5\0\1\0\0\0\1\0\x7f\xff\xff\xff", 14));  // data of no stream
  Prng prng(7);
  for (int round = 0; round < 60; ++round) {
    std::string bytes = round % 2 == 0 ? preface + settings : "";
    const uint64_t size = prng.below(3000);
    for (uint64_t i = 0; i < size; ++i) bytes.push_back(static_cast<char>(prng.below(256)));
    throw_at_it(bytes);
  }
  EXPECT_EQ(inspect("v").error_code(), grpc::StatusCode::NOT_FOUND) << "it still serves";
}

TEST_F(Grpc, AMessageThatIsTooLargeIsRefused) {
  EXPECT_EQ(inspect(std::string(5 * 1024 * 1024, 'x')).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(inspect("v").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(Grpc, UnmountWithoutAPathTakesTheOnlyOne) {
  cluster::VolumeInfo& volume = control_.volumes["v"];
  volume.name = "v";
  const auto unmount = [&] {
    grpc::ClientContext context;
    v1::UnmountVolumeRequest request;
    request.set_volume("v");
    v1::Volume answer;
    return stub_->Unmount(&context, request, &answer);
  };
  EXPECT_NE(unmount().error_message().find("not mounted"), std::string::npos);
  volume.attachment.emplace();
  volume.attachment->mounts = {{"/mnt/a", "path:/mnt/a"}, {"/m", "docker:x"}, {"/mnt/b", "path:/mnt/b"}};
  EXPECT_NE(unmount().error_message().find("/mnt/a /mnt/b"), std::string::npos);
  volume.attachment->mounts.pop_back();
  EXPECT_TRUE(unmount().ok());
  ASSERT_EQ(volume.attachment->mounts.size(), 1u);
  EXPECT_NE(unmount().error_message().find("docker:x"), std::string::npos);
}

TEST(Text, EveryStateHasAWordAndExportsReadBack) {
  EXPECT_EQ(to_string(cluster::VolumeState::kDetached), "detached");
  EXPECT_EQ(to_string(cluster::ReplicaState::kFailed), "failed");
  EXPECT_EQ(to_string(cluster::PoolState::kFull), "full");
  for (const auto kind : {cluster::ExportKind::kNone, cluster::ExportKind::kUblk, cluster::ExportKind::kNbd,
                          cluster::ExportKind::kFuseLoop}) {
    EXPECT_EQ(*parse_export_kind(to_string(kind)), kind);
  }
  const auto bad = parse_export_kind(std::string(500, 'x'));
  EXPECT_EQ(bad.code(), ErrorCode::kInvalidArgument);
  EXPECT_LT(bad.error().message().size(), 300u);
}

}  // namespace
}  // namespace hf::api
