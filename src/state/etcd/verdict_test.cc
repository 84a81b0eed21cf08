// What answers of etcd mean, and what its answers may hold. No etcd is needed.
#include "state/etcd/verdict.h"

#include <gtest/gtest.h>

#include "state/etcd/options.h"
#include "state/etcd/wire.h"

namespace hf::state {
namespace {

constexpr int kCodes = 16;  // gRPC's status codes 1 to 16

TEST(Verdict, WhatEtcdRefusedDidNotHappen) {
  for (const CallKind kind : {CallKind::kRead, CallKind::kWrite}) {
    EXPECT_EQ(judge(8, "etcdserver: mvcc: database space exceeded", kind).code,
              ErrorCode::kNoSpace);
    EXPECT_EQ(judge(5, "etcdserver: requested lease not found", kind).code, ErrorCode::kNotFound);
    EXPECT_EQ(judge(7, "etcdserver: permission denied", kind).code, ErrorCode::kPermissionDenied);
    EXPECT_EQ(judge(3, "etcdserver: request is too large", kind).code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(judge(15, "etcdserver: corrupt cluster", kind).code, ErrorCode::kCorruption);
    const EtcdVerdict leaderless = judge(14, "etcdserver: no leader", kind);
    EXPECT_TRUE(leaderless.again && leaderless.suspect);
    EXPECT_EQ(leaderless.code, ErrorCode::kUnavailable);
    const EtcdVerdict busy = judge(8, "etcdserver: too many requests", kind);
    EXPECT_TRUE(busy.again && !busy.suspect);
    const EtcdVerdict token = judge(16, "etcdserver: invalid auth token", kind);
    EXPECT_TRUE(token.again && token.renew_token);
  }
}

TEST(Verdict, EverythingElseMayHaveHappened) {
  const std::string_view words[] = {
      "",
      "etcdserver: request timed out",
      "etcdserver: request timed out, possibly due to previous leader failure",
      "etcdserver: request timed out, possibly due to connection lost",
      "etcdserver: leader changed",
      "etcdserver: server stopped",
      "etcdserver: something new",
      "Connection reset by peer",
      "Deadline Exceeded",
      "no leader",
      "permission denied"};
  for (const std::string_view message : words) {
    for (const int code : {1, 2, 4, 8, 10, 12, 13, 14, 15}) {
      const EtcdVerdict write = judge(code, message, CallKind::kWrite);
      EXPECT_EQ(write.code, ErrorCode::kAmbiguous) << code << " " << message;
      EXPECT_FALSE(write.again) << code << " " << message;
      EXPECT_TRUE(judge(code, message, CallKind::kRead).again) << code << " " << message;
    }
  }
  // Words that are not etcd's own (a proxy's) prove nothing, whatever their code.
  for (int code = 1; code <= kCodes; ++code) {
    EXPECT_EQ(judge(code, "not found", CallKind::kWrite).code, ErrorCode::kAmbiguous) << code;
    EXPECT_FALSE(judge(code, "not found", CallKind::kWrite).again) << code;
  }
}

TEST(EtcdUrl, ReadsWhatPeopleWrite) {
  bool tls = true;
  Result<std::vector<std::string>> plain =
      parse_etcd_url("etcd://a,b.example:1234,[fd00::1]", &tls);
  ASSERT_TRUE(plain.ok());
  EXPECT_FALSE(tls);
  const std::vector<std::string> wanted = {"a:2379", "b.example:1234", "[fd00::1]:2379"};
  EXPECT_EQ(*plain, wanted);
  EXPECT_TRUE(parse_etcd_url("etcd+tls://10.0.0.1", &tls).ok());
  EXPECT_TRUE(tls);
  for (const char* bad :
       {"", "a,b", "http://a", "etcd://", "etcd://a,", "etcd://a,,b", "etcd://a:0",
        "etcd://a:65536", "etcd://a:x", "etcd://a b", "etcd://a,a:2379", "etcd://[::1",
        "etcd://[::1]x", "etcd://u@h", "etcd://a/b", "etcd://1,2,3,4,5,6,7,8,9,10"}) {
    EXPECT_EQ(parse_etcd_url(bad, &tls).code(), ErrorCode::kInvalidArgument) << bad;
  }
}

TEST(EtcdUrl, OptionsThatWouldLeakOrHangAreRefused) {
  EtcdOptions good;
  good.endpoints = {"a:2379"};
  good.prefix = etcd_prefix("6e3ee0ce-7c55-4f3b-9d0c-6f3a1c0e8b11");
  EXPECT_TRUE(check_etcd_options(good).ok());
  EtcdOptions bad = good;
  bad.prefix = "no-slash";
  EXPECT_FALSE(check_etcd_options(bad).ok());
  bad = good;
  bad.user = "u";
  EXPECT_FALSE(check_etcd_options(bad).ok());
  bad = good;
  bad.cert_file = "/c";
  bad.key_file = "/k";
  EXPECT_FALSE(check_etcd_options(bad).ok());
  bad.ca_file = "/ca";
  EXPECT_TRUE(check_etcd_options(bad).ok());
  bad.key_file = "";
  EXPECT_FALSE(check_etcd_options(bad).ok());
  bad = good;
  bad.call_timeout = std::chrono::hours(1);
  EXPECT_FALSE(check_etcd_options(bad).ok());
}

mvccpb::KeyValue good_kv() {
  mvccpb::KeyValue kv;
  kv.set_key("p/k");
  kv.set_value("v");
  kv.set_create_revision(3);
  kv.set_mod_revision(5);
  kv.set_version(2);
  kv.set_lease(7);
  return kv;
}

TEST(EtcdWire, EntriesAreCheckedWhole) {
  Result<Entry> entry = entry_of(good_kv(), "p/");
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->key, "k");
  EXPECT_EQ(entry->mod_revision, 5u);
  EXPECT_EQ(entry->lease, 7u);
  mvccpb::KeyValue kv = good_kv();
  kv.set_key("other/k");
  EXPECT_EQ(entry_of(kv, "p/").code(), ErrorCode::kProtocol);
  kv.set_key("p/");
  EXPECT_EQ(entry_of(kv, "p/").code(), ErrorCode::kProtocol);
  kv.set_key("p/" + std::string(kMaxKeyBytes + 1, 'k'));
  EXPECT_EQ(entry_of(kv, "p/").code(), ErrorCode::kProtocol);
  kv = good_kv();
  kv.set_value(std::string(kMaxValueBytes + 1, 'v'));
  EXPECT_EQ(entry_of(kv, "p/").code(), ErrorCode::kCorruption);
  kv = good_kv();
  kv.set_mod_revision(-1);
  EXPECT_EQ(entry_of(kv, "p/").code(), ErrorCode::kProtocol);
}

TEST(EtcdWire, TransactionsAreCheckedAgainstWhatWasAsked) {
  Txn txn;
  txn.expect("k", 5).put("k", "w").remove("gone");
  const etcdserverpb::TxnRequest request = txn_request(txn, "p/");
  EXPECT_EQ(request.compare(0).key(), "p/k");
  EXPECT_EQ(request.success_size(), 2);
  etcdserverpb::TxnResponse answer;
  answer.mutable_header()->set_revision(9);
  answer.set_succeeded(true);
  EXPECT_EQ(txn_outcome(answer, txn, "p/").code(), ErrorCode::kProtocol) << "no results";
  answer.add_responses()->mutable_response_put();
  answer.add_responses()->mutable_response_delete_range();
  EXPECT_TRUE(txn_outcome(answer, txn, "p/").ok());
  answer.set_succeeded(false);
  EXPECT_EQ(txn_outcome(answer, txn, "p/").code(), ErrorCode::kProtocol);
  answer.clear_responses();
  *answer.add_responses()->mutable_response_range()->add_kvs() = good_kv();
  Result<TxnOutcome> lost = txn_outcome(answer, txn, "p/");
  ASSERT_TRUE(lost.ok());
  EXPECT_FALSE(lost->committed);
  EXPECT_EQ(lost->current.at(0)->mod_revision, 5u);
  answer.mutable_responses(0)->mutable_response_range()->mutable_kvs(0)->set_key("p/x");
  EXPECT_EQ(txn_outcome(answer, txn, "p/").code(), ErrorCode::kProtocol);
}

}  // namespace
}  // namespace hf::state
