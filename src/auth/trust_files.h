// What a node keeps of its trust on its own disk, below <state_dir>/trust (mode 0700, files 0600):
//
//   ca.pem       the CAs that it accepts
//   node.pem     its key and its certificate, in one file so that they change together
//   signer.pem   key and certificate of the CA, only on nodes that sign
//   joining.pem  the key that it joins with, until it has
//
// PEM, because etcd reads the same files; text before a PEM block is a comment, and the first line
// of each holds kind, version and CRC32C of the rest (docs/formats/trust.md). Written whole,
// atomically and durably.
//
// Errors, all naming the file: kCorruption (damaged, or key and certificate do not belong
// together), kNewerFormat, kPermissionDenied (others may read it), and those of the file system.
#pragma once

#include <optional>
#include <string>

#include "auth/tls.h"
#include "runtime/file.h"

namespace hf::auth {

class TrustFiles {
 public:
  TrustFiles(FileSystem& fs, const std::string& state_dir);

  // Makes the folder, durably.
  Task<Status> prepare();

  // Nothing where this node has not joined yet. The certificate is one of the bundle's cluster;
  // whether its time has come or gone is for others to judge.
  Task<Result<std::optional<Credentials>>> load();
  // node.pem last: who has it has joined.
  Task<Status> save(Credentials credentials);

  Task<Result<std::optional<Authority>>> load_signer();
  Task<Status> save_signer(Authority authority);

  // The key that this token was tried with before, if it was.
  Task<Result<std::optional<PrivateKey>>> load_joining(std::string token);
  Task<Status> save_joining(std::string token, PrivateKey key);
  Task<Status> forget_joining();

  std::string ca_path() const { return dir_ + "/ca.pem"; }
  std::string node_path() const { return dir_ + "/node.pem"; }
  std::string signer_path() const { return dir_ + "/signer.pem"; }
  // What is revoked, for etcd: made anew from the records (Authority::revocation_list_pem). Without a
  // first line of ours, which etcd would not read.
  std::string revoked_path() const { return dir_ + "/revoked.crl"; }
  std::string joining_path() const { return dir_ + "/joining.pem"; }

 private:
  Task<Result<std::optional<std::string>>> read(std::string path, std::string kind);
  Task<Status> write(std::string path, std::string kind, std::string body);

  FileSystem& fs_;
  const std::string parent_;
  const std::string dir_;
};

// The first line and back; pure. `path` names it in errors.
std::string seal_trust_file(std::string_view kind, std::string_view body);
Result<std::string> open_trust_file(std::string_view path, std::string_view kind,
                                    std::string_view text);

}  // namespace hf::auth
