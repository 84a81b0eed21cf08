// Plane: the operations themselves, without bounds and time limits (control_plane.h adds them). One
// file per verb implements its part of this class. Private to the room.
//
// A verb: enter() the volume's section (one at a time per volume), load() its view, settle() what
// is unfinished, decide, then intent → ports → done. A view whose Batch failed is not used any
// further: the error goes up, and the operation is asked again from the start (all are idempotent).
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/catalog.h"
#include "cluster/control_plane.h"
#include "cluster/keyed_mutex.h"
#include "cluster/replicas.h"
#include "runtime/gate.h"
#include "runtime/sync.h"

namespace hf::cluster {

// Writers wait no longer than this for a snapshot. The cut itself takes milliseconds.
inline constexpr Duration kFreezeLimit = std::chrono::seconds(10);

// Holders who mount by hand have no name but the place.
inline constexpr char kPathHolder[] = "path:";

// What the store says of one volume.
struct View {
  View() = default;
  KeptVolume volume;
  std::optional<KeptAttachment> attachment;
  NodeId taken_from;  // by take_from_other(), without its consent; recorded by begin_serving()
  NodeId away;        // the same where it did not answer
  bool untouched = false;  // its kernel device is made by this call, for nobody else: nothing has written through it
};

// The right to work on a volume (or two).
struct Section {
  Section() = default;
  KeyedMutex::Guard first;
  KeyedMutex::Guard second;
  SemaphoreUnits driving;
};

class Plane {
 public:
  Plane(ControlPorts ports, const ControlOptions& options);

  // create_volume.cc, clone.cc, delete_volume.cc
  Task<Result<VolumeInfo>> create(const CreateVolume& request);
  Task<Result<uint64_t>> largest(const CreateVolume& request);
  Task<Result<VolumeInfo>> clone(const CloneVolume& request);
  Task<Status> remove(const DeleteVolume& request);
  // resize.cc, update.cc
  Task<Result<VolumeInfo>> resize(std::string name, uint64_t size_bytes);
  Task<Result<VolumeInfo>> update(const UpdateVolume& request);
  // attach.cc, detach.cc, mount.cc, unmount.cc
  Task<Result<VolumeInfo>> attach(const AttachVolume& request);
  Task<Status> detach(std::string name);
  Task<Result<MountInfo>> mount(const MountVolume& request);
  Task<Status> unmount(const UnmountVolume& request);
  // snapshot.cc, restore.cc
  Task<Result<SnapshotInfo>> create_snapshot(const CreateSnapshot& request);
  Task<Result<std::vector<SnapshotInfo>>> list_snapshots(std::string volume);
  Task<Status> delete_snapshot(std::string volume, std::string snapshot);
  Task<Result<VolumeInfo>> restore(std::string volume, std::string snapshot);
  // pools.cc
  Task<Result<PoolInfo>> add_pool(const AddPool& request);
  Task<Result<std::vector<PoolInfo>>> list_pools();
  Task<Result<PoolInfo>> inspect_pool(std::string pool);
  Task<Result<PoolInfo>> expand_pool(std::string pool, uint64_t size_bytes);
  // nodes.cc
  Task<Result<NodeInfo>> drain(std::string node, bool undo);
  Task<Result<NodeInfo>> check_decommission(std::string node, bool force);
  Task<Status> forget_node(NodeId node);
  Task<Result<VolumeInfo>> move(const MoveVolume& request);
  Task<Status> take(VolumeId volume, bool stays, bool force);
  // scrub.cc
  Task<Result<ScrubInfo>> scrub(const ScrubVolume& request);
  Task<Result<ScrubInfo>> scrub_here(VolumeId volume, uint64_t bytes_per_second, bool only_look);
  Task<void> scrub_what_is_due();
  Task<void> stop_scrubs();
  // promote.cc
  Task<Result<Promotion>> promote(const PromoteVolume& request);
  // remove_pool.cc
  Task<Result<PoolRemoval>> remove_pool(const RemovePool& request);
  // inspect.cc
  Task<Result<VolumeInfo>> inspect(std::string name);
  Task<Result<std::vector<VolumeInfo>>> list();
  Task<Result<std::vector<NodeInfo>>> list_nodes();
  Task<Result<ClusterStatus>> status();
  // reconcile.cc
  Task<Status> register_node();
  // True: all is well; false: something is left to be tried again soon.
  Task<bool> reconcile(bool at_start);
  Task<Status> park() { return ports_.exporter.park(); }
  // Whether something has happened since the last call that a pass of the reconciler may be due for.
  bool take_changed() { return std::exchange(changed_, false); }
  // neighbours.cc: asks every other node, and lets go of what was taken over. Often.
  Task<void> look_around();
  // members.cc, neighbours.cc: what other nodes ask (peers.h).
  Task<Result<NodeFacts>> facts();
  Task<Status> converge_members(VolumeId volume);
  Task<Status> settle_here(VolumeId volume);
  Task<Status> let_go(VolumeId volume);
  Task<Status> detach_here(VolumeId volume);
  Task<Result<std::vector<MemberInfo>>> members_here(VolumeId volume);
  Task<Result<std::vector<SnapshotId>>> snapshots_here(VolumeId volume);

