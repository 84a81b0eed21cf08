#include "auth/trust_files.h"

#include <charconv>

#include "base/crc32c.h"

namespace hf::auth {
namespace {

constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxFileBytes = 256 * 1024;
constexpr uint32_t kOthers = 0077;  // permissions of group and others

uint32_t crc_of(std::string_view kind, uint32_t version, std::string_view body) {
  return crc32c_extend(crc32c(as_bytes(fmt::format("{} {}\n", kind, version))), as_bytes(body));
}

Error broken(std::string_view path, std::string_view why) {
  return make_error(ErrorCode::kCorruption,
                    "{} is damaged: {}; restore it from a backup, or join the cluster anew", path,
                    why);
}

template <typename T>
bool read_number(std::string_view text, int base, T* out) {
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, *out, base);
  return !text.empty() && parsed.ec == std::errc() && parsed.ptr == end;
}

}  // namespace

std::string seal_trust_file(std::string_view kind, std::string_view body) {
  return fmt::format("holdfast-{} {} {:08x}\n{}", kind, kVersion, crc_of(kind, kVersion, body),
                     body);
}

Result<std::string> open_trust_file(std::string_view path, std::string_view kind,
                                    std::string_view text) {
  const std::string head = fmt::format("holdfast-{} ", kind);
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  if (end == std::string_view::npos || !line.starts_with(head)) {
    return broken(path, "it does not begin with its kind");
  }
  const std::string_view body = text.substr(end + 1);
  const size_t blank = line.rfind(' ');
  uint32_t version = 0, crc = 0;
  if (blank < head.size() ||
      !read_number(line.substr(head.size(), blank - head.size()), 10, &version) ||
      line.size() - blank != 9 || !read_number(line.substr(blank + 1), 16, &crc) || version == 0) {
    return broken(path, "its first line is malformed");
  }
  if (crc != crc_of(kind, version, body)) return broken(path, "its checksum does not hold");
  if (version > kVersion) {
    return make_error(ErrorCode::kNewerFormat, "{} is of version {}, this daemon knows {}", path,
                      version, kVersion);
  }
  return std::string(body);
}

TrustFiles::TrustFiles(FileSystem& fs, const std::string& state_dir)
    : fs_(fs), parent_(state_dir), dir_(state_dir + "/trust") {}

Task<Status> TrustFiles::prepare() {
  Status made = co_await fs_.make_directory(dir_, 0700);
  if (!made.ok() && made.code() != ErrorCode::kAlreadyExists) co_return made.error();
  co_return co_await fs_.sync_dir(parent_);
}

Task<Result<std::optional<std::string>>> TrustFiles::read(std::string path, std::string kind) {
  using Found = std::optional<std::string>;
  Result<FileInfo> info = co_await fs_.stat(path);
  if (info.code() == ErrorCode::kNotFound) co_return Found();
  HF_CO_TRY(info);
  if ((info->mode & kOthers) != 0) {
    co_return make_error(ErrorCode::kPermissionDenied,
                         "{} may be read by others (mode {:o}): run chmod 600 on it, and join anew "
                         "if somebody has read it",
                         path, info->mode & 07777);
  }
  Result<std::string> text = co_await fs_.read_file(path, kMaxFileBytes);
  HF_CO_TRY(text);
  Result<std::string> body = open_trust_file(path, kind, *text);
  wipe(&*text);
  HF_CO_TRY(body);
  co_return Found(std::move(*body));
}

Task<Status> TrustFiles::write(std::string path, std::string kind, std::string body) {
  std::string text = seal_trust_file(kind, body);
  wipe(&body);
  Status written = co_await fs_.write_file_atomic(path, text, 0600);
  wipe(&text);
  co_return written;
}

