#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "node/cluster_file.h"
#include "node/config.h"
#include "node/idle_trim.h"
#include "node/identity.h"

namespace hf::node {
namespace {

std::string write_temp(const std::string& text) {
  const std::string path = testing::TempDir() + "/holdfastd-" +
                           testing::UnitTest::GetInstance()->current_test_info()->name() + ".toml";
  std::ofstream(path) << text;
  return path;
}

TEST(NodeConfig, NbdOnTcpIsForLoopbackUnlessToldOtherwise) {
  const auto with = [](const char* address, bool open) {
    NodeConfig config;
    config.nbd_tcp = address;
    config.nbd_tcp_open = open;
    return check_config(config);
  };
  EXPECT_TRUE(with("", false).ok());
  EXPECT_TRUE(with("127.0.0.1:10809", false).ok());
  EXPECT_TRUE(with("[::1]:10809", false).ok());
  EXPECT_TRUE(with("10.0.0.1:10809", true).ok());
  for (const char* address : {"10.0.0.1:10809", "0.0.0.0:10809", "[::]:10809"}) {
    const Status refused = with(address, false);
    EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument) << address;
    EXPECT_NE(refused.error().message().find("nbd_tcp_open"), std::string::npos) << address;
  }
  for (const char* address : {"localhost:10809", "127.evil.example:1", "127.0.0.1", ":1", "x"}) {
    EXPECT_EQ(with(address, true).code(), ErrorCode::kInvalidArgument) << address;
  }
}

TEST(NodeConfig, GrpcOnTcpIsForLoopbackAlone) {
  const auto with = [](const char* address) {
    NodeConfig config;
    config.grpc_tcp = address;
    return check_config(config);
  };
  for (const char* address : {"", "127.0.0.1:9100", "[::1]:9100"}) EXPECT_TRUE(with(address).ok()) << address;
  for (const char* address : {"0.0.0.0:9100", "10.0.0.1:9100", "[::]:9100", "localhost:9100", "127.0.0.1", "nonsense"}) {
    const Status refused = with(address);
    EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument) << address;
    if (!refused.ok()) {
      EXPECT_NE(refused.error().message().find("grpc_tcp"), std::string::npos) << address;
    }
  }
}

