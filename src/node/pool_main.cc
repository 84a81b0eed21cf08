// holdfast-pool: inspect, verify and export a pool that no daemon serves. Changes nothing in it.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "format/pool_file.h"
#include "mount/pool_host.h"
#include "runtime/file.h"
#include "store/offline.h"
#include "uring/owned_fd.h"
#include "uring/uring_world.h"

namespace hf::node {
namespace {

using nlohmann::json;

struct Args {
  std::string path, replica, to;
  bool as_json = false;
};

// Writes an image to a sparse file, or to standard output with the holes as zeroes.
class FileSink : public ExportSink {
 public:
  FileSink(int fd, bool seekable) : fd_(fd), seekable_(seekable) {}
  Task<Status> data(uint64_t offset, ByteSpan bytes) override {
    if (!seekable_) {
      Status filled = fill_to(offset);
      HF_CO_TRY(filled);
    }
    Status done = write_all(offset, bytes);
    HF_CO_TRY(done);
    at_ = offset + bytes.size();
    co_return Status();
  }
  // The rest up to the image's size.
  Status finish(uint64_t size) {
    if (!seekable_) return fill_to(size);
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0 || ::fsync(fd_) != 0) {
      return Error::from_errno(errno, "finish the image");
    }
    return {};
  }

 private:
  Status write_all(uint64_t offset, ByteSpan bytes) {
    while (!bytes.empty()) {
      const ssize_t n = seekable_ ? ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset))
                                  : ::write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Error::from_errno(n < 0 ? errno : EIO, "write the image");
      bytes = bytes.subspan(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return {};
  }
  Status fill_to(uint64_t offset) {
    static const AlignedBuffer zeros = AlignedBuffer::zeroed(kMiB);
    while (at_ < offset) {
      const size_t n = static_cast<size_t>(std::min<uint64_t>(kMiB, offset - at_));
      HF_TRY(write_all(at_, zeros.span().subspan(0, n)));
      at_ += n;
    }
    return {};
  }
  int fd_;
  bool seekable_;
  uint64_t at_ = 0;
};

// Brings the pool's file system up for the time of one command.
class OfflinePool {
 public:
  explicit OfflinePool(World world)
      : world_(world),
        run_dir_(fmt::format("/run/holdfast-pool.{}", ::getpid())),
        host_(world, run_dir_) {}

  Task<Result<PoolConfig>> open(std::string path) {
    if (::mkdir(run_dir_.c_str(), 0700) != 0) co_return Error::from_errno(errno, "make " + run_dir_);
    // A directory's identity tells which loop device may be there already: a second one over the same image
    // would be two file systems on one disk.
    Result<std::string> text = co_await world_.fs.read_file(path + "/pool.json", kMaxPoolFileBytes);
    if (text.ok()) {
      Result<PoolFile> identity = decode_pool_file(*text);
      HF_CO_TRY(identity);
      pool_ = identity->pool;
    }
    Result<mount::PoolStorage> storage = co_await host_.open(pool_, path);
    if (storage.code() == ErrorCode::kLocked) co_return served(path);
    HF_CO_TRY(storage);
    PoolConfig config;
    config.journal_dir = storage->journal_dir;
    config.data_dir = storage->data_dir;
    OpenOptions options;
    options.write = true;
    Result<std::unique_ptr<File>> journal =
        co_await world_.fs.open(config.journal_dir + "/journal", options);
    HF_CO_TRY(journal);
    if (!(*journal)->try_lock().ok()) co_return served(path);
    lock_ = std::move(*journal);
    co_return config;
  }

  Task<void> close() {
    lock_.reset();
    Status closed = co_await host_.close(pool_);
    // In use: an earlier daemon left it mounted elsewhere, and there it stays.
    if (!closed.ok() && closed.code() != ErrorCode::kInUse) {
      std::fprintf(stderr, "holdfast-pool: %s\n", closed.error().to_string().c_str());
    }
    ::rmdir((run_dir_ + "/pools/" + pool_.to_string()).c_str());
    ::rmdir((run_dir_ + "/pools").c_str());
    ::rmdir(run_dir_.c_str());
  }

