#include "state/etcd/options.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace hf::state {
namespace {

bool is_host(std::string_view host) {
  return !host.empty() && host.size() <= 253 &&
         std::all_of(host.begin(), host.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
         });
}

bool is_v6(std::string_view host) {
  return host.size() >= 2 && host.size() <= 45 &&
         std::all_of(host.begin(), host.end(),
                     [](unsigned char c) { return std::isxdigit(c) != 0 || c == ':' || c == '.'; });
}

bool is_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), port);
  return wrong == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

// With its port. Empty: malformed.
std::string with_port(std::string_view endpoint) {
  const std::string port = ":" + std::to_string(kEtcdPort);
  if (endpoint.starts_with('[')) {
    const size_t close = endpoint.find(']');
    if (close == std::string_view::npos || !is_v6(endpoint.substr(1, close - 1))) return "";
    const std::string_view rest = endpoint.substr(close + 1);
    if (rest.empty()) return std::string(endpoint) + port;
    return rest[0] == ':' && is_port(rest.substr(1)) ? std::string(endpoint) : "";
  }
  const size_t colon = endpoint.find(':');
  if (!is_host(endpoint.substr(0, colon))) return "";
  if (colon == std::string_view::npos) return std::string(endpoint) + port;
  return is_port(endpoint.substr(colon + 1)) ? std::string(endpoint) : "";
}

Status check_endpoints(const std::vector<std::string>& endpoints) {
  if (endpoints.empty() || endpoints.size() > kMaxEtcdEndpoints) {
    return make_error(ErrorCode::kInvalidArgument, "etcd: {} endpoints, give 1 to {}",
                      endpoints.size(), kMaxEtcdEndpoints);
  }
  std::set<std::string> seen;
  for (const std::string& endpoint : endpoints) {
    if (with_port(endpoint) != endpoint) {
      return make_error(ErrorCode::kInvalidArgument,
                        "etcd endpoint \"{}\": give host:port or [IPv6]:port", endpoint);
    }
    if (!seen.insert(endpoint).second) {
      return make_error(ErrorCode::kInvalidArgument, "etcd endpoint {} is named twice", endpoint);
    }
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> parse_etcd_url(std::string_view url, bool* tls) {
  constexpr std::string_view kPlain = "etcd://";
  constexpr std::string_view kTls = "etcd+tls://";
  *tls = url.starts_with(kTls);
  if (!*tls && !url.starts_with(kPlain)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "\"{}\": give etcd://host[:port],… or etcd+tls://host[:port],…", url);
  }
  std::string_view rest = url.substr(*tls ? kTls.size() : kPlain.size());
  std::vector<std::string> endpoints;
  while (endpoints.size() <= kMaxEtcdEndpoints) {
    const size_t comma = rest.find(',');
    const std::string_view one = rest.substr(0, comma);
    std::string endpoint = with_port(one);
    if (endpoint.empty()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "\"{}\": \"{}\" is no host, host:port or [IPv6]:port", url, one);
    }
    endpoints.push_back(std::move(endpoint));
    if (comma == std::string_view::npos) break;
    rest = rest.substr(comma + 1);
  }
  HF_TRY(check_endpoints(endpoints));
  return endpoints;
}

std::string etcd_prefix(std::string_view cluster_id) {
  return fmt::format("holdfast-{}/", cluster_id);
}

Status check_etcd_options(const EtcdOptions& options) {
  HF_TRY(check_endpoints(options.endpoints));
  if (options.prefix.size() < 2 || options.prefix.size() > kMaxEtcdPrefix ||
      options.prefix.back() != '/') {
    return make_error(ErrorCode::kInvalidArgument,
                      "etcd prefix \"{}\": give 2 to {} bytes that end in '/'", options.prefix,
                      kMaxEtcdPrefix);
  }
  if (options.cert_file.empty() != options.key_file.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "etcd: give the client's certificate and its key, or neither");
  }
  if (options.ca_file.empty() && !options.cert_file.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "etcd: a client certificate without the authority's certificate (CA): it "
                      "would be shown to anyone");
  }
  if (options.user.empty() != options.password_file.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "etcd: give the user and the file of its password, or neither");
  }
  const Duration ms = std::chrono::milliseconds(10);
  if (options.attempt_timeout < ms || options.call_timeout < options.attempt_timeout ||
      options.call_timeout > std::chrono::minutes(1) || options.probe_every < ms) {
    return make_error(ErrorCode::kInvalidArgument,
                      "etcd: timeouts must be 10 ms or more, an operation's not below an attempt's "
                      "and at most a minute");
  }
  return {};
}

}  // namespace hf::state