Task<Result<std::optional<Credentials>>> TrustFiles::load() {
  using Found = std::optional<Credentials>;
  Result<std::optional<std::string>> node = co_await read(node_path(), "node");
  HF_CO_TRY(node);
  if (!node->has_value()) co_return Found();
  Credentials out;
  const Result<PrivateKey> key = PrivateKey::from_pem(**node);
  const Result<Certificate> certificate = Certificate::from_pem(**node);
  wipe(&**node);
  if (!key.ok()) co_return broken(node_path(), key.error().message());
  if (!certificate.ok()) co_return broken(node_path(), certificate.error().message());
  out.key = *key;
  out.certificate = *certificate;
  if (out.key.public_der() != out.certificate.public_der()) {
    co_return broken(node_path(), "its key does not belong to its certificate");
  }
  Result<std::optional<std::string>> ca = co_await read(ca_path(), "ca");
  HF_CO_TRY(ca);
  if (!ca->has_value()) co_return broken(ca_path(), "it is missing");
  const Result<CaBundle> bundle = CaBundle::from_pem(**ca);
  if (!bundle.ok()) co_return broken(ca_path(), bundle.error().message());
  out.bundle = *bundle;
  CheckOptions options;
  options.any_time = true;
  const Result<PeerIdentity> self =
      check_certificate(out.bundle, out.certificate, WallTime(), options);
  if (!self.ok()) co_return broken(node_path(), self.error().message());
  co_return Found(std::move(out));
}

Task<Status> TrustFiles::save(Credentials credentials) {
  Status authorities = co_await write(ca_path(), "ca", credentials.bundle.pem());
  HF_CO_TRY(authorities);
  std::string both = credentials.certificate.pem();
  std::string secret = credentials.key.pem();
  both += secret;
  wipe(&secret);
  co_return co_await write(node_path(), "node", std::move(both));
}

Task<Result<std::optional<Authority>>> TrustFiles::load_signer() {
  using Found = std::optional<Authority>;
  Result<std::optional<std::string>> text = co_await read(signer_path(), "signer");
  HF_CO_TRY(text);
  if (!text->has_value()) co_return Found();
  const Result<PrivateKey> key = PrivateKey::from_pem(**text);
  const Result<Certificate> certificate = Certificate::from_pem(**text);
  wipe(&**text);
  if (!key.ok()) co_return broken(signer_path(), key.error().message());
  if (!certificate.ok()) co_return broken(signer_path(), certificate.error().message());
  Result<Authority> authority = Authority::of(*certificate, *key);
  if (!authority.ok()) co_return broken(signer_path(), authority.error().message());
  co_return Found(std::move(*authority));
}

Task<Status> TrustFiles::save_signer(Authority authority) {
  std::string both = authority.certificate().pem();
  std::string secret = authority.key().pem();
  both += secret;
  wipe(&secret);
  co_return co_await write(signer_path(), "signer", std::move(both));
}

Task<Result<std::optional<PrivateKey>>> TrustFiles::load_joining(std::string token) {
  using Found = std::optional<PrivateKey>;
  Result<std::optional<std::string>> text = co_await read(joining_path(), "joining");
  HF_CO_TRY(text);
  if (!text->has_value() || !(*text)->starts_with(token + "\n")) co_return Found();
  const Result<PrivateKey> key = PrivateKey::from_pem(**text);
  wipe(&**text);
  if (!key.ok()) co_return broken(joining_path(), key.error().message());
  co_return Found(*key);
}

Task<Status> TrustFiles::save_joining(std::string token, PrivateKey key) {
  std::string body = token + "\n";
  std::string secret = key.pem();
  body += secret;
  wipe(&secret);
  co_return co_await write(joining_path(), "joining", std::move(body));
}

Task<Status> TrustFiles::forget_joining() {
  Status gone = co_await fs_.unlink(joining_path());
  if (!gone.ok() && gone.code() != ErrorCode::kNotFound) co_return gone.error();
  co_return co_await fs_.sync_dir(dir_);
}

}  // namespace hf::auth
