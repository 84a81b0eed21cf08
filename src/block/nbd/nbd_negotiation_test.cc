#include "block/nbd/nbd_negotiation.h"

#include <gtest/gtest.h>

#include "block/nbd/testing/reply_parser.h"

namespace hf::nbd {
namespace {

class Exports final : public ExportCatalogue {
 public:
  Result<ExportFacts> find(std::string_view name) const override {
    for (const ExportFacts& facts : all) {
      if (facts.name == name || (name.empty() && all.size() == 1)) return facts;
    }
    return Error(ErrorCode::kNotFound, "no such export");
  }
  void for_each(const std::function<void(const ExportFacts&)>& visit) const override {
    for (const ExportFacts& facts : all) visit(facts);
  }
  void add(std::string name, uint64_t size) {
    ExportFacts facts;
    facts.name = std::move(name);
    facts.size = size;
    all.push_back(std::move(facts));
  }
  std::vector<ExportFacts> all;
};

struct Answer {
  OptionReply type;
  std::vector<std::byte> payload;
};

class NbdNegotiation : public ::testing::Test {
 protected:
  NbdNegotiation() { exports.add("pg", 1 * kGiB); }

  std::vector<Answer> ask(Option option, const std::vector<std::byte>& data) {
    std::vector<std::byte> out;
    const Result<Negotiation::Step> step =
        negotiation.option(static_cast<uint32_t>(option), data, &out);
    EXPECT_TRUE(step.ok());
    last_step = *step;
    std::vector<Answer> answers;
    for (size_t at = 0; at < out.size();) {
      EXPECT_EQ(big_endian(out, at, 8), kOptionReplyMagic);
      EXPECT_EQ(big_endian(out, at + 8, 4), static_cast<uint32_t>(option));
      const size_t size = big_endian(out, at + 16, 4);
      Answer answer{static_cast<OptionReply>(big_endian(out, at + 12, 4)), {}};
      answer.payload.assign(out.begin() + static_cast<ptrdiff_t>(at + 20),
                            out.begin() + static_cast<ptrdiff_t>(at + 20 + size));
      answers.push_back(std::move(answer));
      at += 20 + size;
    }
    return answers;
  }
  static std::vector<std::byte> info(std::string_view name, std::vector<uint16_t> wanted = {}) {
    std::vector<std::byte> data;
    Out out(&data);
    out.u32(static_cast<uint32_t>(name.size()));
    out.text(name);
    out.u16(static_cast<uint16_t>(wanted.size()));
    for (const uint16_t item : wanted) out.u16(item);
    return data;
  }
  static std::vector<std::byte> meta(std::string_view name, std::vector<std::string> queries) {
    std::vector<std::byte> data;
    Out out(&data);
    out.u32(static_cast<uint32_t>(name.size()));
    out.text(name);
    out.u32(static_cast<uint32_t>(queries.size()));
    for (const std::string& query : queries) {
      out.u32(static_cast<uint32_t>(query.size()));
      out.text(query);
    }
    return data;
  }

  Exports exports;
  Negotiation negotiation{exports};
  Negotiation::Step last_step = Negotiation::Step::kContinue;
};

TEST_F(NbdNegotiation, GoTellsSizeFlagsAndBlockSizes) {
  const std::vector<Answer> answers = ask(Option::kGo, info("pg", {3}));
  ASSERT_EQ(answers.size(), 3u);
  ASSERT_EQ(answers[0].payload.size(), 12u);
  EXPECT_EQ(big_endian(answers[0].payload, 2, 8), 1 * kGiB);
  const uint64_t flags = big_endian(answers[0].payload, 10, 2);
  EXPECT_EQ(flags, transmission_flags(false, false));
  ASSERT_EQ(answers[1].payload.size(), 14u);
  EXPECT_EQ(big_endian(answers[1].payload, 2, 4), 1u);
  EXPECT_EQ(big_endian(answers[1].payload, 6, 4), 4096u);
  EXPECT_EQ(big_endian(answers[1].payload, 10, 4), 32 * kMiB);
  EXPECT_EQ(answers[2].type, OptionReply::kAck);
  EXPECT_EQ(last_step, Negotiation::Step::kTransmit);
  EXPECT_EQ(negotiation.export_name(), "pg");
}

TEST_F(NbdNegotiation, InfoTellsTheSameAndStays) {
  EXPECT_EQ(ask(Option::kInfo, info("pg", {1, 3, 99})).size(), 4u);
  EXPECT_EQ(last_step, Negotiation::Step::kContinue);
  EXPECT_EQ(ask(Option::kGo, info("nobody"))[0].type, OptionReply::kUnknownExport);
  EXPECT_EQ(last_step, Negotiation::Step::kContinue);
}

TEST_F(NbdNegotiation, TheEmptyNameIsTheOnlyExportAndToldItsName) {
  const std::vector<Answer> answers = ask(Option::kGo, info(""));
  ASSERT_EQ(answers.size(), 4u);
  EXPECT_EQ(big_endian(answers[2].payload, 0, 2), 1u);
  EXPECT_EQ(negotiation.export_name(), "pg");
  exports.add("other", 4096);
  Negotiation second(exports);
  std::vector<std::byte> out;
  EXPECT_EQ(second.option(1, ByteSpan(), &out).code(), ErrorCode::kNotFound);
}

TEST_F(NbdNegotiation, ExportNameHasNoRefusalAndMayHaveZeroes) {
  std::vector<std::byte> out;
  EXPECT_EQ(negotiation.option(1, as_bytes("nobody"), &out).code(), ErrorCode::kNotFound);
  EXPECT_TRUE(negotiation.client_flags(kFixedNewstyle).ok());
  ASSERT_TRUE(negotiation.option(1, as_bytes("pg"), &out).ok());
  EXPECT_EQ(out.size(), 8 + 2 + 124u);
  Negotiation second(exports);
  EXPECT_TRUE(second.client_flags(kFixedNewstyle | kNoZeroes).ok());
  out.clear();
  ASSERT_TRUE(second.option(1, as_bytes("pg"), &out).ok());
  EXPECT_EQ(out.size(), 8 + 2u);
  EXPECT_EQ(second.client_flags(4).code(), ErrorCode::kProtocol);
}

TEST_F(NbdNegotiation, ListNamesAll) {
  exports.add("other", 4096);
  const std::vector<Answer> answers = ask(Option::kList, {});
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].type, OptionReply::kServer);
  EXPECT_EQ(answers[1].payload.size(), 4 + 5u);
  EXPECT_EQ(ask(Option::kList, {std::byte{0}})[0].type, OptionReply::kInvalid);
}

