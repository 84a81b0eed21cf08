// Inside of TlsStream: OpenSSL's state machine, the buffers between it and the stream below. Shared
// by the stream and by the task that says its farewell.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "auth/tls.h"

namespace hf::auth {

class TlsCore : public ListHook {
 public:
  TlsCore(TlsEndpoint& endpoint, SSL_CTX* context, std::unique_ptr<Stream> inner, bool server,
          std::optional<NodeId> expected);
  ~TlsCore();
  TlsCore(const TlsCore&) = delete;
  TlsCore& operator=(const TlsCore&) = delete;

  Task<Status> handshake();
  Task<Result<size_t>> read_some(MutableByteSpan out);
  Task<Status> write_all(std::span<const ByteSpan> segments);
  // Ends it now, with this error for whoever waits and comes later.
  void abort(Error why);
  // Puts the closing message into the buffer; false if there is nobody to say it to.
  bool begin_farewell();
  Task<void> farewell();

  Stream& inner() { return *inner_; }
  const std::string& peer() const { return peer_; }
  const std::optional<PeerIdentity>& identity() const { return identity_; }
  const std::optional<NodeId>& expected() const { return expected_; }
  TlsEndpoint& endpoint() { return endpoint_; }
  // By the check of the peer's certificate, inside the handshake.
  void found(PeerIdentity identity, Certificate certificate) {
    identity_ = identity;
    certificate_ = std::move(certificate);
  }
  const Certificate& certificate() const { return certificate_; }
  void refused(Error why) { refusal_.emplace(std::move(why)); }
  void unlist() {
    if (is_linked()) unlink();
  }

 private:
  static int bio_read(BIO* bio, char* out, int size);
  static int bio_write(BIO* bio, const char* data, int size);
  static long bio_control(BIO* bio, int command, long number, void* pointer);
  static const BIO_METHOD* bio_method();

  Status encrypt(ByteSpan plain);
  Task<Status> flush();
  Task<Status> fill();
  Error failure(const char* what, int ssl_error);
  Error why_ended() const;

  TlsEndpoint& endpoint_;
  std::unique_ptr<Stream> inner_;
  Owned<SSL> ssl_;
  std::string peer_;
  const std::optional<NodeId> expected_;
  std::optional<PeerIdentity> identity_;
  Certificate certificate_;
  std::optional<Error> refusal_;  // of the peer, by us
  std::optional<Error> ended_;    // by us or by a failure: nothing works any more

  std::unique_ptr<std::byte[]> in_;
  size_t in_at_ = 0, in_end_ = 0;
  bool in_ended_ = false;
  std::vector<std::byte> out_, sending_;
  std::vector<std::byte> gather_;
  uint64_t records_ = 0;  // sent under the present key
  bool shaken_ = false;
  bool reading_ = false, writing_ = false;
};

}  // namespace hf::auth
