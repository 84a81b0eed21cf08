// The driver over its socket, in front of a control plane of names in memory.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "api/csi/context.h"
#include "api/csi/convert.h"
#include "api/csi/server.h"
#include "api/testing/fake_control.h"
#include "base/error_trailer.h"

namespace hf::api::csi_driver {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;
using Mode = csi::VolumeCapability::AccessMode;

constexpr int64_t kGi = int64_t{1} << 30;
constexpr char kCluster[] = "11111111-2222-4333-8444-555555555555";

class FakePlaces : public VolumePlaces {
 public:
  std::map<std::string, std::string> shown;  // path: device
  std::set<std::string> folders, foreign;    // mounts of somebody else
  Task<Status> make_directory(std::string path) override {
    folders.insert(path);
    co_return Status();
  }
  Task<Status> show_device(std::string device, std::string path) override {
    shown[path] = device;
    co_return Status();
  }
  Task<Result<std::vector<std::string>>> shown_at(std::string device) override {
    std::vector<std::string> places;
    for (const auto& [path, what] : shown) {
      if (what == device) places.push_back(path);
    }
    co_return std::move(places);
  }
  Task<Status> clear(std::string path, std::string) override {
    if (foreign.contains(path)) co_return make_error(ErrorCode::kInUse, "{} is mounted", path);
    shown.erase(path);
    folders.erase(path);
    co_return Status();
  }
  Task<Result<bool>> is_mounted(std::string path) override { co_return foreign.contains(path); }
  Task<Result<PlaceUsage>> usage(std::string) override {
    PlaceUsage usage;
    usage.total_bytes = 100;
    usage.used_bytes = 30;
    usage.available_bytes = 60;
    co_return usage;
  }
};

class Csi : public testing::Test {
 protected:
  void SetUp() override {
    path_ = "/tmp/hf-csi-" + std::to_string(::getpid()) + ".sock";
    CsiServerOptions options;
    options.unix_path = path_;
    options.version = "1.2.3";
    options.node = NodeId::from_random(9, 9).to_string();
    options.cluster = kCluster;
    node_id_ = options.node;
    auto server = start_csi_server(options, control_, places_, bridge_);
    ASSERT_TRUE(server.ok()) << server.error().to_string();
    server_ = std::move(*server);
    grpc::ChannelArguments arguments;
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
    const auto channel = grpc::CreateCustomChannel("unix:" + path_, grpc::InsecureChannelCredentials(), arguments);
    identity_ = csi::Identity::NewStub(channel);
    controller_ = csi::Controller::NewStub(channel);
    node_ = csi::Node::NewStub(channel);
  }

  template <typename Stub, typename Out, typename In>
  static std::pair<grpc::Status, Out> ask(Stub& stub, grpc::Status (Stub::*call)(grpc::ClientContext*, const In&, Out*),
                                          const In& in) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    Out out;
    const grpc::Status status = (stub.*call)(&context, in, &out);
    return {status, out};
  }
  using ControllerStub = csi::Controller::Stub;
  using NodeStub = csi::Node::Stub;

