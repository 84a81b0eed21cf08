// Anything as a body of the Docker plugin, and anything as the name of a volume in it.
//
// First byte: which call, and (its high bit) whether the rest is the body, or a Name and options put into one.
// Checked: no crash; the answer is a JSON object whose Err is one bounded line; List and Activate always work.
#include <nlohmann/json.hpp>

#include "api/docker/plugin.h"
#include "api/testing/fake_control.h"
#include "base/log.h"

namespace {

using namespace hf;       // NOLINT: a fuzzer's main file
using namespace hf::api;  // NOLINT

constexpr const char* kMethods[] = {"VolumeDriver.Create", "VolumeDriver.Get",     "VolumeDriver.Mount",
                                    "VolumeDriver.Unmount", "VolumeDriver.Remove", "VolumeDriver.Path",
                                    "VolumeDriver.List",   "Plugin.Activate"};
constexpr size_t kMaxErrorBytes = 16 * 1024;

nlohmann::json ask(DockerPlugin& plugin, const char* method, const std::string& body) {
  HttpRequest request;
  request.method = "POST";
  request.target = std::string("/") + method;
  request.body = body;
  const HttpResponse response = plugin.handle(request);
  HF_ASSERT(response.status == 200);
  nlohmann::json answer = nlohmann::json::parse(response.body, nullptr, false);
  HF_ASSERT(answer.is_object(), "{}", response.body);
  const std::string error = answer.value("Err", "");
  HF_ASSERT(error.size() <= kMaxErrorBytes, "error of {} bytes", error.size());
  HF_ASSERT(error.find('\n') == std::string::npos, "{}", error);
  return answer;
}

// "name\nkey=value\n…" as a client would send it.
std::string body_of(std::string_view text) {
  nlohmann::json body = {{"ID", "id"}, {"Opts", nlohmann::json::object()}};
  const size_t end = text.find('\n');
  body["Name"] = std::string(text.substr(0, end));
  while (end != std::string_view::npos && !text.empty()) {
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
    const std::string_view line = text.substr(0, text.find('\n'));
    if (const size_t equals = line.find('='); equals != std::string_view::npos) {
      body["Opts"][std::string(line.substr(0, equals))] = std::string(line.substr(equals + 1));
    }
    if (text.find('\n') == std::string_view::npos) break;
  }
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 256 * 1024) return 0;
  static const bool quiet = (set_log_level(LogLevel::kOff), true);
  (void)quiet;
  InlineLoop loop;
  Gate gate;
  FakeControl control;
  LoopBridge bridge(loop, gate);
  DockerPlugin plugin(control, bridge, "local");
  ask(plugin, kMethods[0], R"({"Name":"there","Opts":{"size":"2G"}})");
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const char* method = kMethods[data[0] & 7];
  const std::string body = (data[0] & 0x80) != 0 ? body_of(text) : std::string(text);
  const nlohmann::json first = ask(plugin, method, body);
  if ((data[0] & 7) == 0 && first.value("Err", "").empty()) {
    HF_ASSERT(ask(plugin, kMethods[0], body).value("Err", "").empty(), "created once, refused the second time");
    const nlohmann::json got = ask(plugin, kMethods[1], body);
    HF_ASSERT(got.value("Err", "").empty(), "{}", got.dump());
    HF_ASSERT(got["Volume"]["Name"] == nlohmann::json::parse(body)["Name"]);
  }
  HF_ASSERT(ask(plugin, "VolumeDriver.List", "").contains("Volumes"));
  return 0;
}