// What cannot be read is not the same as what is not there: the defaults would be another node.
TEST(Config, AFileThatCannotBeReadIsNoMissingOne) {
  NodeConfig config;
  EXPECT_EQ(read_config_file(testing::TempDir() + "/no-such-file", &config).code(), ErrorCode::kNotFound);
  const Status folder = read_config_file(testing::TempDir(), &config);
  EXPECT_EQ(folder.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(read_config_file("/proc/self/mem", &config).code(), ErrorCode::kInvalidArgument) << "an I/O error";
}

TEST(Config, ReadsEveryKey) {
  NodeConfig config;
  const std::string path = write_temp(R"(
state_dir = "/s"
run_dir = "/r"
docker_socket = ""
http_host = "127.0.0.2"
http_port = 0
grpc_tcp = "127.0.0.1:9100"
node_name = "n1"
holder_program = "/h"
export = "nbd"
journal_size = "64M"
docker_grace_s = 30
full_pool_wait_s = 0
log_level = "warn"
)");
  ASSERT_TRUE(read_config_file(path, &config).ok());
  EXPECT_EQ(config.state_file(), "/s/state.db");
  EXPECT_EQ(config.api_socket(), "/r/api.sock");
  EXPECT_EQ(config.http_port, 0);
  EXPECT_EQ(config.docker_grace_s, 30u);
  EXPECT_EQ(config.full_pool_wait_s, 0u);
  EXPECT_EQ(config.journal_bytes, 64u << 20);
  EXPECT_EQ(config.log_level, LogLevel::kWarn);
  EXPECT_TRUE(check_config(config).ok());
  std::remove(path.c_str());
}

TEST(Config, NamesTheKeyThatIsWrong) {
  for (const auto& [text, needle] : std::vector<std::pair<std::string, std::string>>{
           {"state_dirr = \"/s\"", "state_dirr"},
           {"http_port = 70000", "http_port"},
           {"http_port = \"1\"", "http_port"},
           {"log_level = \"loud\"", "log_level"},
           {"docker_grace_s = 4", "docker_grace_s"},
           {"full_pool_wait_s = -1", "full_pool_wait_s"},
           {"docker_grace_s = \"9\"", "docker_grace_s"},
           {"journal_size = \"many\"", "journal_size"},
           {"state_dir = ", "toml:1"}}) {
    NodeConfig config;
    const std::string path = write_temp(text);
    const Status read = read_config_file(path, &config);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(read.error().message().find(needle), std::string::npos) << read.error().message();
    std::remove(path.c_str());
  }
}

TEST(Config, RefusesWhatCannotWork) {
  NodeConfig config;
  config.run_dir = "relative";
  EXPECT_FALSE(check_config(config).ok());
  config.run_dir = "/" + std::string(100, 'x');
  EXPECT_FALSE(check_config(config).ok());
  config = NodeConfig();
  config.journal_bytes = 1000;
  EXPECT_FALSE(check_config(config).ok());
  config = NodeConfig();
  config.export_kind = "iscsi";
  EXPECT_FALSE(check_config(config).ok());
  config = NodeConfig();
  config.docker_socket = "holdfast.sock";
  EXPECT_FALSE(check_config(config).ok());
  config = NodeConfig();
  config.holder_program = "holdfast-holder";
  EXPECT_FALSE(check_config(config).ok());
}

TEST(IdleTrim, TrimsOnceWhenWorkHasEnded) {
  IdleTrim trim;
  EXPECT_FALSE(trim.look(0.5));    // at work
  EXPECT_TRUE(trim.look(0.51));    // idle: once
  EXPECT_FALSE(trim.look(0.52));
  EXPECT_FALSE(trim.look(0.53));
  EXPECT_FALSE(trim.look(1.0));
  EXPECT_TRUE(trim.look(1.001));
}

TEST(Identity, SurvivesARoundTripAndNothingElse) {
  Identity identity;
  identity.cluster = ClusterId::from_random(1, 2);
  identity.node = NodeId::from_random(3, 4);
  const std::string text = encode_identity(identity);
  Result<Identity> back = decode_identity(text);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->cluster, identity.cluster);
  EXPECT_EQ(back->node, identity.node);
  // Any changed digit of an id, or of the checksum, is noticed.
  size_t changed = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] < '0' || text[i] > '9') continue;
    std::string other = text;
    other[i] = text[i] == '9' ? '8' : static_cast<char>(text[i] + 1);
    EXPECT_FALSE(decode_identity(other).ok()) << i;
    ++changed;
  }
  EXPECT_GT(changed, 20u);
  EXPECT_EQ(decode_identity("").code(), ErrorCode::kCorruption);
  EXPECT_EQ(decode_identity("{}").code(), ErrorCode::kCorruption);
  EXPECT_EQ(decode_identity(R"({"version": 99})").code(), ErrorCode::kNewerFormat);
}

TEST(Config, CsiIsServedMovedOrSwitchedOff) {
  NodeConfig config;
  config.run_dir = "/r";
  EXPECT_EQ(config.csi_socket_path(), "/r/csi.sock");
  const std::string path = write_temp("csi_socket = \"\"\n");
  EXPECT_TRUE(read_config_file(path, &config).ok());
  EXPECT_EQ(config.csi_socket_path(), "");
  EXPECT_TRUE(check_config(config).ok());
  for (const std::string& bad : {std::string("csi.sock"), "/" + std::string(107, 'x')}) {
    config.csi_socket = bad;
    EXPECT_EQ(check_config(config).code(), ErrorCode::kInvalidArgument) << bad;
  }
  config.csi_socket = "/" + std::string(106, 'x');
  EXPECT_TRUE(check_config(config).ok());
  std::remove(path.c_str());
}