  static void want(csi::VolumeCapability* to, Mode::Mode mode = Mode::SINGLE_NODE_WRITER, bool block = false) {
    to->mutable_access_mode()->set_mode(mode);
    if (block) to->mutable_block();
    if (!block) to->mutable_mount();
  }
  static csi::CreateVolumeRequest creating(const std::string& name, int64_t bytes = kGi, bool block = false) {
    csi::CreateVolumeRequest in;
    in.set_name(name);
    if (bytes != 0) in.mutable_capacity_range()->set_required_bytes(bytes);
    want(in.add_volume_capabilities(), Mode::SINGLE_NODE_WRITER, block);
    return in;
  }
  std::pair<grpc::Status, csi::CreateVolumeResponse> create(const csi::CreateVolumeRequest& in) {
    return ask<ControllerStub, csi::CreateVolumeResponse>(*controller_, &ControllerStub::CreateVolume, in);
  }
  std::string made(const csi::CreateVolumeRequest& in) {
    const auto [status, out] = create(in);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return out.volume().volume_id();
  }
  StatusCode refused(const csi::CreateVolumeRequest& in) { return create(in).first.error_code(); }
  StatusCode remove(const std::string& id) {
    csi::DeleteVolumeRequest in;
    in.set_volume_id(id);
    return ask<ControllerStub, csi::DeleteVolumeResponse>(*controller_, &ControllerStub::DeleteVolume, in)
        .first.error_code();
  }
  std::pair<grpc::Status, csi::CreateSnapshotResponse> cut(const std::string& volume, const std::string& name) {
    csi::CreateSnapshotRequest in;
    in.set_source_volume_id(volume);
    in.set_name(name);
    return ask<ControllerStub, csi::CreateSnapshotResponse>(*controller_, &ControllerStub::CreateSnapshot, in);
  }
  std::vector<std::string> list(int32_t max, std::string* token, StatusCode* code = nullptr) {
    csi::ListVolumesRequest in;
    in.set_max_entries(max);
    in.set_starting_token(*token);
    const auto [status, out] =
        ask<ControllerStub, csi::ListVolumesResponse>(*controller_, &ControllerStub::ListVolumes, in);
    if (code != nullptr) *code = status.error_code();
    std::vector<std::string> ids;
    for (const auto& entry : out.entries()) ids.push_back(entry.volume().volume_id());
    *token = out.next_token();
    return ids;
  }
  grpc::Status stage(const std::string& id, const std::string& path, bool block = false) {
    csi::NodeStageVolumeRequest in;
    in.set_volume_id(id);
    in.set_staging_target_path(path);
    want(in.mutable_volume_capability(), Mode::SINGLE_NODE_WRITER, block);
    return ask<NodeStub, csi::NodeStageVolumeResponse>(*node_, &NodeStub::NodeStageVolume, in).first;
  }
  grpc::Status publish(const std::string& id, const std::string& path, Mode::Mode mode = Mode::SINGLE_NODE_WRITER,
                       bool block = false) {
    csi::NodePublishVolumeRequest in;
    in.set_volume_id(id);
    in.set_staging_target_path("/stage");
    in.set_target_path(path);
    want(in.mutable_volume_capability(), mode, block);
    return ask<NodeStub, csi::NodePublishVolumeResponse>(*node_, &NodeStub::NodePublishVolume, in).first;
  }
  grpc::Status unpublish(const std::string& id, const std::string& path) {
    csi::NodeUnpublishVolumeRequest in;
    in.set_volume_id(id);
    in.set_target_path(path);
    return ask<NodeStub, csi::NodeUnpublishVolumeResponse>(*node_, &NodeStub::NodeUnpublishVolume, in).first;
  }
  grpc::Status unstage(const std::string& id, const std::string& path) {
    csi::NodeUnstageVolumeRequest in;
    in.set_volume_id(id);
    in.set_staging_target_path(path);
    return ask<NodeStub, csi::NodeUnstageVolumeResponse>(*node_, &NodeStub::NodeUnstageVolume, in).first;
  }

  InlineLoop loop_;
  Gate gate_;
  FakeControl control_;
  FakePlaces places_;
  LoopBridge bridge_{loop_, gate_};
  std::string path_, node_id_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<csi::Identity::Stub> identity_;
  std::unique_ptr<csi::Controller::Stub> controller_;
  std::unique_ptr<csi::Node::Stub> node_;
};

TEST_F(Csi, SaysWhoItIsAndWhetherItServes) {
  using Stub = csi::Identity::Stub;
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const auto info_of = ask<Stub, csi::GetPluginInfoResponse>(*identity_, &Stub::GetPluginInfo, csi::GetPluginInfoRequest());
  EXPECT_EQ(info_of.second.name(), "holdfast");
  EXPECT_EQ(info_of.second.vendor_version(), "1.2.3");
  EXPECT_TRUE((ask<Stub, csi::ProbeResponse>(*identity_, &Stub::Probe, csi::ProbeRequest()).second.ready().value()));
  control_.next_error = Error(ErrorCode::kUnavailable, "the state store is away");
  const auto probed = ask<Stub, csi::ProbeResponse>(*identity_, &Stub::Probe, csi::ProbeRequest());
  EXPECT_TRUE(probed.first.ok());
  EXPECT_TRUE(probed.second.has_ready());
  EXPECT_FALSE(probed.second.ready().value());
}

