#include "block/nbd/nbd_negotiation.h"

namespace hf::nbd {
namespace {

constexpr size_t kReservedZeroes = 124;  // behind the answer to EXPORT_NAME, unless agreed away

std::string_view text_of(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void refuse(uint32_t option, OptionReply type, std::string_view why, std::vector<std::byte>* out) {
  append_option_reply(out, option, type, as_bytes(why));
}

void acknowledge(uint32_t option, std::vector<std::byte>* out) {
  append_option_reply(out, option, OptionReply::kAck, ByteSpan());
}

// Does this query ask for base:allocation? "base:" is a wildcard only for a list.
bool selects_allocation(std::string_view query, bool listing) {
  return query == kAllocationContext || (listing && query == "base:");
}

// Why an export is not to be had, as an answer to `option`.
void refuse_export(uint32_t option, const Error& error, std::vector<std::byte>* out) {
  if (error.code() == ErrorCode::kNotFound) {
    refuse(option, OptionReply::kUnknownExport, "there is no export of that name", out);
  } else {
    refuse(option, OptionReply::kPolicy, error.message().substr(0, kStringMax), out);
  }
}

}  // namespace

std::optional<std::string> named_export(uint32_t option, ByteSpan data) {
  switch (static_cast<Option>(option)) {
    case Option::kExportName:
      if (!is_valid_text(data)) return std::nullopt;
      return std::string(text_of(data));
    case Option::kInfo:
    case Option::kGo: {
      const Result<InfoRequest> request = decode_info_request(data);
      if (!request.ok()) return std::nullopt;
      return std::string(request->name);
    }
    case Option::kListMetaContext:
    case Option::kSetMetaContext: {
      const Result<MetaRequest> request = decode_meta_request(data);
      if (!request.ok()) return std::nullopt;
      return std::string(request->export_name);
    }
    default:
      return std::nullopt;
  }
}

bool enters_transmission(uint32_t option) {
  return static_cast<Option>(option) == Option::kGo ||
         static_cast<Option>(option) == Option::kExportName;
}

Status Negotiation::client_flags(uint32_t flags) {
  if ((flags & ~uint32_t{kFixedNewstyle | kNoZeroes}) != 0) {
    return make_error(ErrorCode::kProtocol, "client flags {:#x}, of which we offered 3 only",
                      flags);
  }
  no_zeroes_ = (flags & kNoZeroes) != 0;
  return Status();
}

Result<Negotiation::Step> Negotiation::option(uint32_t option, ByteSpan data,
                                              std::vector<std::byte>* out) {
  if (++options_ > kOptionsMax) {
    return make_error(ErrorCode::kProtocol, "more than {} options", kOptionsMax);
  }
  switch (static_cast<Option>(option)) {
    case Option::kExportName:
      return export_name(data, out);
    case Option::kAbort:
      acknowledge(option, out);
      return Step::kEnd;
    case Option::kList:
      return list(data, out);
    case Option::kInfo:
    case Option::kGo:
      return info(option, data, out);
    case Option::kStructuredReply:
      return structured_reply(data, out);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      return meta_context(option, data, out);
  }
  refuse(option, OptionReply::kUnsupported, "this server does not know the option", out);
  return Step::kContinue;
}

Result<Negotiation::Step> Negotiation::export_name(ByteSpan data, std::vector<std::byte>* out) {
  if (!is_valid_text(data)) {
    return make_error(ErrorCode::kProtocol, "an export name of {} bytes, or with a NUL",
                      data.size());
  }
  const Result<ExportFacts> facts = exports_.find(text_of(data));
  HF_TRY(facts);  // this option knows no refusal
  export_name_ = facts->name;
  Out o(out);
  o.u64(facts->size);
  o.u16(transmission_flags(facts->read_only, structured_));
  if (!no_zeroes_) out->resize(out->size() + kReservedZeroes);
  return Step::kTransmit;
}

Negotiation::Step Negotiation::list(ByteSpan data, std::vector<std::byte>* out) const {
  const auto option = static_cast<uint32_t>(Option::kList);
  if (!data.empty()) {
    refuse(option, OptionReply::kInvalid, "LIST takes no data", out);
    return Step::kContinue;
  }
  exports_.for_each([&](const ExportFacts& facts) {
    std::vector<std::byte> payload;
    Out o(&payload);
    o.u32(static_cast<uint32_t>(facts.name.size()));
    o.text(facts.name);
    o.text(facts.description);
    append_option_reply(out, option, OptionReply::kServer, payload);
  });
  acknowledge(option, out);
  return Step::kContinue;
}

void Negotiation::send_info(uint32_t option, const InfoRequest& request, const ExportFacts& facts,
                            std::vector<std::byte>* out) const {
  const auto send = [&](const std::vector<std::byte>& payload) {
    append_option_reply(out, option, OptionReply::kInfo, payload);
  };
  std::vector<std::byte> what;
  Out o(&what);
  o.u16(static_cast<uint16_t>(Info::kExport));
  o.u64(facts.size);
  o.u16(transmission_flags(facts.read_only, structured_));
  send(what);
  // Sent without being asked for, too: it says what is efficient.
  what.clear();
  o.u16(static_cast<uint16_t>(Info::kBlockSize));
  o.u32(kMinBlock);
  o.u32(kPreferredBlock);
  o.u32(kMaxPayload);
  send(what);
  if (request.wants_name || request.name != facts.name) {
    what.clear();
    o.u16(static_cast<uint16_t>(Info::kName));
    o.text(facts.name);
    send(what);
  }
  if (request.wants_description && !facts.description.empty()) {
    what.clear();
    o.u16(static_cast<uint16_t>(Info::kDescription));
    o.text(facts.description);
    send(what);
  }
}

Negotiation::Step Negotiation::info(uint32_t option, ByteSpan data, std::vector<std::byte>* out) {
  const Result<InfoRequest> request = decode_info_request(data);
  if (!request.ok()) {
    refuse(option, OptionReply::kInvalid, request.error().message(), out);
    return Step::kContinue;
  }
  const Result<ExportFacts> facts = exports_.find(request->name);
  if (!facts.ok()) {
    refuse_export(option, facts.error(), out);
    return Step::kContinue;
  }
  send_info(option, *request, *facts, out);
  acknowledge(option, out);
  if (static_cast<Option>(option) == Option::kInfo) return Step::kContinue;
  export_name_ = facts->name;
  return Step::kTransmit;
}

Negotiation::Step Negotiation::structured_reply(ByteSpan data, std::vector<std::byte>* out) {
  const auto option = static_cast<uint32_t>(Option::kStructuredReply);
  if (!data.empty()) {
    refuse(option, OptionReply::kInvalid, "STRUCTURED_REPLY takes no data", out);
  } else {
    structured_ = true;
    acknowledge(option, out);
  }
  return Step::kContinue;
}

Negotiation::Step Negotiation::meta_context(uint32_t option, ByteSpan data,
                                            std::vector<std::byte>* out) {
  const bool listing = static_cast<Option>(option) == Option::kListMetaContext;
  if (!listing) allocation_ = false;  // replaces what was selected, even where it fails
  if (!structured_) {
    refuse(option, OptionReply::kInvalid, "structured replies must be agreed on first", out);
    return Step::kContinue;
  }
  const Result<MetaRequest> request = decode_meta_request(data);
  if (!request.ok()) {
    refuse(
        option,
        request.code() == ErrorCode::kLimitExceeded ? OptionReply::kTooBig : OptionReply::kInvalid,
        request.error().message(), out);
    return Step::kContinue;
  }
  const Result<ExportFacts> facts = exports_.find(request->export_name);
  if (!facts.ok()) {
    refuse_export(option, facts.error(), out);
    return Step::kContinue;
  }
  bool selected = listing && request->queries.empty();
  for (const std::string_view query : request->queries) {
    selected = selected || selects_allocation(query, listing);
  }
  if (selected) {
    std::vector<std::byte> payload;
    Out o(&payload);
    o.u32(listing ? 0 : kAllocationContextId);
    o.text(kAllocationContext);
    append_option_reply(out, option, OptionReply::kMetaContext, payload);
  }
  if (!listing) {
    allocation_ = selected;
    meta_export_ = facts->name;
  }
  acknowledge(option, out);
  return Step::kContinue;
}

}  // namespace hf::nbd