 private:
  // ---- plane.cc: what the verbs share
  // The volume's name from a name, an id or an inline spec.
  Task<Result<std::string>> name_of(std::string text);
  Task<Result<Section>> enter(std::string name);
  // Empty: there is no such volume.
  Task<Result<std::optional<View>>> load(std::string name);
  // The view of a volume that is there and settled; kNotFound otherwise.
  Task<Result<View>> load_settled(std::string name);
  // The same, of a volume whose data can be reached; kFailedPrecondition for one that is lost or in a
  // pool that is not open. Before any intent: what is refused for that leaves nothing to be done later.
  Task<Result<View>> load_usable(std::string name);
  // Finishes what was begun on the volume: create, restore, resize, delete. kNotFound when it is
  // gone afterwards.
  Task<Status> settle(View& view);
  Task<Status> finish_all(View& view);
  Task<Status> put(KeptVolume& volume);
  Task<Status> put(KeptAttachment& attachment);
  Result<MemberRecord> local_member(const VolumeRecord& volume) const;
  Status check_pools_open(const VolumeRecord& volume) const;
  std::string primary_path(const VolumeRecord& volume) const;
  // As the kernel shows a mount there: the one name by which it is recorded and found again.
  Task<Result<std::string>> place_of(std::string path);
  Error not_found(std::string_view name) const;
  WallTime now() const { return ports_.clock.wall(); }