 private:
  static Error served(const std::string& path) {
    return make_error(ErrorCode::kLocked, "a daemon serves {}; stop it first (systemctl stop holdfastd)", path);
  }
  World world_;
  std::string run_dir_;
  mount::PoolHost host_;
  PoolId pool_;
  std::unique_ptr<File> lock_;
};

json replica_json(const ReplicaInfo& replica, const ReplicaBooks& books) {
  json out = {{"replica", replica.replica.to_string()},
              {"volume", replica.volume.to_string()},
              {"size_bytes", replica.size_bytes},
              {"snapshots", replica.snapshots},
              {"promised_epoch", replica.promised_epoch},
              {"commit", {{"epoch", books.commit.epoch}, {"sequence", books.commit.sequence}}},
              {"window_bytes", books.window_bytes},
              {"missed_bytes", json::object()}};  // by slot of the absent member
  for (size_t slot = 0; slot < books.dirty_bytes.size(); ++slot) {
    if (books.dirty_bytes[slot] > 0) out["missed_bytes"][std::to_string(slot)] = books.dirty_bytes[slot];
  }
  return out;
}

Task<Status> inspect(World world, PoolConfig config, const Args& args) {
  Result<PoolInspection> found = co_await inspect_pool(world, config);
  HF_CO_TRY(found);
  json body = {{"pool", found->pool.to_string()},
               {"cluster", found->cluster.to_string()},
               {"node", found->node.to_string()},
               {"format", found->format},
               {"clean", found->clean},
               {"journal_bytes", found->journal_bytes},
               {"undrained_records", found->undrained_records},
               {"undrained_bytes", found->undrained_bytes},
               {"replicas", json::array()}};
  if (found->journal_error) body["journal_error"] = found->journal_error->message();
  for (size_t i = 0; i < found->replicas.size(); ++i) {
    body["replicas"].push_back(replica_json(found->replicas[i], found->books[i]));
  }
  std::printf("%s\n", args.as_json ? body.dump(2).c_str() : body.dump(1).c_str());
  co_return Status();
}

// Damage is corruption; what could not be read has the code of that.
Error verdict(const VerifyReport& report) {
  ErrorCode code = report.findings.front().code;
  for (const VerifyFinding& finding : report.findings) {
    if (finding.code == ErrorCode::kCorruption) code = finding.code;
  }
  std::string unjudged;
  if (report.unjudged_blocks > 0) {
    unjudged = fmt::format(", and {} blocks that cannot be judged without the journal", report.unjudged_blocks);
  }
  return make_error(code, "{} findings{}; export what is readable with \"holdfast pool export\"",
                    report.findings_total, unjudged);
}

Task<Status> verify(World world, PoolConfig config, const Args& args) {
  Result<VerifyReport> report = co_await verify_pool(world, config);
  HF_CO_TRY(report);
  json body = {{"replicas", report->replicas},
               {"segments", report->segments},
               {"blocks", report->blocks},
               {"batches", report->batches},
               {"findings", json::array()},
               {"unjudged_blocks", report->unjudged_blocks},
               {"unjudged", report->unjudged}};
  for (const VerifyFinding& finding : report->findings) body["findings"].push_back(finding.what);
  if (args.as_json) {
    std::printf("%s\n", body.dump(2).c_str());
  } else {
    std::printf("checked %lu replicas, %lu segments, %lu blocks, %lu journal batches: %lu findings\n",
                report->replicas, report->segments, report->blocks, report->batches, report->findings_total);
    for (const VerifyFinding& finding : report->findings) std::printf("! %s\n", finding.what.c_str());
    for (const std::string& line : report->unjudged) std::printf("? %s\n", line.c_str());
  }
  if (report->findings_total == 0) co_return Status();
  co_return verdict(*report);
}

// "id" or "id@snapshot"; the id is a replica's or a volume's.
Task<Status> export_one(World world, PoolConfig config, const Args& args) {
  const size_t at = args.replica.find('@');
  SnapshotId snapshot;
  if (at != std::string::npos) {
    const auto parsed = SnapshotId::parse(std::string_view(args.replica).substr(at + 1));
    if (!parsed) co_return make_error(ErrorCode::kInvalidArgument, "\"{}\": behind @ stands a snapshot's id", args.replica);
    snapshot = *parsed;
  }
  const std::string id = args.replica.substr(0, at);
  Result<PoolInspection> found = co_await inspect_pool(world, config);
  HF_CO_TRY(found);
  std::optional<ReplicaId> replica;
  for (const ReplicaInfo& info : found->replicas) {
    if (info.replica.to_string() == id || info.volume.to_string() == id) replica = info.replica;
  }
  if (!replica) co_return make_error(ErrorCode::kNotFound, "the pool has no replica or volume {}", id);
  const bool to_stdout = args.to == "-";
  OwnedFd file(to_stdout ? ::dup(STDOUT_FILENO)
                         : ::open(args.to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) co_return Error::from_errno(errno, "make " + args.to);
  FileSink sink(file.get(), !to_stdout);
  Result<uint64_t> size = co_await export_replica(world, config, *replica, snapshot, sink);
  HF_CO_TRY(size);
  co_return sink.finish(*size);
}

using Command = Task<Status> (*)(World, PoolConfig, const Args&);

Task<void> run(World world, Command command, const Args& args, Status* result) {
  OfflinePool pool(world);
  Result<PoolConfig> config = co_await pool.open(args.path);
  if (config.ok()) {
    *result = co_await command(world, *config, args);
  } else {
    *result = config.error();
  }
  co_await pool.close();
}

int main_with(int argc, char** argv) {
  Args args;
  Command command = nullptr;
  CLI::App app("Looks at a pool that no daemon serves, and changes nothing in it.", "holdfast-pool");
  app.require_subcommand(1);
  app.fallthrough();
  app.add_flag("--json", args.as_json, "print JSON");
  CLI::App* inspects = app.add_subcommand("inspect", "Show identity, journal and replicas");
  CLI::App* verifies = app.add_subcommand("verify", "Check every checksum");
  CLI::App* exports = app.add_subcommand("export", "Write a replica's image to a raw file");
  for (CLI::App* sub : {inspects, verifies, exports}) {
    sub->add_option("path", args.path, "the pool's directory or device")->required();
  }
  exports->add_option("replica", args.replica, "replica or volume id, or id@snapshot-id")->required();
  exports->add_option("to", args.to, "a file to make, or - for standard output")->required();
  inspects->callback([&command] { command = &inspect; });
  verifies->callback([&command] { command = &verify; });
  exports->callback([&command] { command = &export_one; });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : error_info(ErrorCode::kInvalidArgument).exit_code;
  }
  set_log_level(LogLevel::kWarn);
  Result<std::unique_ptr<UringWorld>> real = UringWorld::create(UringWorldOptions());
  Status result;
  if (real.ok()) {
    (*real)->loop().run_until(run((*real)->world(), command, args, &result));
  } else {
    result = real.error();
  }
  if (result.ok()) return 0;
  if (args.as_json) {
    const ErrorInfo& info = result.error().info();
    const json body = {{"error",
                        {{"code", fmt::format("HF{}", static_cast<int>(info.code))},
                         {"name", std::string(info.name)},
                         {"message", result.error().message()}}}};
    std::fprintf(stderr, "%s\n", body.dump(2, ' ', false, json::error_handler_t::replace).c_str());
  } else {
    std::fprintf(stderr, "holdfast-pool: %s\n", result.error().to_string().c_str());
  }
  return result.error().info().exit_code;
}

}  // namespace
}  // namespace hf::node

int main(int argc, char** argv) { return hf::node::main_with(argc, argv); }