TEST(Config, PortsOfAClusterDoNotMeet) {
  NodeConfig config;
  EXPECT_TRUE(check_config(config).ok());
  config.etcd_client_port = 9012;
  EXPECT_EQ(check_config(config).code(), ErrorCode::kInvalidArgument);
  config.etcd_client_port = 2380;
  EXPECT_EQ(check_config(config).code(), ErrorCode::kInvalidArgument);
  const std::string path = write_temp("peer_port = 65534\n");
  EXPECT_EQ(read_config_file(path, &config).code(), ErrorCode::kInvalidArgument);
  std::remove(path.c_str());
}

ClusterFile some_cluster_file() {
  ClusterFile file;
  file.cluster = *ClusterId::parse("11111111-2222-4333-8444-555555555555");
  file.node = *NodeId::parse("11111111-2222-4333-8444-666666666666");
  file.address = "10.0.0.1";
  file.endpoints = {"10.0.0.1:2379", "10.0.0.2:2379"};
  file.etcd_id = 0xfedcba9876543210;
  file.joins = {"tcp:10.0.0.1:9012"};
  file.member.emplace();
  file.member->initial.emplace_back("a", "https://10.0.0.1:2380");
  file.member->join = true;
  return file;
}

TEST(ClusterFile, ComesBackAsItWas) {
  const ClusterFile file = some_cluster_file();
  const Result<ClusterFile> back = decode_cluster_file(encode_cluster_file(file));
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(encode_cluster_file(*back), encode_cluster_file(file));
  EXPECT_EQ(back->etcd_id, file.etcd_id);
  ASSERT_TRUE(back->member.has_value());
  EXPECT_EQ(back->member->initial, file.member->initial);
  ClusterFile foreign = file;
  foreign.member.reset();
  foreign.foreign.url = "etcd+tls://a,b";
  foreign.foreign.ca = "/ca";
  const Result<ClusterFile> other = decode_cluster_file(encode_cluster_file(foreign));
  ASSERT_TRUE(other.ok());
  EXPECT_FALSE(other->member.has_value());
  EXPECT_EQ(other->foreign.url, foreign.foreign.url);
}

TEST(ClusterFile, NoDamagedOneIsBelieved) {
  const std::string text = encode_cluster_file(some_cluster_file());
  for (size_t i = 0; i < text.size(); ++i) {
    std::string bad = text;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    const Result<ClusterFile> read = decode_cluster_file(bad);
    // White space may change its kind, and the version can only become a higher or a lower one.
    if (read.ok()) {
      EXPECT_EQ(encode_cluster_file(*read), text) << i;
    }
  }
  EXPECT_EQ(decode_cluster_file("").code(), ErrorCode::kCorruption);
  std::string newer = text;
  const size_t at = newer.find("\"version\": 1");
  ASSERT_NE(at, std::string::npos);
  newer[at + 11] = '2';
  EXPECT_EQ(decode_cluster_file(newer).code(), ErrorCode::kNewerFormat);
}

TEST(ClusterFile, SaysHowTheStateStoreIsReached) {
  ClusterFile file = some_cluster_file();
  Result<state::EtcdOptions> own = etcd_options_of(file, "/s");
  ASSERT_TRUE(own.ok());
  EXPECT_EQ(own->endpoints, file.endpoints);
  EXPECT_EQ(own->ca_file, "/s/trust/ca.pem");
  EXPECT_EQ(own->expect_etcd, file.etcd_id);
  state::EtcdMemberOptions member = member_options_of(file, "/s");
  member.initial = {{member.name, member.peer_url()}};
  EXPECT_TRUE(state::check_etcd_member(member).ok());
  file.foreign.url = "etcd+tls://a";
  EXPECT_EQ(etcd_options_of(file, "/s").code(), ErrorCode::kInvalidArgument) << "without its CA";
  file.foreign.ca = "/ca";
  own = etcd_options_of(file, "/s");
  ASSERT_TRUE(own.ok());
  EXPECT_EQ(own->ca_file, "/ca");
  file.foreign.url = "etcd://a";
  EXPECT_EQ(etcd_options_of(file, "/s").code(), ErrorCode::kInvalidArgument) << "the CA would be ignored";
}

}  // namespace
}  // namespace hf::node