  // ---- members.cc: replicas on all their nodes, the device over them, who has it
  using MemberStep = std::function<Task<Status>(MemberRecord)>;
  using VolumeStep = std::function<Task<Status>(VolumeId)>;
  bool is_here(const View& view) const;
  bool is_elsewhere(const View& view) const;
  Task<Status> on_members(const VolumeRecord& record, MemberStep step);
  Task<Status> make_replica(const VolumeRecord& record, MemberRecord member);
  Task<Status> remove_replica(const VolumeRecord& record, MemberRecord member);
  Task<Status> move_replica(const VolumeRecord& record, MemberRecord member);
  Task<Status> restore_replica(const VolumeRecord& record, MemberRecord member);
  Task<Status> remove_cut(MemberRecord member, SnapshotId snapshot);
  Task<Result<std::shared_ptr<BlockDevice>>> open_device(const VolumeRecord& record, uint64_t epoch,
                                                         NodeId away);
  Task<Status> close_device(const VolumeRecord& record);
  Task<Status> through_device(const View& view, VolumeStep step);
  Task<Status> configure(const VolumeRecord& record);
  Task<Result<std::optional<View>>> enter_by_id(VolumeId volume, Section* section);
  // The volume is attached nowhere afterwards, or `view.attachment` is this node's, to be begun.
  Task<Status> take_from_other(View& view, bool force);
  Task<Status> ask_to_let_go(VolumeId volume, NodeId other);
  AttachmentRecord own_attachment(VolumeId volume) const;
  Task<Result<std::string>> expel(const VolumeRecord& record, const ExportInfo* orphan);
  Task<Result<std::string>> expel_device(const VolumeRecord& record, const ExportInfo* orphan);
  Task<bool> look_for_expelled(bool only_fenced);
  // ---- placement.cc: where replicas go, and how well they stand
  // The other volumes of a volume's group, and what keeps two from being placed at once.
  struct Group {
    std::string key;  // empty: it is of none
    std::optional<KeptName> token;
    std::map<NodeId, std::vector<std::string>> volumes;  // that have a replica there, by name
  };
  Task<Result<Group>> look_at_group(const VolumeRecord& record);
  PlacementRequest request_for(const VolumeRecord& record, const Group& group) const;
  FailureDomain domain_of(NodeId node) const;
  Seat seat_of(const VolumeRecord& record, const MemberRecord& member) const;
  // What is wrong with where its replicas stand; mostly empty. From memory.
  std::string placement_trouble(const VolumeRecord& record) const;
  std::string group_trouble(const VolumeRecord& record, const Group& group) const;
  // Of all volumes, one sentence for those that have the same trouble.
  void tell_placement(const std::vector<KeptVolume>& volumes, std::vector<std::string>* problems) const;
  // ---- tend_replicas.cc: as many replicas as wanted, on nodes that stay
  struct Surroundings {
    std::vector<PoolFacts> all_pools;
    std::map<PoolId, const PoolFacts*> pools;  // the same
    DomainKinds kinds;
    std::map<VolumeId, std::vector<MemberInfo>> members;
  };
  Task<Result<Surroundings>> look_at_surroundings();
  std::vector<ReplicaFacts> replica_facts(const VolumeRecord& record, const std::vector<MemberInfo>& told,
                                          const Surroundings& around) const;
  // The same as the volume's configuration says it now.
  Task<Result<std::vector<ReplicaFacts>>> replica_facts_now(const VolumeRecord& record, const Surroundings& around);
  bool replicas_need_work(const VolumeRecord& record, const AttachmentRecord* attachment,
                          const Surroundings& around) const;
  // One that would stand better elsewhere, and may be moved now.
  std::optional<size_t> better_elsewhere(const VolumeRecord& record, const std::vector<ReplicaFacts>& facts,
                                         const Surroundings& around, NodeId user) const;
  Task<Status> tend_replicas(View& view, const Surroundings& around);
  Task<Status> decide_replicas(View& view, const Surroundings& around);
  Status place_joiners(VolumeRecord& record, const std::vector<ReplicaFacts>& facts, const ReplicaPlan& plan,
                       const Surroundings& around, const Group& group, NodeId user, bool* changed);
  Task<Status> act_on_replicas(View& view, const Surroundings& around);
  Task<Status> bring_in(const VolumeRecord& record, MemberRecord member, ReplicaFacts facts);
  Task<Result<bool>> take_out_replica(const VolumeRecord& record, MemberRecord member, ReplicaFacts facts);
  Task<Status> converge_on(VolumeId volume, NodeId node);
  // For its users, and with its data.
  bool is_served(VolumeId volume) const;
  Task<Status> care_for(View& view);
  Task<Status> stop_caring(const VolumeRecord& record);
  Task<void> drop_fenced_cares();
  Task<void> nudge(View& view);
  // ---- neighbours.cc
  std::string node_name(NodeId node) const;
  bool is_online(NodeId node) const;
  NodeFacts own_facts_without_pools() const;
  Task<Status> read_neighbours();
  Task<void> ask(NodeId node);
  Task<void> ask_neighbours();
  bool is_responsible(const VolumeRecord& volume, const AttachmentRecord* attachment) const;

  // ---- verbs' own parts
  Task<Result<VolumeInfo>> create_from_parent(const CreateVolume& request);
  Task<Result<VolumeInfo>> reuse(View& view, const CreateVolume& request);
  Task<Status> plan_members(VolumeRecord& record, const Group& group, NodeId near);
  Task<Status> begin_create(KeptVolume& volume, const Group& group);
  Task<Status> finish_create(View& view);
  Task<Status> make_replicas(const VolumeRecord& record);
  Task<Result<KeptSnapshot>> snapshot_to_clone(View& parent, std::string name);
  Task<Result<std::vector<MemberRecord>>> clone_origins(const VolumeRecord& from, SnapshotId snapshot);
  Task<Status> drop_clone_source(const CloneSource& source);
  Task<Status> undo_create(View& view);
  Task<Status> finish_delete(View& view);
  Task<Status> remove_replicas(const VolumeRecord& record);
  Task<Status> finish_resize(View& view, Status* behind);
  Task<Status> grow_replicas(View& view);
  Task<Status> resize_there(View& view);
  Task<Status> follow_size(View& view, uint64_t size_bytes);
  Task<Status> grow_to(View& view, uint64_t size_bytes);
  Task<Status> check_all_in_sync(const VolumeRecord& record, const SnapshotRecord& snapshot);
  Task<Result<bool>> has_snapshot(VolumeId volume, MemberRecord member, SnapshotId snapshot);
  Task<Status> finish_restore(View& view);
  Task<Result<KeptSnapshot>> cut_snapshot(View& view, std::string name,
                                          const std::map<std::string, std::string>& labels,
                                          bool freeze);
  Task<Status> cut_frozen(View& view, KeptSnapshot& snapshot);
  Task<Status> cut_replicas(const View& view, const KeptSnapshot& snapshot);
  Task<Result<bool>> is_freezable(View& view);
  Task<Status> thaw(View& view);
  Task<Status> drop_snapshot(const VolumeRecord& volume, KeptSnapshot& snapshot);
  Task<Result<std::optional<KeptSnapshot>>> find_snapshot(const VolumeRecord& volume,
                                                          std::string text);
  Task<Status> settle_snapshots(View& view);
  Task<Result<bool>> is_clone_source(SnapshotId snapshot);

