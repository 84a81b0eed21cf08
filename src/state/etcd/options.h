// Where an etcd is and how to talk to it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "runtime/clock.h"

namespace hf::state {

inline constexpr size_t kMaxEtcdEndpoints = 9;
inline constexpr size_t kMaxEtcdPrefix = 64;
inline constexpr size_t kMaxEtcdSecretBytes = 64 * 1024;  // a certificate, key or password file
inline constexpr uint16_t kEtcdPort = 2379;

struct EtcdOptions {
  EtcdOptions() = default;

  std::vector<std::string> endpoints;  // "host:port", "[v6]:port"; the first that serves is used
  // Goes before every key, ends in '/': one etcd may serve several clusters and other users.
  std::string prefix;

  // EtcdStore::etcd_id() of the etcd that was used before: endpoints of another one are never used.
  // 0: the one whose endpoint answers first.
  uint64_t expect_etcd = 0;

  // TLS wherever ca_file is given; then the server must show a certificate of that authority for
  // the name or address in `endpoints`. The client's own certificate and key: both or neither.
  std::string ca_file;
  std::string cert_file;
  std::string key_file;

  // With a user, every call carries a token, renewed when the server no longer knows it. The
  // password is the first line of the file.
  std::string user;
  std::string password_file;

  Duration attempt_timeout = std::chrono::seconds(1);  // one request at one endpoint
  Duration call_timeout = std::chrono::seconds(3);     // one operation with all its attempts
  Duration probe_every = std::chrono::seconds(1);      // health of each endpoint
};

// "etcd://a,b:2379,[fd00::1]:2379" or "etcd+tls://…" → endpoints with ports; kInvalidArgument says
// what is wrong. `*tls` tells which of the two it was.
Result<std::vector<std::string>> parse_etcd_url(std::string_view url, bool* tls);
// The prefix of one Holdfast cluster in etcd.
std::string etcd_prefix(std::string_view cluster_id);
// kInvalidArgument names the option.
Status check_etcd_options(const EtcdOptions& options);

}  // namespace hf::state
