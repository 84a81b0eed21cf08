// Bytes of a client in the handshake: 4 of flags, then options. Nothing breaks, every answer is
// well formed and of a bounded size.
#include <cstdint>

#include "block/nbd/nbd_negotiation.h"

namespace {

using namespace hf;
using namespace hf::nbd;

class Exports final : public ExportCatalogue {
 public:
  Exports() {
    one_.name = "pg";
    one_.description = "database";
    one_.size = kGiB;
    two_.name = "two";
    two_.size = kBlockSize;
    two_.read_only = true;
  }
  Result<ExportFacts> find(std::string_view name) const override {
    if (name == one_.name || name.empty()) return one_;
    if (name == two_.name) return two_;
    if (name == "busy") return Error(ErrorCode::kInUse, "somebody else has it");
    return Error(ErrorCode::kNotFound, "no such export");
  }
  void for_each(const std::function<void(const ExportFacts&)>& visit) const override {
    visit(one_);
    visit(two_);
  }

 private:
  ExportFacts one_, two_;
};

uint64_t big_endian(ByteSpan bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

// Whole replies to `option`, the last of them final.
void check_replies(ByteSpan out, uint32_t option) {
  bool final = false;
  while (!out.empty()) {
    HF_ASSERT(!final && out.size() >= 20 && big_endian(out, 0, 8) == kOptionReplyMagic);
    HF_ASSERT(big_endian(out, 8, 4) == option);
    const uint64_t type = big_endian(out, 12, 4);
    final = type == 1 || type >> 31 != 0;
    const uint64_t length = big_endian(out, 16, 4);
    HF_ASSERT(length <= out.size() - 20 && length <= 4 + 2 * kStringMax);
    out = out.subspan(20 + length);
  }
  HF_ASSERT(final);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteSpan in{reinterpret_cast<const std::byte*>(data), size};
  if (in.size() < kClientFlagsBytes) return 0;
  const Exports exports;
  Negotiation negotiation(exports);
  const Status flags = negotiation.client_flags(static_cast<uint32_t>(big_endian(in, 0, 4)));
  if (!flags.ok()) return 0;
  in = in.subspan(kClientFlagsBytes);
  while (in.size() >= kOptionHeaderBytes) {
    const Result<OptionHeader> header = decode_option_header(in.first(kOptionHeaderBytes));
    if (!header.ok()) return 0;
    in = in.subspan(kOptionHeaderBytes);
    HF_ASSERT(header->length <= kOptionBytesMax);
    if (header->length > in.size()) return 0;
    const std::optional<std::string> named = named_export(header->option, in.first(header->length));
    HF_ASSERT(!named || (named->size() <= kStringMax && named->find('\0') == std::string::npos));
    std::vector<std::byte> out;
    const Result<Negotiation::Step> step =
        negotiation.option(header->option, in.first(header->length), &out);
    if (!step.ok()) return 0;
    const bool old_way = static_cast<Option>(header->option) == Option::kExportName;
    if (!old_way) check_replies(out, header->option);
    if (*step == Negotiation::Step::kTransmit) {
      HF_ASSERT(named && enters_transmission(header->option));
      HF_ASSERT(exports.find(negotiation.export_name()).ok());
      HF_ASSERT(!negotiation.allocation() || negotiation.structured());
    }
    if (*step != Negotiation::Step::kContinue) return 0;
    in = in.subspan(header->length);
  }
  return 0;
}