  // attach.cc
  Task<Status> serve(View& view, ExportKind kind);
  Task<Status> begin_serving(View& view);
  Task<Status> bring_up(View& view, ExportKind kind);
  Task<Result<ExportInfo>> export_own(const VolumeRecord& record, ExportKind kind,
                                      const std::shared_ptr<BlockDevice>& device);
  Task<Status> forget_dead_attachment(View& view);
  // detach.cc: "" when the device is out of the kernel, else why it is still used.
  Task<Result<std::string>> release(View& view);
  Task<Result<std::string>> take_out(View& view, bool* unmounted);
  Task<Status> mount_back(View& view);
  // Drops holders that are certainly or (by grace) probably gone; kInUse naming who is there.
  Task<Status> release_if_unused(View& view, Duration docker_grace);
  Task<Result<std::vector<HolderRecord>>> live_holders(const View& view, Duration docker_grace);
  // mount.cc, unmount.cc
  // `unrecorded`: set when only the attachment's record is left to be written, which the caller
  // then does with its own change (one durable write less before a container starts). Null: written
  // here.
  Task<Status> ensure_primary(View& view, bool* unrecorded);
  Task<void> undo_mount(View& view);
  Task<Status> make_file_system(View& view);
  Task<Status> check_blank(View& view);
  Task<Result<uint64_t>> first_written(BlockDevice& device, uint64_t from);
  Task<Status> forget_half_made(View& view);
  FilesystemSpec filesystem_spec(const VolumeRecord& volume) const;
  Task<Result<MountInfo>> add_holder(View& view, const MountVolume& request, bool unrecorded);
  Task<Status> drop_holder(View& view, size_t index);
  Task<Status> finish_holders(View& view);
  Task<Status> unmount_only(View& view);
  Task<Result<bool>> others_wait_for_lost(const View& view, const UnmountVolume& request);

  // nodes.cc
  struct Ties {
    std::vector<std::string> replicas, only_there, attached;  // names of volumes
  };
  Task<Result<KeptNode>> find_node(std::string text);
  Task<Result<NodeInfo>> node_info(NodeId id);
  Task<Result<Ties>> ties_of(NodeId node);
  // pools.cc
  Task<Result<PoolInfo>> pool_info(const PoolRecord& record, uint64_t provisioned,
                                   uint32_t replicas);
  Task<Result<std::vector<PoolInfo>>> pool_infos();
  Task<Status> finish_pool(KeptPool& pool, const AddPool* request);
  Task<Result<KeptPool>> find_pool(std::string text);
  // remove_pool.cc
  struct PoolTies {
    std::vector<std::string> all, only_here, elsewhere_too, only_in_sync;  // names of volumes
  };
  Task<Result<PoolTies>> ties_of_pool(PoolId pool);
  Task<Status> check_removable(const RemovePool& request, const PoolRemoval& removal, const PoolTies& ties, bool open);
  Task<Status> remove_open_pool(KeptPool& pool);
  Task<Status> remove_dead_pool(KeptPool& pool);
  Task<Status> finish_removal(KeptPool& pool);
  // promote.cc
  Status check_lost_for_good(const VolumeRecord& record, const MemberInfo& member, const std::vector<PoolInfo>& pools,
                             const std::vector<std::string>& declared) const;
  // scrub.cc
  struct ScrubJob {
    ScrubJob() = default;
    std::string name;
    uint64_t bytes_per_second = 0;
    WallTime begun;
    ScrubFindings so_far;
    MonoTime saved;
    bool saving = false, over = false;
    CancelSource cancel;
  };
  enum class ScrubStep : uint8_t { kGoesOn, kCutShort, kWhole };
  Result<NodeId> scrubs_at(const VolumeRecord& record, const AttachmentRecord* attachment) const;
  ScrubInfo scrub_info(const VolumeRecord& record, const ScrubRecord* scrub) const;
  void begin_scrub(const VolumeRecord& record, uint64_t bytes_per_second);
  Task<void> run_scrub(VolumeId volume, std::shared_ptr<ScrubJob> job);
  Task<Status> scrub_round(VolumeId volume, std::shared_ptr<ScrubJob> job);
  Task<void> save_scrub(VolumeId volume, std::shared_ptr<ScrubJob> job);
  Task<Status> keep_scrub(VolumeId volume, std::shared_ptr<ScrubJob> job, ScrubStep step, std::string message);
  void tell_scrubs(const std::vector<KeptVolume>& volumes, const std::vector<KeptScrub>& scrubs,
                   std::vector<std::string>* problems) const;
  // inspect.cc
  // `told`: what the configurations say; null: the volume's own is asked for, and of who serves it how far it is.
  using Told = std::map<VolumeId, std::vector<MemberInfo>>;
  Task<VolumeInfo> info_of(const View& view, uint32_t snapshots, const Told* told);
  Task<void> describe_replicas(const View& view, const Told* told, VolumeInfo* info);
  std::string why_degraded(const VolumeRecord& record, const Told& told) const;
  Task<Result<Told>> all_told();
  Task<Result<VolumeInfo>> info(const View& view);
  SnapshotInfo info_of(const SnapshotRecord& snapshot, const VolumeRecord& volume) const;
  Task<Result<std::vector<PoolFacts>>> pool_facts();
  // reconcile.cc
  Task<bool> converge_pools();
  Task<bool> converge_volumes(bool at_start);
  Task<Status> converge(std::string name, bool at_start, const Surroundings* around);
  Task<Status> converge_attachment(View& view, bool at_start);
  Task<Result<bool>> is_wanted(const View& view);
  Task<bool> look_for_orphans();
  Task<bool> look_for_left_behind();
  Task<Result<bool>> clear_away(VolumeId volume, std::string name);
  Task<bool> look_for_strays();
  // lost.cc
  Task<bool> look_for_lost();
  Task<Result<bool>> is_lost(std::string name, VolumeId id);
  // Of an attached volume: nobody in this process serves its data, since there is none.
  bool is_without_data(const View& view) const;
  // The same, and its users wait.
  bool waits_for_lost(const View& view) const;
  // serve(), for who wants the volume to leave the kernel: also where its data is lost.
  Task<Status> serve_to_let_go(View& view);
  Task<Status> converge_lost(View& view);

