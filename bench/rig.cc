#include "rig.h"

#include <sys/stat.h>

#include <cerrno>

#include "format/segment_format.h"
#include "load.h"
#include "runtime/random.h"

namespace hf::bench {

Task<Status> Rig::make_storage() {
  for (const std::string& path : {options_.dir, options_.dir + "/run", options_.dir + "/pool"}) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) co_return Error::from_errno(errno, path);
  }
  pool_id_ = new_id<PoolId>(real_.world().random);
  std::string target = options_.dir + "/pool";
  if (options_.on_device) {
    const std::string image = options_.dir + "/device.img";
    fill_bare_file(image, 0, options_.pool_bytes);
    Result<loopdev::LoopInfo> loop = loopdev::attach(image, tag());
    HF_CO_TRY(loop);
    loop_ = *loop;
    target = loop->device();
  }
  Result<mount::PoolStorage> made =
      co_await files_.make(pool_id_, target, options_.on_device ? 0 : options_.pool_bytes, true);
  HF_CO_TRY(made);
  storage_ = *made;
  if (!options_.on_device) {
    bare_path_ = options_.dir + "/bare";
    fill_bare_file(bare_path_, 0, options_.span_bytes);
    co_return Status();
  }
  // The device grows behind the file system's back: what is behind its end is nobody's but the bare side's.
  bare_path_ = target;
  bare_start_ = options_.pool_bytes;
  fill_bare_file(options_.dir + "/device.img", options_.pool_bytes, options_.pool_bytes + options_.span_bytes);
  co_return loopdev::refresh_size(loop_);
}

Task<Status> Rig::make_pool() {
  PoolConfig config;
  config.journal_dir = storage_.journal_dir;
  config.data_dir = storage_.data_dir;
  config.large_write_bytes = options_.large_write_bytes;
  Result<std::unique_ptr<Pool>> pool = co_await Pool::create(real_.world(), config);
  HF_CO_TRY(pool);
  pool_ = std::move(*pool);
  fill_bare_file(xfs_file(), 0, options_.span_bytes);
  co_return Status();
}

Task<Result<std::shared_ptr<VolumeDevice>>> Rig::make_volume(ReplicaId id) {
  ReplicaSpec spec;
  spec.replica = id;
  spec.volume = new_id<VolumeId>(real_.world().random);
  spec.size_bytes = options_.volume_bytes;
  Result<std::shared_ptr<Replica>> replica = co_await pool_->create_replica(spec);
  HF_CO_TRY(replica);
  Result<std::unique_ptr<Coordinator>> coordinator = co_await Coordinator::open(*replica, 1);
  HF_CO_TRY(coordinator);
  co_return std::make_shared<VolumeDevice>(std::move(*coordinator));
}

Task<Status> Rig::delete_volume(ReplicaId id, std::shared_ptr<VolumeDevice> device) {
  co_await device->coordinator().close();
  device.reset();
  co_return co_await pool_->delete_replica(id);
}

Task<Status> Rig::set_up() {
  Status stored = co_await make_storage();
  HF_CO_TRY(stored);
  Status made = co_await make_pool();
  HF_CO_TRY(made);
  replica_ = new_id<ReplicaId>(real_.world().random);
  Result<std::shared_ptr<VolumeDevice>> volume = co_await make_volume(replica_);
  HF_CO_TRY(volume);
  device_ = std::move(*volume);
  // Reads measure media, not holes: the span is written once and drained.
  LoadJob fill;
  fill.device = device_.get();
  fill.span_bytes = options_.span_bytes;
  fill.block_bytes = 128 * kKiB;
  fill.depth = 8;
  fill.write = fill.sequential = true;
  fill.operations_max = options_.span_bytes / fill.block_bytes;
  (void)co_await run_load(fill);
  Status drained = co_await pool_->wait_drained();
  HF_CO_TRY(drained);
  nbd::NbdExport item;
  item.name = "bench";
  item.device = device_;
  Status added = exports_.add(std::move(item));
  HF_CO_TRY(added);
  ListenOptions listen;
  co_return co_await server_.listen("unix:" + nbd_socket(), listen);
}

BareJob Rig::bare() const {
  BareJob job;
  job.path = bare_path_;
  job.start_bytes = bare_start_;
  job.span_bytes = options_.span_bytes;
  return job;
}

BareJob Rig::bare_xfs() const {
  BareJob job;
  job.path = xfs_file();
  job.span_bytes = options_.span_bytes;
  return job;
}

BareJob Rig::bare_segments() const {
  BareJob job;
  job.span_bytes = options_.span_bytes;
  job.piece_bytes = 16 * kMiB;
  const std::string seg = storage_.data_dir + "/volumes/" + replica_.to_string() + "/seg/";
  for (uint32_t i = 0; i * job.piece_bytes < job.span_bytes; ++i) {
    job.pieces.push_back(seg + segment_name(i, 1));
  }
  return job;
}

Task<Status> Rig::tear_down() {
  co_await server_.stop();
  if (device_ != nullptr) co_await device_->coordinator().close();
  device_.reset();
  Status stopped;
  if (pool_ != nullptr) stopped = co_await pool_->stop();
  pool_.reset();
  Status closed = co_await files_.close(pool_id_);
  if (stopped.ok()) stopped = closed;
  if (loop_.number >= 0) {
    Status detached = loopdev::detach(loop_);
    if (!detached.ok()) detached = loopdev::detach_later(loop_);
    if (stopped.ok()) stopped = detached;
  }
  co_return stopped;
}

}  // namespace hf::bench
