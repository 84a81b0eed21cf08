#include "api/docker/plugin.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/testing/fake_control.h"

namespace hf::api {
namespace {

using nlohmann::json;

class Plugin : public testing::Test {
 protected:
  json call(const std::string& method, const std::string& body, const std::string& verb = "POST") {
    HttpRequest request;
    request.method = verb;
    request.target = "/" + method;
    request.body = body;
    last_ = plugin_.handle(request);
    const json answer = json::parse(last_.body, nullptr, false);
    EXPECT_TRUE(answer.is_object()) << last_.body;
    return answer;
  }
  std::string error_of(const std::string& method, const std::string& body) {
    const json answer = call(method, body);
    EXPECT_EQ(last_.status, 200);
    const std::string error = answer.value("Err", "");
    EXPECT_FALSE(error.empty()) << method << " " << body;
    return error;
  }

  InlineLoop loop_;
  Gate gate_;
  FakeControl control_;
  LoopBridge bridge_{loop_, gate_};
  DockerPlugin plugin_{control_, bridge_, "local"};
  HttpResponse last_;
};

TEST_F(Plugin, SaysWhatItIs) {
  EXPECT_EQ(call("Plugin.Activate", "")["Implements"], json::array({"VolumeDriver"}));
  EXPECT_EQ(call("VolumeDriver.Capabilities", "{}")["Capabilities"]["Scope"], "local");
  EXPECT_EQ(last_.content_type, "application/vnd.docker.plugins.v1.2+json");
}

TEST_F(Plugin, RepeatsTheClientsOwnStringAsTheName) {
  const std::string name = "size=2G,name=pg";
  EXPECT_EQ(call("VolumeDriver.Create", R"({"Name":"size=2G,name=pg","Opts":null})")["Err"], "");
  EXPECT_EQ(call("VolumeDriver.Get", json{{"Name", name}}.dump())["Volume"]["Name"], name);
  EXPECT_EQ(call("VolumeDriver.Get", R"({"Name":"pg"})")["Volume"]["Name"], "pg");
  EXPECT_EQ(call("VolumeDriver.List", "{}")["Volumes"][0]["Name"], "pg");
  EXPECT_EQ(control_.volumes.at("pg").size_bytes, 2ull << 30);
}

TEST_F(Plugin, ShowsAMismatchInCreateAndNotInGet) {
  EXPECT_EQ(call("VolumeDriver.Create", R"({"Name":"pg","Opts":{"size":"2G"}})")["Err"], "");
  EXPECT_NE(error_of("VolumeDriver.Get", R"({"Name":"size=3G,name=pg"})").find("no such volume"), std::string::npos);
  EXPECT_NE(error_of("VolumeDriver.Create", R"({"Name":"size=3G,name=pg"})").find("size"), std::string::npos);
}

TEST_F(Plugin, MountsByTheIdOfTheContainer) {
  call("VolumeDriver.Create", R"({"Name":"pg"})");
  EXPECT_EQ(call("VolumeDriver.Mount", R"({"Name":"pg","ID":"a"})")["Mountpoint"], "/mounts/pg");
  EXPECT_EQ(call("VolumeDriver.Path", R"({"Name":"pg"})")["Mountpoint"], "/mounts/pg");
  EXPECT_EQ(control_.volumes.at("pg").attachment->mounts.front().holder, "docker:a");
  EXPECT_EQ(call("VolumeDriver.Get", R"({"Name":"pg"})")["Volume"]["Status"]["mounted_by"][0], "docker:a");
  EXPECT_EQ(call("VolumeDriver.Unmount", R"({"Name":"pg","ID":"a"})")["Err"], "");
  EXPECT_FALSE(control_.volumes.at("pg").attachment.has_value());
  EXPECT_EQ(call("VolumeDriver.Unmount", R"({"Name":"gone","ID":"a"})")["Err"], "") << "repeated after a crash";
  EXPECT_EQ(call("VolumeDriver.Remove", R"({"Name":"gone"})")["Err"], "");
  EXPECT_NE(error_of("VolumeDriver.Mount", R"({"Name":"pg"})").find("ID"), std::string::npos);
  EXPECT_NE(error_of("VolumeDriver.Mount", R"({"Name":"nobody","ID":"a"})").find("nobody"), std::string::npos);
}

// Whatever its code: what was not unmounted is not said to be.
TEST_F(Plugin, NeverTurnsAFailedUnmountIntoSuccess) {
  call("VolumeDriver.Create", R"({"Name":"pg"})");
  call("VolumeDriver.Mount", R"({"Name":"pg","ID":"a"})");
  control_.next_error = Error(ErrorCode::kNotFound, "there is no replica of pg");
  EXPECT_NE(error_of("VolumeDriver.Unmount", R"({"Name":"pg","ID":"a"})").find("replica"),
            std::string::npos);
}

TEST_F(Plugin, RefusesWhatIsMalformedAndMakesNothing) {
  for (const char* body : {"{", "nonsense", "[]", "1", "null", "\"x\"", R"({"Name":1})", R"({"Name":null})",
                           R"({"Name":{"a":1}})", R"({"Name":"a","Opts":[]})", R"({"Name":"a","Opts":{"size":1}})",
                           R"({"Name":"a","Opts":"x"})", R"({"Name":"a","ID":7})", "{\"Name\":\"\xff\xfe\"}",
                           "{\"Name\":\"\xc3\x28\"}", R"({"Name":"\ud800"})", R"({"Name":""})", "{}", R"({"Name":"a"} x)",
                           R"({"Name":"name=a,size=-1"})", R"({"Name":"../etc"})", R"({"Name":"a b"})",
                           R"({"Name":"a","Opts":{"":"x"}})", R"({"Name":"a","Opts":{"name":"b"}})"}) {
    const std::string error = error_of("VolumeDriver.Create", body);
    EXPECT_LT(error.size(), 4096u) << body;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
  EXPECT_TRUE(control_.volumes.empty());
  EXPECT_NE(error_of("VolumeDriver.Explode", "{}").find("Explode"), std::string::npos);
  EXPECT_NE(error_of("", "{}").find("unknown"), std::string::npos);
  EXPECT_EQ(call("Plugin.Activate", "", "GET").value("Err", ""), "the plugin protocol uses POST");
  EXPECT_EQ(last_.status, 405);
}

TEST_F(Plugin, IsBounded) {
  json many = {{"Name", "a"}, {"Opts", json::object()}};
  for (int i = 0; i < 1000; ++i) many["Opts"]["k" + std::to_string(i)] = "v";
  EXPECT_NE(error_of("VolumeDriver.Create", many.dump()).find("too many"), std::string::npos);
  EXPECT_LT(error_of("VolumeDriver.Create", json{{"Name", std::string(900'000, 'x')}}.dump()).size(), 4096u);
  EXPECT_NE(error_of("VolumeDriver.Mount", json{{"Name", "a"}, {"ID", std::string(300, 'x')}}.dump()).find("ID"),
            std::string::npos);
  // Nested as deep as a body can be: no recursion.
  for (const char* open : {"[", "{\"a\":"}) {
    std::string deep;
    while (deep.size() < 1'000'000) deep += open;
    error_of("VolumeDriver.Create", deep);
  }
  const std::string closed = std::string(500'000, '[') + std::string(500'000, ']');
  EXPECT_NE(error_of("VolumeDriver.Create", closed).find("object"), std::string::npos);
  EXPECT_NE(error_of("VolumeDriver.Create", R"({"Name":"a","Opts":{"x":)" + closed + "}}").find("string"),
            std::string::npos);
}

TEST_F(Plugin, NeverRepeatsASecret) {
  const std::string error = error_of("VolumeDriver.Get", R"({"Name":"name=a,passphrase=hunter2"})") +
                            error_of("VolumeDriver.Create", R"({"Name":"name=a,passphrase=hunter2,fs=ntfs"})");
  EXPECT_EQ(error.find("hunter2"), std::string::npos) << error;
}

}  // namespace
}  // namespace hf::api
