// The handshake of one connection, as a pure decision: bytes of an option in, bytes to answer out.
// The session (nbd_server.cc) does the reading and writing.
//
//   greeting → client flags → option, option, … → transmission, or the end
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/nbd/nbd_protocol.h"

namespace hf::nbd {

// What a client is told of an export.
struct ExportFacts {
  ExportFacts() = default;
  std::string name;
  std::string description;
  uint64_t size = 0;  // bytes
  bool read_only = false;
};

class ExportCatalogue {
 public:
  virtual ~ExportCatalogue() = default;
  // The empty name is the default export: the only one, where there is one only. kNotFound; any
  // other error is a refusal that the client is told the reason of.
  virtual Result<ExportFacts> find(std::string_view name) const = 0;
  virtual void for_each(const std::function<void(const ExportFacts&)>& visit) const = 0;
};

// The export that an option is about; none for other options, and where the option is malformed.
std::optional<std::string> named_export(uint32_t option, ByteSpan data);
// Whether the transmission begins with this option, if it is granted.
bool enters_transmission(uint32_t option);

class Negotiation {
 public:
  // A client that has not come to an end after so many options plays with us.
  static constexpr uint32_t kOptionsMax = 256;

  enum class Step : uint8_t { kContinue, kTransmit, kEnd };

  explicit Negotiation(const ExportCatalogue& exports) : exports_(exports) {}

  // kProtocol for flags that we did not offer.
  Status client_flags(uint32_t flags);
  // Appends the answer, which is to be sent before anything else happens. kProtocol where the
  // protocol has no other answer than to close.
  Result<Step> option(uint32_t option, ByteSpan data, std::vector<std::byte>* out);

  // After kTransmit: what was agreed on.
  const std::string& export_name() const { return export_name_; }
  bool structured() const { return structured_; }
  // base:allocation was selected, for the very export that was then chosen.
  bool allocation() const { return allocation_ && meta_export_ == export_name_; }

 private:
  Result<Step> export_name(ByteSpan data, std::vector<std::byte>* out);
  Step list(ByteSpan data, std::vector<std::byte>* out) const;
  Step info(uint32_t option, ByteSpan data, std::vector<std::byte>* out);
  Step structured_reply(ByteSpan data, std::vector<std::byte>* out);
  Step meta_context(uint32_t option, ByteSpan data, std::vector<std::byte>* out);
  void send_info(uint32_t option, const InfoRequest& request, const ExportFacts& facts,
                 std::vector<std::byte>* out) const;

  const ExportCatalogue& exports_;
  uint32_t options_ = 0;
  bool no_zeroes_ = false;
  bool structured_ = false;
  bool allocation_ = false;
  std::string meta_export_;  // canonical name
  std::string export_name_;  // canonical name
};

}  // namespace hf::nbd