TEST_F(NbdNegotiation, UnknownOptionsAreRefusedAndForgiven) {
  for (const uint32_t option : {4u, 5u, 11u, 0u, 0xffffffffu}) {
    EXPECT_EQ(ask(static_cast<Option>(option), {std::byte{1}})[0].type, OptionReply::kUnsupported);
    EXPECT_EQ(last_step, Negotiation::Step::kContinue);
  }
  EXPECT_EQ(ask(Option::kAbort, {std::byte{1}})[0].type, OptionReply::kAck);
  EXPECT_EQ(last_step, Negotiation::Step::kEnd);
}

TEST_F(NbdNegotiation, ContextsNeedStructuredRepliesAndTheRightExport) {
  EXPECT_EQ(ask(Option::kSetMetaContext, meta("pg", {"base:allocation"}))[0].type,
            OptionReply::kInvalid);
  EXPECT_EQ(ask(Option::kStructuredReply, {})[0].type, OptionReply::kAck);
  EXPECT_EQ(ask(Option::kListMetaContext, meta("pg", {})).size(), 2u);
  EXPECT_EQ(ask(Option::kListMetaContext, meta("pg", {"base:"})).size(), 2u);
  EXPECT_EQ(ask(Option::kListMetaContext, meta("pg", {"qemu:dirty"})).size(), 1u);
  EXPECT_EQ(ask(Option::kSetMetaContext, meta("pg", {"base:"})).size(), 1u);
  EXPECT_EQ(ask(Option::kSetMetaContext, meta("pg", {"x-y:z", "base:allocation"})).size(), 2u);
  EXPECT_EQ(ask(Option::kGo, info("pg")).back().type, OptionReply::kAck);
  EXPECT_TRUE(negotiation.allocation());
}

TEST_F(NbdNegotiation, ASelectionForAnotherExportOrAFailedOneDoesNotCount) {
  exports.add("other", 4096);
  ask(Option::kStructuredReply, {});
  ask(Option::kSetMetaContext, meta("other", {"base:allocation"}));
  ask(Option::kGo, info("pg"));
  EXPECT_FALSE(negotiation.allocation());
  Negotiation again(exports);
  std::vector<std::byte> out;
  ASSERT_TRUE(again.option(8, ByteSpan(), &out).ok());
  ASSERT_TRUE(again.option(10, meta("pg", {"base:allocation"}), &out).ok());
  ASSERT_TRUE(again.option(10, meta("nobody", {"base:allocation"}), &out).ok());
  ASSERT_TRUE(again.option(7, info("pg"), &out).ok());
  EXPECT_FALSE(again.allocation());
}

TEST_F(NbdNegotiation, BrokenDataIsRefused) {
  std::vector<std::byte> data = info("pg");
  data[3] = std::byte{200};  // a name longer than the option
  EXPECT_EQ(ask(Option::kGo, data)[0].type, OptionReply::kInvalid);
  EXPECT_EQ(ask(Option::kGo, info(std::string_view("p\0g", 3)))[0].type, OptionReply::kInvalid);
  data = info("pg", {1, 2});
  data.pop_back();
  EXPECT_EQ(ask(Option::kInfo, data)[0].type, OptionReply::kInvalid);
  EXPECT_EQ(ask(Option::kGo, {})[0].type, OptionReply::kInvalid);
  ask(Option::kStructuredReply, {});
  data = meta("pg", {"base:allocation"});
  data.push_back(std::byte{0});
  EXPECT_EQ(ask(Option::kSetMetaContext, data)[0].type, OptionReply::kInvalid);
  EXPECT_EQ(ask(Option::kSetMetaContext, meta("pg", std::vector<std::string>(33, "a:b")))[0].type,
            OptionReply::kTooBig);
}

TEST_F(NbdNegotiation, EndlessHagglingEnds) {
  std::vector<std::byte> out;
  for (uint32_t i = 0; i < Negotiation::kOptionsMax; ++i) {
    ASSERT_TRUE(negotiation.option(99, ByteSpan(), &out).ok());
  }
  EXPECT_EQ(negotiation.option(99, ByteSpan(), &out).code(), ErrorCode::kProtocol);
}

}  // namespace
}  // namespace hf::nbd
