// How `docker volume inspect` shows a volume. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cluster/control.h"

namespace hf::api {

std::string docker_mountpoint(const cluster::VolumeInfo& volume);
// `client_name` is the string by which the client asked.
nlohmann::json docker_volume(const cluster::VolumeInfo& volume, const std::string& client_name);

}  // namespace hf::api