TEST_F(Csi, EveryCodeOfTheTableHasItsMeaning) {
  const ErrorTable table = error_table();
  for (size_t i = 1; i < table.count; ++i) {
    const Answer answer(Error(table.rows[i].code, "why"));
    EXPECT_NE(answer.code(), StatusCode::OK) << table.rows[i].name;
    EXPECT_NE(answer.code(), StatusCode::UNKNOWN) << table.rows[i].name;
    EXPECT_NE(answer.code(), StatusCode::UNIMPLEMENTED) << table.rows[i].name;
    // What may have happened is never told as a refusal: a scheduler would forget it.
    if (!table.rows[i].may_have_happened || !table.rows[i].retryable) continue;
    EXPECT_TRUE(answer.code() == StatusCode::UNAVAILABLE || answer.code() == StatusCode::DEADLINE_EXCEEDED)
        << table.rows[i].name;
  }
  control_.next_error = Error(ErrorCode::kNoSpace, "pool p is full");
  grpc::ClientContext context;
  csi::CreateVolumeResponse out;
  const grpc::Status status = controller_->CreateVolume(&context, creating("v"), &out);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "pool p is full");
  EXPECT_EQ(context.GetServerTrailingMetadata().count(kErrorTrailer), 1u);
}

TEST_F(Csi, CreatesByNameOnce) {
  csi::CreateVolumeRequest in = creating("pvc-1", 3 * kGi);
  (*in.mutable_parameters())["io_profile"] = "db";
  (*in.mutable_parameters())["csi.storage.k8s.io/pvc/name"] = "data";
  const auto [status, out] = create(in);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(out.volume().capacity_bytes(), 3 * kGi);
  EXPECT_EQ(out.volume().accessible_topology(0).segments().at("holdfast/cluster"), kCluster);
  EXPECT_EQ(spec::to_string(control_.volumes.at("pvc-1").spec.io_profile), "db");
  EXPECT_EQ(made(in), out.volume().volume_id());
  EXPECT_EQ(control_.volumes.size(), 1u);
  EXPECT_EQ(refused(creating("pvc-1", 4 * kGi)), StatusCode::ALREADY_EXISTS);
  (*in.mutable_parameters())["io_profile"] = "random";
  EXPECT_EQ(refused(in), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(refused(creating("pvc-1", 3 * kGi, true)), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(made(creating("pvc-1", 2 * kGi)), out.volume().volume_id()) << "it has at least that";
  EXPECT_EQ(made(creating("pvc-1", 0)), out.volume().volume_id());
}

TEST_F(Csi, GrownSinceItIsStillTheSame) {
  const std::string id = made(creating("pvc-1"));
  csi::ControllerExpandVolumeRequest in;
  in.set_volume_id(id);
  in.mutable_capacity_range()->set_required_bytes(2 * kGi + 1);
  const auto expand = [&] {
    return ask<ControllerStub, csi::ControllerExpandVolumeResponse>(*controller_, &ControllerStub::ControllerExpandVolume, in);
  };
  EXPECT_EQ(expand().second.capacity_bytes(), 2 * kGi + 4096);
  EXPECT_EQ(expand().second.capacity_bytes(), 2 * kGi + 4096);
  EXPECT_EQ(made(creating("pvc-1")), id);
  in.mutable_capacity_range()->set_required_bytes(kGi);
  EXPECT_EQ(expand().second.capacity_bytes(), 2 * kGi + 4096) << "never smaller";
  in.mutable_capacity_range()->set_limit_bytes(kGi);
  EXPECT_EQ(expand().first.error_code(), StatusCode::OUT_OF_RANGE);
  in.mutable_capacity_range()->set_required_bytes(int64_t{1} << 50);
  in.mutable_capacity_range()->clear_limit_bytes();
  EXPECT_EQ(expand().first.error_code(), StatusCode::OUT_OF_RANGE);
  in.clear_capacity_range();
  EXPECT_EQ(expand().first.error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(Csi, RefusesWhatItCannotKeep) {
  EXPECT_EQ(refused(creating("")), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refused(creating("name=x,size=3")), StatusCode::INVALID_ARGUMENT) << "no inline spec for a name";
  EXPECT_EQ(refused(creating(std::string(129, 'a'))), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refused(creating(std::string(128, 'a'))), StatusCode::OK);
  EXPECT_EQ(refused(creating("v", -1)), StatusCode::INVALID_ARGUMENT);
  csi::CreateVolumeRequest in = creating("v", 2 * kGi);
  in.mutable_capacity_range()->set_limit_bytes(kGi);
  EXPECT_EQ(refused(in), StatusCode::INVALID_ARGUMENT);
  in = creating("v", 0);
  in.mutable_capacity_range()->set_limit_bytes(1 << 20);
  EXPECT_EQ(refused(in), StatusCode::OUT_OF_RANGE) << "less than the smallest";
  in = creating("v", int64_t{1} << 50);
  EXPECT_EQ(refused(in), StatusCode::OUT_OF_RANGE);
  in = creating("v");
  in.clear_volume_capabilities();
  EXPECT_EQ(refused(in), StatusCode::INVALID_ARGUMENT);
  in.add_volume_capabilities()->mutable_mount();
  EXPECT_EQ(refused(in), StatusCode::INVALID_ARGUMENT) << "no access mode";
  for (const Mode::Mode mode : {Mode::MULTI_NODE_READER_ONLY, Mode::MULTI_NODE_SINGLE_WRITER, Mode::MULTI_NODE_MULTI_WRITER}) {
    in = creating("v");
    in.mutable_volume_capabilities(0)->mutable_access_mode()->set_mode(mode);
    const grpc::Status status = create(in).first;
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("not supported yet"));
  }
  for (const char* bad : {"size=x", "rep1=2", "name=y", "parent=z", "fs=ext3", "repl=9"}) {
    in = creating("v");
    const std::string text = bad;
    (*in.mutable_parameters())[text.substr(0, text.find('='))] = text.substr(text.find('=') + 1);
    if (text.starts_with("size")) in.clear_capacity_range();
    EXPECT_EQ(refused(in), StatusCode::INVALID_ARGUMENT) << bad;
  }
  in = creating("v");
  want(in.add_volume_capabilities(), Mode::SINGLE_NODE_WRITER, true);
  EXPECT_EQ(refused(in), StatusCode::INVALID_ARGUMENT) << "block and mount";
  EXPECT_EQ(control_.volumes.size(), 1u);
}

TEST_F(Csi, SizesAndFileSystems) {
  csi::CreateVolumeRequest in = creating("tiny", 1);
  in.mutable_volume_capabilities(0)->mutable_mount()->set_fs_type("xfs");
  in.mutable_volume_capabilities(0)->mutable_mount()->add_mount_flags("noatime");
  in.mutable_volume_capabilities(0)->mutable_mount()->add_mount_flags("ro");
  EXPECT_EQ(create(in).second.volume().capacity_bytes(), 300 << 20) << "the least that xfs can be made on";
  const VolumeSpec& spec = control_.volumes.at("tiny").spec;
  EXPECT_EQ(spec.fs, spec::FsType::kXfs);
  EXPECT_EQ(spec.mount_options, (std::map<std::string, std::string>{{"noatime", ""}}));
  in = creating("class", 0, true);
  (*in.mutable_parameters())["fs"] = "ext4";
  (*in.mutable_parameters())["size"] = "2G";
  EXPECT_EQ(create(in).second.volume().capacity_bytes(), 2 * kGi) << "a class may serve both kinds of claims";
  EXPECT_EQ(control_.volumes.at("class").spec.fs, spec::FsType::kNone);
  in = creating("both");
  (*in.mutable_parameters())["fs"] = "ext4";
  in.mutable_volume_capabilities(0)->mutable_mount()->set_fs_type("xfs");
  EXPECT_EQ(refused(in), StatusCode::INVALID_ARGUMENT);
}

TEST_F(Csi, SecretsStandInNoError) {
  csi::CreateVolumeRequest in = creating("v");
  (*in.mutable_secrets())["passphrase"] = "s3cr3t-word";
  (*in.mutable_secrets())["something.else"] = "s3cr3t-word";
  (*in.mutable_parameters())["repl"] = "nine";
  const grpc::Status status = create(in).first;
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message().find("s3cr3t"), std::string::npos);
  in.mutable_parameters()->clear();
  EXPECT_TRUE(create(in).first.ok());
  EXPECT_EQ(control_.last_create.spec.encryption(), spec::Encryption::kPassphrase) << "never made without it";
}

TEST_F(Csi, GoesWhereItIsWanted) {
  csi::CreateVolumeRequest in = creating("v");
  const std::string near = NodeId::from_random(4, 5).to_string();
  auto* other = in.mutable_accessibility_requirements()->add_requisite();
  (*other->mutable_segments())["holdfast/cluster"] = "another";
  EXPECT_EQ(refused(in), StatusCode::RESOURCE_EXHAUSTED);
  auto* ours = in.mutable_accessibility_requirements()->add_requisite();
  (*ours->mutable_segments())["holdfast/cluster"] = kCluster;
  auto* preferred = in.mutable_accessibility_requirements()->add_preferred();
  (*preferred->mutable_segments())["holdfast/node"] = near;
  EXPECT_EQ(refused(in), StatusCode::OK);
  EXPECT_EQ(control_.last_create.near.to_string(), near);
}

TEST_F(Csi, DeletesWhatIsThereAndWhatIsNot) {
  const std::string id = made(creating("pvc-1"));
  EXPECT_EQ(remove(""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(remove(std::string(129, 'a')), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(remove("pvc-1"), StatusCode::OK) << "a name is no id: nothing of that id is there";
  EXPECT_EQ(control_.volumes.size(), 1u);
  EXPECT_EQ(remove(id), StatusCode::OK);
  EXPECT_EQ(remove(id), StatusCode::OK);
  EXPECT_EQ(control_.volumes.size(), 0u);
  // A volume whose name is the id of another one, long gone.
  EXPECT_NE(made(creating(id)), id);
  EXPECT_EQ(remove(id), StatusCode::OK);
  EXPECT_EQ(control_.volumes.size(), 1u);
}

TEST_F(Csi, PagesGoOnOverWhatChanges) {
  for (int i = 0; i < 5; ++i) (void)made(creating("v" + std::to_string(i)));
  std::string token;
  StatusCode code{};
  const std::vector<std::string> first = list(2, &token, &code);
  ASSERT_EQ(first.size(), 2u);
  ASSERT_FALSE(token.empty());
  EXPECT_EQ(remove(first[1]), StatusCode::OK);
  const std::string later = made(creating("a-later-one"));
  std::vector<std::string> rest;
  while (!token.empty()) {
    for (const std::string& id : list(2, &token)) rest.push_back(id);
  }
  EXPECT_EQ(rest.size(), 4u);
  EXPECT_EQ(rest.back(), later);
  token = "invalid-token";
  (void)list(0, &token, &code);
  EXPECT_EQ(code, StatusCode::ABORTED);
  token.clear();
  (void)list(-1, &token, &code);
  EXPECT_EQ(code, StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(list(0, &token).size(), 5u);
}

TEST_F(Csi, TokensAndIdsAreReadBackAndNothingElseIs) {
  const PageToken token{17, VolumeId::from_random(1, 2).to_string()};
  EXPECT_EQ(parse_page_token(page_token(token)), token);
  for (const std::string bad : {"", ".", "17", "17.", ".x", "x.y", "17.x"}) EXPECT_FALSE(parse_page_token(bad)) << bad;
  cluster::SnapshotInfo snapshot;
  snapshot.volume = VolumeId::from_random(1, 2);
  snapshot.id = SnapshotId::from_random(3, 4);
  const std::string id = snapshot_id_of(snapshot);
  ASSERT_TRUE(parse_snapshot_id(id).has_value());
  EXPECT_EQ(parse_snapshot_id(id)->snapshot, snapshot.id);
  for (const std::string& bad : {std::string(), std::string("@"), id + "@", id.substr(1), id + "0", std::string(500, '@')}) {
    EXPECT_FALSE(parse_snapshot_id(bad)) << bad;
  }
}

TEST_F(Csi, SnapshotsAndWhatIsMadeOfThem) {
  const std::string a = made(creating("a", 2 * kGi)), b = made(creating("b"));
  const auto [status, out] = cut(a, "snap-1");
  ASSERT_TRUE(status.ok()) << status.error_message();
  const std::string id = out.snapshot().snapshot_id();
  EXPECT_TRUE(out.snapshot().ready_to_use());
  EXPECT_EQ(out.snapshot().size_bytes(), 2 * kGi);
  EXPECT_EQ(out.snapshot().source_volume_id(), a);
  EXPECT_EQ(cut(a, "snap-1").second.snapshot().snapshot_id(), id);
  EXPECT_EQ(cut(b, "snap-1").first.error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(cut("", "x").first.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(cut(a, "").first.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(cut(VolumeId::from_random(8, 8).to_string(), "x").first.error_code(), StatusCode::NOT_FOUND);

  csi::CreateVolumeRequest in = creating("copy");
  in.mutable_volume_content_source()->mutable_snapshot()->set_snapshot_id(id);
  const auto [made_status, copy] = create(in);
  ASSERT_TRUE(made_status.ok()) << made_status.error_message();
  EXPECT_EQ(copy.volume().capacity_bytes(), 2 * kGi) << "never smaller than its source";
  EXPECT_EQ(copy.volume().content_source().snapshot().snapshot_id(), id);
  EXPECT_EQ(control_.last_create.spec.parent, id);
  control_.volumes.at("copy").parent = "a@" + id.substr(id.find('@') + 1);  // as the control plane shows it
  EXPECT_EQ(create(in).second.volume().volume_id(), copy.volume().volume_id());
  EXPECT_EQ(refused(creating("copy", 2 * kGi)), StatusCode::ALREADY_EXISTS) << "made of something";
  in.set_name("b");
  EXPECT_EQ(refused(in), StatusCode::ALREADY_EXISTS) << "made of nothing";
  in = creating("of-a-volume", 3 * kGi);
  in.mutable_volume_content_source()->mutable_volume()->set_volume_id(a);
  EXPECT_EQ(create(in).second.volume().capacity_bytes(), 3 * kGi);
  in.set_name("of-nothing");
  in.mutable_volume_content_source()->mutable_volume()->set_volume_id(VolumeId::from_random(8, 8).to_string());
  EXPECT_EQ(refused(in), StatusCode::NOT_FOUND);
  in.mutable_volume_content_source()->mutable_snapshot()->set_snapshot_id("none");
  EXPECT_EQ(refused(in), StatusCode::NOT_FOUND);

  csi::ListSnapshotsRequest all;
  const auto list_them = [&] {
    return ask<ControllerStub, csi::ListSnapshotsResponse>(*controller_, &ControllerStub::ListSnapshots, all).second.entries_size();
  };
  (void)cut(b, "snap-2");
  EXPECT_EQ(list_them(), 2);
  all.set_source_volume_id(a);
  EXPECT_EQ(list_them(), 1);
  all.set_source_volume_id("none");
  EXPECT_EQ(list_them(), 0);
  all.set_source_volume_id(b);
  all.set_snapshot_id(id);
  EXPECT_EQ(list_them(), 0);
  all.clear_source_volume_id();
  EXPECT_EQ(list_them(), 1);
  all.set_snapshot_id("none");
  EXPECT_EQ(list_them(), 0);
  csi::DeleteSnapshotRequest gone;
  const auto drop = [&] {
    return ask<ControllerStub, csi::DeleteSnapshotResponse>(*controller_, &ControllerStub::DeleteSnapshot, gone).first.error_code();
  };
  EXPECT_EQ(drop(), StatusCode::INVALID_ARGUMENT);
  gone.set_snapshot_id("none");
  EXPECT_EQ(drop(), StatusCode::OK);
  gone.set_snapshot_id(id);
  EXPECT_EQ(drop(), StatusCode::OK);
  EXPECT_EQ(drop(), StatusCode::OK);
  EXPECT_EQ(control_.snapshots.size(), 1u);
}

TEST_F(Csi, ComesAndGoesOnANode) {
  const std::string id = made(creating("v"));
  EXPECT_EQ(publish(id, "/pod/a").error_code(), StatusCode::FAILED_PRECONDITION) << "not staged";
  for (int twice = 0; twice < 2; ++twice) {
    EXPECT_TRUE(stage(id, "/stage/").ok());
    EXPECT_TRUE(publish(id, "/pod/a").ok());
  }
  EXPECT_TRUE(places_.folders.contains("/pod/a"));
  EXPECT_TRUE(publish(id, "/pod/b").ok()) << "a second container of the node";
  EXPECT_EQ(publish(id, "/pod/c", Mode::SINGLE_NODE_SINGLE_WRITER).error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(unpublish(id, "/pod/b").ok());
  EXPECT_TRUE(publish(id, "/pod/a", Mode::SINGLE_NODE_SINGLE_WRITER).ok()) << "the same place again";
  csi::NodeGetVolumeStatsRequest in;
  in.set_volume_id(id);
  in.set_volume_path("/pod/a");
  const auto stats = [&] {
    return ask<NodeStub, csi::NodeGetVolumeStatsResponse>(*node_, &NodeStub::NodeGetVolumeStats, in);
  };
  EXPECT_EQ(stats().second.usage(0).total(), 100);
  in.set_volume_path("/pod/elsewhere");
  EXPECT_EQ(stats().first.error_code(), StatusCode::NOT_FOUND);
  for (int twice = 0; twice < 2; ++twice) EXPECT_TRUE(unpublish(id, "/pod/a").ok());
  EXPECT_FALSE(places_.folders.contains("/pod/a"));
  for (int twice = 0; twice < 2; ++twice) EXPECT_TRUE(unstage(id, "/stage").ok());
  EXPECT_FALSE(control_.volumes.at("v").attachment.has_value());
  // Gone altogether: what is left of it on the node goes too, and what is somebody else's does not.
  EXPECT_EQ(remove(id), StatusCode::OK);
  EXPECT_TRUE(unpublish(id, "/pod/a").ok());
  EXPECT_TRUE(unstage(id, "/stage").ok());
  places_.foreign.insert("/stage");
  EXPECT_EQ(unstage(id, "/stage").error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(stage(id, "/stage").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(publish(id, "/pod/a").error_code(), StatusCode::NOT_FOUND);
}

TEST_F(Csi, ShowsABlockDevice) {
  const std::string id = made(creating("v", kGi, true));
  EXPECT_EQ(stage(id, "/stage").error_code(), StatusCode::FAILED_PRECONDITION) << "it has no file system";
  EXPECT_TRUE(stage(id, "/stage", true).ok());
  EXPECT_TRUE(publish(id, "/dev/in/pod", Mode::SINGLE_NODE_WRITER, true).ok());
  EXPECT_EQ(places_.shown.at("/dev/in/pod"), "/dev/fake-v");
  EXPECT_EQ(unstage(id, "/stage").error_code(), StatusCode::FAILED_PRECONDITION) << "it is still shown";
  EXPECT_TRUE(control_.volumes.at("v").attachment.has_value());
  EXPECT_TRUE(unpublish(id, "/dev/in/pod").ok());
  EXPECT_TRUE(unstage(id, "/stage").ok());
  EXPECT_FALSE(control_.volumes.at("v").attachment.has_value());
  EXPECT_EQ(publish(id, "/dev/in/pod", Mode::SINGLE_NODE_READER_ONLY, true).error_code(), StatusCode::INVALID_ARGUMENT);
  // Another node has it by now: what comes late from here does not take it away there.
  EXPECT_TRUE(stage(id, "/stage", true).ok());
  control_.volumes.at("v").attachment->here = false;
  EXPECT_TRUE(unstage(id, "/stage").ok());
  EXPECT_TRUE(control_.volumes.at("v").attachment.has_value());
}

TEST_F(Csi, PathsAreChecked) {
  const std::string id = made(creating("v"));
  for (const std::string& bad : {std::string(), std::string("relative"), std::string("/a/../b"), std::string("/"),
                                 "/" + std::string(500, 'x')}) {
    EXPECT_EQ(stage(id, bad).error_code(), StatusCode::INVALID_ARGUMENT) << bad;
    EXPECT_EQ(unpublish(id, bad).error_code(), StatusCode::INVALID_ARGUMENT) << bad;
  }
}

TEST_F(Csi, TellsWhatFitsAndHowMuch) {
  const std::string id = made(creating("v"));
  csi::ValidateVolumeCapabilitiesRequest in;
  in.set_volume_id(id);
  const auto validate = [&] {
    return ask<ControllerStub, csi::ValidateVolumeCapabilitiesResponse>(*controller_,
                                                                        &ControllerStub::ValidateVolumeCapabilities, in);
  };
  EXPECT_EQ(validate().first.error_code(), StatusCode::INVALID_ARGUMENT);
  want(in.add_volume_capabilities());
  (*in.mutable_volume_context())["k"] = "v";
  EXPECT_EQ(validate().second.confirmed().volume_capabilities_size(), 1);
  EXPECT_EQ(validate().second.confirmed().volume_context().at("k"), "v");
  in.mutable_volume_capabilities(0)->mutable_mount()->set_fs_type("xfs");
  EXPECT_FALSE(validate().second.has_confirmed());
  EXPECT_THAT(validate().second.message(), HasSubstr("ext4"));
  want(in.mutable_volume_capabilities(0), Mode::MULTI_NODE_MULTI_WRITER);
  EXPECT_FALSE(validate().second.has_confirmed());
  in.set_volume_id("none");
  EXPECT_EQ(validate().first.error_code(), StatusCode::NOT_FOUND);

  csi::GetCapacityRequest room;
  (*room.mutable_parameters())["fs"] = "xfs";
  const auto ask_room = [&] {
    return ask<ControllerStub, csi::GetCapacityResponse>(*controller_, &ControllerStub::GetCapacity, room).second;
  };
  EXPECT_EQ(ask_room().available_capacity(), 5 * kGi);
  EXPECT_EQ(control_.last_sized.fs, spec::FsType::kXfs);
  EXPECT_EQ(ask_room().minimum_volume_size().value(), 300 << 20);
  (*room.mutable_accessible_topology()->mutable_segments())["holdfast/cluster"] = "another";
  EXPECT_EQ(ask_room().available_capacity(), 0);

  csi::ControllerGetVolumeRequest get;
  get.set_volume_id(id);
  cluster::VolumeInfo& volume = control_.volumes.at("v");
  volume.state = cluster::VolumeState::kLost;
  volume.message = "its pool does not have it";
  const auto got = ask<ControllerStub, csi::ControllerGetVolumeResponse>(*controller_, &ControllerStub::ControllerGetVolume, get);
  EXPECT_TRUE(got.second.status().volume_condition().abnormal());
  EXPECT_EQ(got.second.status().volume_condition().message(), "its pool does not have it");
}

TEST(BusyNames, TheSecondWaitsAndThenIsToldSo) {
  BusyNames names(std::chrono::milliseconds(50));
  {
    const Result<BusyNames::Hold> first = names.take("v");
    ASSERT_TRUE(first.ok());
    EXPECT_TRUE(names.take("w").ok());
    EXPECT_EQ(names.take("v").code(), ErrorCode::kConflict);
  }
  EXPECT_TRUE(names.take("v").ok());
  // Not one of many is lost, and they are alone each.
  BusyNames patient;
  std::vector<std::thread> threads;
  int inside = 0, done = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 50; ++n) {
        const Result<BusyNames::Hold> hold = patient.take("v");
        if (!hold.ok() || ++inside != 1) continue;
        ++done;
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 400);
}

}  // namespace
}  // namespace hf::api::csi_driver
