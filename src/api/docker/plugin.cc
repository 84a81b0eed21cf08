#include "api/docker/plugin.h"

#include <map>
#include <nlohmann/json.hpp>

#include "api/docker/volume_json.h"
#include "base/log.h"
#include "volume/spec/inline_parser.h"
#include "volume/spec/reuse.h"

namespace hf::api {

using nlohmann::json;

struct DockerPlugin::Call {
  std::string method;  // "VolumeDriver.Create"
  std::string name;    // as the client gave it
  std::string id;      // of Mount and Unmount
  spec::OptionMap options;
};

namespace {

constexpr size_t kMaxMountIdBytes = 256;

std::string reply_error(const std::string& sentence) {
  return json{{"Err", sentence}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string reply(json body) {
  body["Err"] = "";
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

Error bad_request(std::string_view what) {
  return make_error(ErrorCode::kInvalidArgument, "malformed plugin request: {}", what);
}

// The fields of all calls. Unknown ones are ignored, as newer engines may send more.
Status read_fields(const json& body, std::string* name, std::string* id, spec::OptionMap* options) {
  if (!body.is_object()) return bad_request("the body is not a JSON object");
  if (auto it = body.find("Name"); it != body.end()) {
    if (!it->is_string()) return bad_request("Name is not a string");
    *name = it->get<std::string>();
  }
  if (auto it = body.find("ID"); it != body.end()) {
    if (!it->is_string()) return bad_request("ID is not a string");
    *id = it->get<std::string>();
    if (id->size() > kMaxMountIdBytes) return bad_request("ID is too long");
  }
  if (auto it = body.find("Opts"); it != body.end() && !it->is_null()) {
    if (!it->is_object()) return bad_request("Opts is not an object");
    if (it->size() > spec::kMaxOptions) return bad_request("too many Opts");
    for (const auto& [key, value] : it->items()) {
      if (!value.is_string()) return bad_request("an option is not a string");
      (*options)[key] = value.get<std::string>();
    }
  }
  return {};
}

}  // namespace

HttpResponse DockerPlugin::handle(const HttpRequest& request) {
  HttpResponse response;
  response.content_type = "application/vnd.docker.plugins.v1.2+json";
  Call call;
  call.method = request.target.empty() ? "" : request.target.substr(1);
  if (request.method != "POST") {
    response.status = 405;
    response.body = reply_error("the plugin protocol uses POST");
    return response;
  }
  const json body = request.body.empty() ? json::object()
                                         : json::parse(request.body, nullptr, false);
  Status fields = body.is_discarded() ? Status(bad_request("the body is not JSON"))
                                      : read_fields(body, &call.name, &call.id, &call.options);
  Result<std::string> answer =
      fields.ok() ? dispatch(call) : Result<std::string>(fields.error());
  if (answer.ok()) {
    response.body = std::move(*answer);
    return response;
  }
  HF_LOG(kInfo, "api", "docker_call method={} name=\"{}\" error={}", call.method.substr(0, 64),
         spec::redact_inline(call.name), answer.error().info().name);
  response.body = reply_error(answer.error().message());
  return response;
}

Result<std::string> DockerPlugin::dispatch(const Call& call) {
  if (call.method == "Plugin.Activate") return json{{"Implements", {"VolumeDriver"}}}.dump();
  if (call.method == "VolumeDriver.Capabilities") {
    return json{{"Capabilities", {{"Scope", scope_}}}}.dump();
  }
  if (call.method == "VolumeDriver.List") return list();
  if (call.method == "VolumeDriver.Create") return create(call);
  if (call.method == "VolumeDriver.Remove") return remove(call);
  if (call.method == "VolumeDriver.Mount") return mount(call);
  if (call.method == "VolumeDriver.Unmount") return unmount(call);
  if (call.method == "VolumeDriver.Path") return path(call);
  if (call.method == "VolumeDriver.Get") return get(call);
  return make_error(ErrorCode::kNotSupported, "unknown plugin call {}", call.method.substr(0, 64));
}

Result<std::string> DockerPlugin::create(const Call& call) {
  Result<VolumeSpec> parsed = spec::parse_options(call.name, call.options);
  HF_TRY(parsed);
  for (const std::string& warning : spec::spec_warnings(*parsed)) {
    HF_LOG(kWarn, "api", "spec_warning name={} warning=\"{}\"", parsed->name, warning);
  }
  cluster::CreateVolume request;
  request.name = parsed->name;
  request.spec = std::move(*parsed);
  HF_TRY(bridge_.call<cluster::VolumeInfo>(
      [this, request] { return control_.create_volume(request); }));
  return reply(json::object());
}

Result<std::string> DockerPlugin::remove(const Call& call) {
  Result<spec::ParsedName> parsed = spec::parse_volume_name(call.name);
  HF_TRY(parsed);
  cluster::DeleteVolume request;
  request.name = parsed->spec.name;
  request.missing_ok = true;
  HF_TRY(bridge_.call<void>([this, request] { return control_.delete_volume(request); }));
  return reply(json::object());
}

Result<std::string> DockerPlugin::mount(const Call& call) {
  if (call.id.empty()) return bad_request("Mount without an ID");
  Result<cluster::VolumeInfo> volume = find(call.name);
  HF_TRY(volume);
  cluster::MountVolume request;
  request.name = volume->name;
  request.holder = "docker:" + call.id;
  Result<cluster::MountInfo> mounted = bridge_.call<cluster::MountInfo>(
      [this, request] { return control_.mount_volume(request); });
  HF_TRY(mounted);
  return reply({{"Mountpoint", mounted->path}});
}

Result<std::string> DockerPlugin::unmount(const Call& call) {
  if (call.id.empty()) return bad_request("Unmount without an ID");
  Result<spec::ParsedName> parsed = spec::parse_volume_name(call.name);
  HF_TRY(parsed);
  cluster::UnmountVolume request;
  request.name = parsed->spec.name;
  request.holder = "docker:" + call.id;
  // Docker repeats the call after crashes, also for volumes that are gone: the control plane
  // answers that with success. Nothing else is one.
  HF_TRY(bridge_.call<void>([this, request] { return control_.unmount_volume(request); }));
  return reply(json::object());
}

Result<cluster::VolumeInfo> DockerPlugin::find(const std::string& client_name) {
  const Error not_found = make_error(ErrorCode::kNotFound, "no such volume: {}",
                                     spec::redact_inline(client_name));
  Result<spec::ParsedName> parsed = spec::parse_volume_name(client_name);
  // Not a name that a volume could have. Create tells what is wrong with it; Get must let Docker get there.
  if (!parsed.ok()) return not_found;
  const std::string name = parsed->spec.name;
  Result<cluster::VolumeInfo> volume = bridge_.call<cluster::VolumeInfo>(
      [this, name] { return control_.inspect_volume(name); });
  if (!volume.ok()) return volume.code() == ErrorCode::kNotFound ? not_found : volume.error();
  if (parsed->is_inline) {
    Result<spec::SpecDecision> same =
        spec::compare_for_reuse(volume->created_spec, volume->spec, parsed->spec);
    if (!same.ok() || same->kind != spec::SpecDecision::Kind::kSame) return not_found;
  }
  return volume;
}

Result<std::string> DockerPlugin::path(const Call& call) {
  Result<cluster::VolumeInfo> volume = find(call.name);
  HF_TRY(volume);
  return reply({{"Mountpoint", docker_mountpoint(*volume)}});
}

Result<std::string> DockerPlugin::get(const Call& call) {
  Result<cluster::VolumeInfo> volume = find(call.name);
  HF_TRY(volume);
  return reply({{"Volume", docker_volume(*volume, call.name)}});
}

Result<std::string> DockerPlugin::list() {
  auto volumes = bridge_.call<std::vector<cluster::VolumeInfo>>(
      [this] { return control_.list_volumes(); });
  HF_TRY(volumes);
  json all = json::array();
  for (const cluster::VolumeInfo& volume : *volumes) {
    all.push_back({{"Name", volume.name}, {"Mountpoint", docker_mountpoint(volume)}});
  }
  return reply({{"Volumes", std::move(all)}});
}

}  // namespace hf::api
