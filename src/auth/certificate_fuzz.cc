// Arbitrary bytes as what we parse of certificates: 'c' a certificate (DER) and its fields, 'p' PEM
// (bundle, key, file head), 'q' a request, 'n' a name, 'k', 't', 'N', 'o' records of the state
// store.
#include <cstdint>
#include <string_view>

#include "auth/records.h"
#include "auth/trust_files.h"
#include "base/assert.h"

namespace {

using namespace hf;        // NOLINT: a fuzzer's main file
using namespace hf::auth;  // NOLINT

void certificate(ByteSpan der) {
  const Result<Certificate> read = Certificate::from_der(der);
  if (!read.ok()) return;
  (void)read->identity();
  (void)read->authority_of();
  (void)read->serial();
  (void)read->not_before();
  (void)read->not_after();
  (void)read->public_der();
  (void)read->fingerprint();
  for (const std::string& name : read->names()) HF_ASSERT(name.find(':') != std::string::npos);
  const Result<CaBundle> bundle = CaBundle::of({*read});
  if (bundle.ok()) (void)check_certificate(*bundle, *read, WallTime());
}

void pem(std::string_view text) {
  const Result<CaBundle> bundle = CaBundle::from_pem(text);
  if (bundle.ok()) HF_ASSERT(CaBundle::from_pem(bundle->pem())->pem() == bundle->pem());
  (void)PrivateKey::from_pem(text);
  const Result<std::string> body = open_trust_file("file", "node", text);
  if (body.ok()) (void)PrivateKey::from_pem(*body);
}

void name(std::string_view text) {
  const Result<std::string> canonical = canonical_name(text);
  if (canonical.ok()) HF_ASSERT(canonical_name(*canonical).value() == *canonical, "{}", *canonical);
}

template <typename Record>
void record(std::string_view text) {
  const Result<Record> read = decode_record<Record>("some/key", text);
  if (!read.ok()) return;
  const std::string again = encode_record(*read);
  HF_ASSERT(encode_record(decode_record<Record>("some/key", again).value()) == again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'c':
      certificate(as_bytes(text));
      break;
    case 'p':
      pem(text);
      break;
    case 'q':
      (void)key_of_request(as_bytes(text));
      break;
    case 'n':
      name(text);
      break;
    case 'k':
      record<CaRecord>(text);
      break;
    case 't':
      record<TokenRecord>(text);
      break;
    case 'N':
      record<NodeRecord>(text);
      break;
    case 'o':
      record<NameOwner>(text);
      break;
    default:
      break;
  }
  return 0;
}