  ControlPorts ports_;
  const ControlOptions& options_;
  const uint64_t instance_;
  Catalog catalog_;
  KeyedMutex locks_;
  Semaphore driving_{kMaxDriving};

  // What only this process knows.
  struct Served {
    std::shared_ptr<BlockDevice> device;
    std::string path;  // of the kernel's device
    uint64_t epoch = 0;
    // `device` stands in for data that is lost, or that another node has taken over.
    bool given_up = false;
  };
  struct Neighbour {
    std::string name;
    std::string address;
    FailureDomain domain;
    bool online = false;
    int silences = 0;
    std::string why;  // it does not answer
    NodeFacts facts;  // as of its last answer
  };
  std::map<VolumeId, Served> served_;
  std::map<PoolId, std::string> closed_pools_;  // pools that could not be opened, and why
  std::set<PoolId> open_pools_;
  std::set<PoolId> removed_pools_;  // that replicas of this node are recorded in, and that have no record any more
  std::map<VolumeId, std::string> troubles_;  // what the reconciler could not mend
  std::map<VolumeId, std::string> lost_;      // whose replica its pool does not have, and what to do
  std::vector<std::string> findings_;         // orphans and strays
  std::set<VolumeId> unfinished_;   // whose replicas are being moved or copied, and looked at again soon
  std::set<VolumeId> cared_for_;    // served here although nobody uses them: they are being copied
  std::map<VolumeId, MonoTime> care_rests_;
  std::map<VolumeId, std::shared_ptr<ScrubJob>> scrubs_;  // that run here
  std::map<VolumeId, MonoTime> scrub_rests_;              // after an error
  MonoTime next_scrub_look_{};
  Gate scrubbing_;
  bool changed_ = false;
  std::map<NodeId, Neighbour> neighbours_;
  std::map<VolumeId, std::string> expelled_;  // taken from this node and still in its kernel: who has to end
};

// Whether a port's failure says that nothing will come of the request (undo it), rather than that
// this process is ending or nobody knows.
bool is_refusal(ErrorCode code);
// What is said of a volume whose only replica was in a pool that was removed.
std::string why_removed(const std::string& volume, PoolId pool);
bool is_docker(const std::string& holder);
// Its pool is open and serves what it holds.
bool is_there(const PoolInfo& pool);
// "a, b and 3 more": the first `shown` of them.
std::string listed(const std::vector<std::string>& names, size_t shown);
// The same path without what does not change it ("//", "/./", a "/" at the end). kInvalidArgument: not absolute, too
// long, or with "..".
Result<std::string> plain_path(const std::string& path);

}  // namespace hf::cluster
