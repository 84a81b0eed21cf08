#!/usr/bin/python3
"""The CSI driver over its socket, with the real daemon and real mounts: the calls of Kubernetes and of Nomad in their order, each twice and ten
at once; every call and every refusal; block devices; growing; snapshots and clones; the daemon killed between any two of them."""
import concurrent.futures
import os
import stat
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import pyunit  # noqa: E402
from harness.base import wait_until  # noqa: E402
from harness.case import SystemTest  # noqa: E402
from harness.csi import Csi, Refused, messages  # noqa: E402
from harness.holdfastd import Holdfastd  # noqa: E402
from harness.host import tail  # noqa: E402

MIB = 1 << 20
GIB = 1 << 30


class CsiTest(SystemTest):
    def setUp(self):
        super().setUp()
        self.pb2 = messages()
        self.host = self.make_host()
        self.addCleanup(self._show_log)
        self.daemon = Holdfastd(self.host, confined=True)
        self.addCleanup(self._take_down)
        self.daemon.start()
        self.daemon.add_pool("4G")
        self.socket = os.path.join(self.daemon.run_dir, "csi.sock")
        self.csi = Csi(self.socket, self.pb2)
        self.addCleanup(self.csi.close)
        self.kubelet = self._folder("kubelet")
        self.used = []  # (volume id, staging path, target paths)

    def _folder(self, *parts):
        path = self.path(*parts)
        os.makedirs(path, exist_ok=True)
        return path

    def _show_log(self):
        if not self._outcome.success:
            print(f"---- the end of holdfastd's log\n{tail(self.daemon.log, 60)}", flush=True)

    def _take_down(self):
        """Of a test that failed half-way: what it has published goes through the driver, as it came."""
        if not self.daemon.running:
            self.daemon.start()
        driver = Csi(self.socket, self.pb2)
        for volume, staging, targets in reversed(self.used):
            for target in targets:
                self._quietly(driver, "NodeUnpublishVolume", volume_id=volume, target_path=target)
            self._quietly(driver, "NodeUnstageVolume", volume_id=volume, staging_target_path=staging)
        driver.close()
        self.daemon.dispose()

    @staticmethod
    def _quietly(driver, name, /, **fields):
        try:
            driver.call(name, **fields)
        except Refused as error:
            print(f"clean-up: {error}", flush=True)

    # ---- calls, each made twice: schedulers repeat what they have no answer of

    def twice(self, name, /, **fields):
        first = self.csi.call(name, **fields)
        self.assertEqual(self.csi.call(name, **fields), first, f"{name} asked again answers something else")
        return first

    def refused(self, code, name, /, **fields):
        with self.assertRaises(Refused, msg=f"{name} {fields}") as caught:
            self.csi.call(name, **fields)
        self.assertEqual(caught.exception.code, code, caught.exception.details)
        self.assertGreater(len(caught.exception.details), 10, "a sentence for who reads the events")
        return caught.exception

    def create(self, name, size=512 * MIB, capability=None, **more):
        capability = capability or self.csi.capability()
        return self.twice("CreateVolume", name=name, capacity_range=self.csi.size(size), volume_capabilities=[capability], **more).volume

    def staging(self, volume):
        return self._folder("kubelet", "plugins", volume, "globalmount")

    def target(self, volume, pod="a"):
        """Kubelet makes the folder that the target is in, and not the target."""
        return os.path.join(self._folder("kubelet", "pods", pod, volume), "mount")

    def stage(self, volume, capability=None):
        path = self.staging(volume)
        self.used.append((volume, path, []))
        self.twice("NodeStageVolume", volume_id=volume, staging_target_path=path, volume_capability=capability or self.csi.capability())
        return path

    def publish(self, volume, pod="a", capability=None, **more):
        path = self.target(volume, pod)
        next(used for used in self.used if used[0] == volume)[2].append(path)
        self.twice("NodePublishVolume", volume_id=volume, staging_target_path=self.staging(volume), target_path=path,
                   volume_capability=capability or self.csi.capability(), volume_context={"storage.kubernetes.io/csiProvisionerIdentity": "x"}, **more)
        return path

    def unpublish(self, volume, pod="a"):
        self.twice("NodeUnpublishVolume", volume_id=volume, target_path=self.target(volume, pod))
        self.assertFalse(os.path.lexists(self.inside(self.target(volume, pod))), "the target is to be gone")

    def unstage(self, volume):
        self.twice("NodeUnstageVolume", volume_id=volume, staging_target_path=self.staging(volume))
        self.assertEqual(os.listdir(self.inside(self.staging(volume))), [])

    def delete(self, volume):
        self.twice("DeleteVolume", volume_id=volume)
        self.refused("NOT_FOUND", "ControllerGetVolume", volume_id=volume)

    def inside(self, path):
        """The path as the host of the daemon sees it."""
        return f"/proc/{self.host.pid}/root{path}"

    def write(self, path, name, text):
        with open(os.path.join(self.inside(path), name), "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    def read(self, path, name):
        with open(os.path.join(self.inside(path), name), encoding="utf-8") as stream:
            return stream.read()

    def options(self, path):
        with open(f"/proc/{self.host.pid}/mountinfo", encoding="utf-8") as stream:
            return [line.split()[5] for line in stream if line.split()[4] == path][-1].split(",")

    def usage(self, volume, path):
        return {usage.unit: usage for usage in self.csi.call("NodeGetVolumeStats", volume_id=volume, volume_path=path).usage}

    # ---- the schedulers

    def test_kubernetes_in_its_order(self):
        csi = self.csi
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o600)
        self.assertEqual(self.twice("GetPluginInfo").name, "holdfast")
        self.assertTrue(self.twice("Probe").ready.value)
        services = [one.service.type for one in self.twice("GetPluginCapabilities").capabilities]
        self.assertIn(1, services)
        self.assertNotIn(3, services, "group snapshots are not announced")
        controller = {one.rpc.type for one in self.twice("ControllerGetCapabilities").capabilities}
        self.assertEqual(controller, {1, 3, 4, 5, 6, 7, 9, 11, 12, 13})
        node = self.twice("NodeGetInfo")
        here = node.accessible_topology.segments
        self.assertEqual(set(here), {"holdfast/cluster", "holdfast/node"})
        self.assertEqual(here["holdfast/node"], node.node_id)
        self.assertEqual({one.rpc.type for one in self.twice("NodeGetCapabilities").capabilities}, {1, 2, 3, 4, 5})
        topology = self.pb2.Topology(segments=dict(here))
        wanted = self.pb2.TopologyRequirement(requisite=[topology], preferred=[topology])
        parameters = {"io_profile": "db", "csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "default"}
        made = self.create("pvc-8a1e7c5e-0b7c-4f4b-9a55-0f6f6f1f8f00", parameters=parameters, accessibility_requirements=wanted)
        volume = made.volume_id
        self.assertEqual(made.capacity_bytes, 512 * MIB)
        self.assertEqual(dict(made.accessible_topology[0].segments), {"holdfast/cluster": here["holdfast/cluster"]})
        # fs_type comes when it is published, and not before.
        capability = csi.capability("many-pods", fs_type="ext4")
        self.stage(volume, capability)
        path = self.publish(volume, capability=capability)
        self.write(path, "file", "kept")
        self.assertFalse(os.path.exists(self.inside(os.path.join(path, "lost+found"))))
        usage = self.usage(volume, path)
        self.assertGreater(usage[1].total, 400 * MIB)
        self.assertGreaterEqual(usage[1].used, 0)
        self.assertLessEqual(usage[1].available, usage[1].total)
        self.assertGreater(usage[2].total, 1000)
        snapshot = self.twice("CreateSnapshot", source_volume_id=volume, name="snapshot-1f6f").snapshot
        self.assertTrue(snapshot.ready_to_use)
        self.write(path, "file", "changed since")
        source = self.pb2.VolumeContentSource(snapshot=self.pb2.VolumeContentSource.SnapshotSource(snapshot_id=snapshot.snapshot_id))
        copy = self.create("pvc-copy", volume_content_source=source)
        self.assertEqual(copy.content_source, source)
        self.stage(copy.volume_id)
        self.assertEqual(self.read(self.publish(copy.volume_id), "file"), "kept")
        for one in (copy.volume_id, volume):
            self.unpublish(one)
            self.unstage(one)
        self.twice("DeleteSnapshot", snapshot_id=snapshot.snapshot_id)
        self.delete(copy.volume_id)
        self.delete(volume)
        self.assertEqual(self.daemon.volumes(), {})

    def test_nomad_in_its_order(self):
        for name in ("GetPluginInfo", "GetPluginCapabilities", "ControllerGetCapabilities", "NodeGetInfo", "NodeGetCapabilities"):
            self.assertTrue(self.csi.call("Probe").ready.value)
            self.twice(name)
        capability = self.csi.capability(fs_type="xfs", flags=["noatime"])
        volume = self.create("mysql", capability=capability).volume_id
        mounts = self._folder("nomad", "client", "csi", "node", "holdfast")
        staging = os.path.join(self._folder("nomad", "client", "csi", "node", "holdfast", "staging", "mysql"), "rw-file-system-single-node-writer")
        os.makedirs(staging)
        target = os.path.join(self._folder(mounts, "per-alloc", "5a3c", "mysql"), "rw-file-system-single-node-writer")
        self.used.append((volume, staging, [target]))
        self.twice("NodeStageVolume", volume_id=volume, staging_target_path=staging, volume_capability=capability)
        self.twice("NodePublishVolume", volume_id=volume, staging_target_path=staging, target_path=target, volume_capability=capability)
        self.assertIn("noatime", self.options(target))
        self.write(target, "file", "by an allocation")
        self.twice("NodeUnpublishVolume", volume_id=volume, target_path=target)
        self.twice("NodeUnstageVolume", volume_id=volume, staging_target_path=staging)
        self.delete(volume)
        # Nomad's clean-up comes again for what is gone.
        self.twice("NodeUnpublishVolume", volume_id=volume, target_path=target)
        self.twice("NodeUnstageVolume", volume_id=volume, staging_target_path=staging)
        self.assertFalse(os.path.lexists(target))

    # ---- how a volume is used

    def test_read_only_and_one_pod(self):
        volume = self.create("v").volume_id
        self.stage(volume)
        writer = self.publish(volume, "writer")
        self.write(writer, "file", "x")
        reader = self.publish(volume, "reader", readonly=True)
        self.assertEqual(self.read(reader, "file"), "x")
        with self.assertRaises(OSError):
            self.write(reader, "file", "y")
        self.publish(volume, "reader-by-mode", self.csi.capability("reader"))
        self.assertIn("ro", self.options(self.target(volume, "reader-by-mode")))
        self.publish(volume, "reader-by-flag", self.csi.capability(flags=["ro"]))
        self.assertIn("ro", self.options(self.target(volume, "reader-by-flag")))
        self.refused("ALREADY_EXISTS", "NodePublishVolume", volume_id=volume, staging_target_path=self.staging(volume), target_path=reader,
                     volume_capability=self.csi.capability())
        self.refused("FAILED_PRECONDITION", "NodePublishVolume", volume_id=volume, staging_target_path=self.staging(volume),
                     target_path=self.target(volume, "alone"), volume_capability=self.csi.capability("one-pod"))
        for pod in ("writer", "reader", "reader-by-mode", "reader-by-flag"):
            self.unpublish(volume, pod)
        alone = self.csi.capability("one-pod")
        self.publish(volume, "alone", alone)
        self.unpublish(volume, "alone")
        self.unstage(volume)
        self.delete(volume)

    def test_a_block_device_of_a_pod(self):
        block = self.csi.capability(block=True)
        volume = self.create("raw", 256 * MIB, block, parameters={"fs": "ext4"}).volume_id
        self.stage(volume, block)
        path = self.publish(volume, capability=block)
        self.assertTrue(stat.S_ISBLK(os.stat(self.inside(path)).st_mode))
        marker = os.urandom(4096)
        with open(self.inside(path), "r+b", buffering=0) as device:
            self.assertEqual(device.seek(0, os.SEEK_END), 256 * MIB)
            device.seek(MIB)
            device.write(marker)
            os.fsync(device.fileno())
            self.assertEqual(self.usage(volume, path)[1].total, 256 * MIB)
            self.refused("FAILED_PRECONDITION", "NodeUnstageVolume", volume_id=volume, staging_target_path=self.staging(volume))
            grown = self.twice("ControllerExpandVolume", volume_id=volume, capacity_range=self.csi.size(320 * MIB))
            self.assertEqual((grown.capacity_bytes, grown.node_expansion_required), (320 * MIB, False))
            self.assertEqual(device.seek(0, os.SEEK_END), 320 * MIB)
        other = self.create("other", 64 * MIB, block).volume_id
        self.stage(other, block)
        self.refused("FAILED_PRECONDITION", "NodePublishVolume", volume_id=other, staging_target_path=self.staging(other), target_path=path,
                     volume_capability=block)
        self.refused("FAILED_PRECONDITION", "NodeUnpublishVolume", volume_id=other, target_path=path)
        self.unstage(other)
        # A daemon that dies takes no device with it, and the next one knows it.
        self.daemon.kill9()
        self.daemon.start()
        # Kubelet connects anew for each call; on the old connection this one would be the first to meet its end.
        self.csi.close()
        self.csi = Csi(self.socket, self.pb2)
        self.addCleanup(self.csi.close)
        self.publish(volume, capability=block)
        self.unpublish(volume)
        self.unstage(volume)
        self.stage(volume, block)
        path = self.publish(volume, capability=block)
        with open(self.inside(path), "rb", buffering=0) as device:
            device.seek(MIB)
            self.assertEqual(device.read(4096), marker)
        self.unpublish(volume)
        self.unstage(volume)
        self.refused("INVALID_ARGUMENT", "NodePublishVolume", volume_id=volume, staging_target_path=self.staging(volume), target_path=path,
                     volume_capability=block, readonly=True)
        self.delete(volume)
        self.delete(other)

    def test_grows_under_its_users(self):
        volume = self.create("v", capability=self.csi.capability(fs_type="xfs")).volume_id
        self.stage(volume)
        path = self.publish(volume)
        self.write(path, "file", "before")
        before = self.usage(volume, path)[1].total
        grown = self.twice("ControllerExpandVolume", volume_id=volume, capacity_range=self.csi.size(GIB), volume_capability=self.csi.capability())
        self.assertEqual(grown.capacity_bytes, GIB)
        self.assertFalse(grown.node_expansion_required, "an xfs has followed")
        node = self.twice("NodeExpandVolume", volume_id=volume, volume_path=path, staging_target_path=self.staging(volume),
                          capacity_range=self.csi.size(GIB))
        self.assertEqual(node.capacity_bytes, GIB)
        self.assertGreater(self.usage(volume, path)[1].total, before + 400 * MIB)
        self.assertEqual(self.read(path, "file"), "before")
        self.assertEqual(self.create("v", capability=self.csi.capability(fs_type="xfs")).volume_id, volume, "grown, and still the same")
        self.refused("OUT_OF_RANGE", "ControllerExpandVolume", volume_id=volume, capacity_range=self.csi.size(0, 512 * MIB))
        self.refused("NOT_FOUND", "NodeExpandVolume", volume_id=volume, volume_path=self.kubelet)
        self.refused("NOT_FOUND", "NodeGetVolumeStats", volume_id=volume, volume_path=self.kubelet)
        self.unpublish(volume)
        self.unstage(volume)
        grown = self.csi.call("ControllerExpandVolume", volume_id=volume, capacity_range=self.csi.size(GIB + 256 * MIB))
        self.assertTrue(grown.node_expansion_required, "its file system grows when it is mounted")
        self.stage(volume)
        path = self.publish(volume)
        node = self.twice("NodeExpandVolume", volume_id=volume, volume_path=path)
        self.assertEqual(node.capacity_bytes, GIB + 256 * MIB)
        self.unpublish(volume)
        self.unstage(volume)
        self.delete(volume)

    def test_snapshots_clones_and_lists(self):
        first = self.create("first").volume_id
        self.stage(first)
        path = self.publish(first)
        self.write(path, "file", "one")
        cut = self.twice("CreateSnapshot", source_volume_id=first, name="snap", parameters={"freeze": "true"}).snapshot
        self.assertEqual((cut.size_bytes, cut.source_volume_id), (512 * MIB, first))
        second = self.create("second").volume_id
        self.refused("ALREADY_EXISTS", "CreateSnapshot", source_volume_id=second, name="snap")
        self.refused("INVALID_ARGUMENT", "CreateSnapshot", source_volume_id=second, name="snap2", parameters={"frieze": "true"})
        other = self.twice("CreateSnapshot", source_volume_id=second, name="other").snapshot
        self.daemon.holdfast("snapshot", "create", "second", "by-hand")
        listed = [one.snapshot for one in self.twice("ListSnapshots").entries]
        self.assertEqual(len(listed), 3, "also those that were not made here")
        self.assertEqual(listed[0], cut)
        self.assertEqual([one.snapshot for one in self.twice("ListSnapshots", snapshot_id=other.snapshot_id).entries], [other])
        self.assertEqual(len(self.twice("ListSnapshots", source_volume_id=second).entries), 2)
        pages, token = [], ""
        while True:
            page = self.twice("ListSnapshots", max_entries=1, starting_token=token)
            pages += [one.snapshot for one in page.entries]
            token = page.next_token
            if not token:
                break
        self.assertEqual(pages, listed)
        self.refused("ABORTED", "ListSnapshots", starting_token="x")
        self.refused("ABORTED", "ListVolumes", starting_token="x")
        page = self.csi.call("ListVolumes", max_entries=1)
        self.assertEqual([one.volume.volume_id for one in page.entries], [first])
        self.assertFalse(page.entries[0].status.volume_condition.abnormal)
        page = self.csi.call("ListVolumes", starting_token=page.next_token)
        self.assertEqual([one.volume.volume_id for one in page.entries], [second])
        # A clone of a volume in use, larger than it; in place and of its own.
        source = self.pb2.VolumeContentSource(volume=self.pb2.VolumeContentSource.VolumeSource(volume_id=first))
        clone = self.create("clone", GIB, volume_content_source=source)
        self.assertEqual(clone.capacity_bytes, GIB)
        self.refused("ALREADY_EXISTS", "CreateVolume", name="clone", capacity_range=self.csi.size(GIB),
                     volume_capabilities=[self.csi.capability()])
        self.write(path, "file", "two")
        self.stage(clone.volume_id)
        cloned = self.publish(clone.volume_id)
        self.assertEqual(self.read(cloned, "file"), "one")
        self.assertGreater(self.usage(clone.volume_id, cloned)[1].total, 900 * MIB)
        self.refused("FAILED_PRECONDITION", "DeleteVolume", volume_id=first)
        for one in (first, clone.volume_id):
            self.unpublish(one)
            self.unstage(one)
        self.refused("FAILED_PRECONDITION", "DeleteVolume", volume_id=first)
        self.twice("DeleteSnapshot", snapshot_id=cut.snapshot_id)
        self.delete(first)
        self.delete(clone.volume_id)
        self.twice("CreateSnapshot", source_volume_id=second, name="snap")

    def test_capacity_is_what_can_be_created(self):
        csi = self.csi
        room = csi.call("GetCapacity", volume_capabilities=[csi.capability()], parameters={"io_profile": "db"})
        self.assertEqual(room.available_capacity, room.maximum_volume_size.value)
        self.assertGreater(room.available_capacity, GIB)
        self.refused("RESOURCE_EXHAUSTED", "CreateVolume", name="v", capacity_range=csi.size(room.available_capacity + 4096),
                     volume_capabilities=[csi.capability()])
        volume = self.create("v", room.available_capacity, csi.capability(block=True)).volume_id
        self.assertLess(csi.call("GetCapacity").available_capacity, GIB)
        self.delete(volume)
        self.assertEqual(csi.call("GetCapacity", accessible_topology=self.pb2.Topology(segments={"holdfast/cluster": "x"})).available_capacity, 0)

    def test_every_refusal(self):
        csi = self.csi
        gone = "8a1e7c5e-0b7c-4f4b-9a55-0f6f6f1f8f00"
        can = csi.capability()
        tried = set()

        def refuse(code, name, /, **fields):
            tried.add(name)
            error = self.refused(code, name, **fields)
            self.assertIn("holdfast-error", error.trailers)

        refuse("INVALID_ARGUMENT", "CreateVolume", volume_capabilities=[can])
        refuse("INVALID_ARGUMENT", "CreateVolume", name="v")
        refuse("INVALID_ARGUMENT", "CreateVolume", name="v", volume_capabilities=[can], parameters={"rpl": "2"})
        refuse("INVALID_ARGUMENT", "CreateVolume", name="v", volume_capabilities=[can], parameters={"secure": "true"})
        for mode in ("many-readers", "many-single-writer", "many-writers"):
            refuse("INVALID_ARGUMENT", "CreateVolume", name="v", volume_capabilities=[csi.capability(mode)])
        refuse("OUT_OF_RANGE", "CreateVolume", name="v", volume_capabilities=[can], capacity_range=csi.size(1 << 50))
        refuse("INVALID_ARGUMENT", "DeleteVolume")
        refuse("INVALID_ARGUMENT", "ControllerGetVolume")
        refuse("NOT_FOUND", "ControllerGetVolume", volume_id=gone)
        refuse("INVALID_ARGUMENT", "ValidateVolumeCapabilities", volume_id=gone)
        refuse("NOT_FOUND", "ValidateVolumeCapabilities", volume_id=gone, volume_capabilities=[can])
        refuse("INVALID_ARGUMENT", "ListVolumes", max_entries=-1)
        refuse("INVALID_ARGUMENT", "ListSnapshots", max_entries=-1)
        refuse("INVALID_ARGUMENT", "GetCapacity", parameters={"size": "1G", "rpl": "2"})
        refuse("INVALID_ARGUMENT", "CreateSnapshot", source_volume_id=gone)
        refuse("NOT_FOUND", "CreateSnapshot", source_volume_id=gone, name="s")
        refuse("INVALID_ARGUMENT", "DeleteSnapshot")
        refuse("INVALID_ARGUMENT", "ControllerExpandVolume", volume_id=gone)
        refuse("NOT_FOUND", "ControllerExpandVolume", volume_id=gone, capacity_range=csi.size(GIB))
        path = self.target("x")
        refuse("INVALID_ARGUMENT", "NodeStageVolume", volume_id=gone, staging_target_path=path)
        refuse("INVALID_ARGUMENT", "NodeStageVolume", volume_id=gone, volume_capability=can)
        refuse("INVALID_ARGUMENT", "NodeStageVolume", staging_target_path=path, volume_capability=can)
        refuse("NOT_FOUND", "NodeStageVolume", volume_id=gone, staging_target_path=path, volume_capability=can)
        refuse("INVALID_ARGUMENT", "NodeUnstageVolume", volume_id=gone)
        refuse("INVALID_ARGUMENT", "NodeUnstageVolume", staging_target_path=path)
        refuse("INVALID_ARGUMENT", "NodePublishVolume", volume_id=gone, target_path=path, staging_target_path=path)
        refuse("NOT_FOUND", "NodePublishVolume", volume_id=gone, target_path=path, staging_target_path=self.kubelet, volume_capability=can)
        refuse("INVALID_ARGUMENT", "NodeUnpublishVolume", volume_id=gone)
        refuse("INVALID_ARGUMENT", "NodeUnpublishVolume", target_path=path)
        refuse("INVALID_ARGUMENT", "NodeGetVolumeStats", volume_id=gone)
        refuse("NOT_FOUND", "NodeGetVolumeStats", volume_id=gone, volume_path=path)
        refuse("INVALID_ARGUMENT", "NodeExpandVolume", volume_id=gone)
        refuse("NOT_FOUND", "NodeExpandVolume", volume_id=gone, volume_path=path)
        never = {"GetPluginInfo", "GetPluginCapabilities", "Probe", "ControllerGetCapabilities", "NodeGetCapabilities", "NodeGetInfo"}
        self.assertEqual(set(csi.rpcs()) - never, tried)
        self.assertEqual(self.daemon.volumes(), {})
        self.assertFalse(os.path.lexists(path))
        volume = self.create("v").volume_id
        for fields in ({}, {"staging_target_path": self.kubelet}):
            self.refused("FAILED_PRECONDITION", "NodePublishVolume", volume_id=volume, target_path=path, volume_capability=can, **fields)
        self.refused("FAILED_PRECONDITION", "NodeStageVolume", volume_id=volume, staging_target_path=path, volume_capability=csi.capability(block=True))
        self.refused("FAILED_PRECONDITION", "NodeStageVolume", volume_id=volume, staging_target_path=path,
                     volume_capability=csi.capability(fs_type="xfs"))
        self.refused("FAILED_PRECONDITION", "NodeStageVolume", volume_id=volume, staging_target_path=path,
                     volume_capability=csi.capability(flags=["noatime"]))
        self.assertFalse(self.daemon.attached("v"))
        # Somebody's own files are never hidden, and never removed.
        staging = self.staging(volume)
        with open(os.path.join(staging, "mine"), "w", encoding="utf-8") as stream:
            stream.write("x")
        self.refused("FAILED_PRECONDITION", "NodeStageVolume", volume_id=volume, staging_target_path=staging, volume_capability=can)
        self.refused("FAILED_PRECONDITION", "NodeUnpublishVolume", volume_id=volume, target_path=staging)
        self.assertEqual(os.listdir(staging), ["mine"])
        self.assertFalse(self.daemon.attached("v"), "a stage that was refused leaves nothing behind")

    # ---- at once, and over a death

    def at_once(self, count, work):
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return [future.result() for future in [pool.submit(work, i) for i in range(count)]]

    def insist(self, name, /, **fields):
        """As schedulers do: ABORTED is asked again."""
        def attempt():
            try:
                return (self.csi.call(name, **fields),)
            except Refused as error:
                if error.code not in ("ABORTED", "UNAVAILABLE"):
                    raise
                return None
        return wait_until(f"{name} to be done", attempt)[0]

    def test_ten_at_once(self):
        can = self.csi.capability()
        made = self.at_once(10, lambda _: self.insist("CreateVolume", name="one", capacity_range=self.csi.size(512 * MIB), volume_capabilities=[can]))
        self.assertEqual(len({answer.volume.volume_id for answer in made}), 1)
        volume, staging = made[0].volume.volume_id, self.staging(made[0].volume.volume_id)
        targets = [self.target(volume, str(i)) for i in range(3)]
        self.used.append((volume, staging, targets))
        self.at_once(10, lambda _: self.insist("NodeStageVolume", volume_id=volume, staging_target_path=staging, volume_capability=can))
        self.at_once(10, lambda i: self.insist("NodePublishVolume", volume_id=volume, staging_target_path=staging, target_path=targets[i % 3],
                                               volume_capability=can))
        self.write(targets[0], "file", "x")
        self.assertEqual(self.read(targets[2], "file"), "x")
        cut = self.at_once(10, lambda _: self.insist("CreateSnapshot", source_volume_id=volume, name="s"))
        self.assertEqual(len({answer.snapshot.snapshot_id for answer in cut}), 1)
        self.at_once(10, lambda i: self.insist("NodeUnpublishVolume", volume_id=volume, target_path=targets[i % 3]))
        self.at_once(10, lambda _: self.insist("NodeUnstageVolume", volume_id=volume, staging_target_path=staging))
        self.at_once(10, lambda _: self.insist("DeleteSnapshot", snapshot_id=cut[0].snapshot.snapshot_id))
        self.at_once(10, lambda _: self.insist("DeleteVolume", volume_id=volume))
        self.assertEqual(self.daemon.volumes(), {})

        def whole_life(i):
            volume = self.insist("CreateVolume", name=f"v{i}", capacity_range=self.csi.size(64 * MIB), volume_capabilities=[can]).volume.volume_id
            staging, target = self.staging(volume), self.target(volume)
            self.used.append((volume, staging, [target]))
            self.insist("NodeStageVolume", volume_id=volume, staging_target_path=staging, volume_capability=can)
            self.insist("NodePublishVolume", volume_id=volume, staging_target_path=staging, target_path=target, volume_capability=can)
            self.write(target, "file", str(i))
            self.insist("NodeUnpublishVolume", volume_id=volume, target_path=target)
            self.insist("NodeUnstageVolume", volume_id=volume, staging_target_path=staging)
            self.insist("DeleteVolume", volume_id=volume)
        self.at_once(10, whole_life)
        self.assertEqual(self.daemon.volumes(), {})

    def test_killed_between_any_two_calls(self):
        """After each step the daemon is killed; the call is then made again by who had no answer, and the next one goes on from there."""
        can = self.csi.capability()
        volume = self.create("v").volume_id
        staging, target = self.staging(volume), self.target(volume)
        self.used.append((volume, staging, [target]))
        steps = [("NodeStageVolume", dict(volume_id=volume, staging_target_path=staging, volume_capability=can)),
                 ("NodePublishVolume", dict(volume_id=volume, staging_target_path=staging, target_path=target, volume_capability=can)),
                 ("CreateSnapshot", dict(source_volume_id=volume, name="s")),
                 ("NodeUnpublishVolume", dict(volume_id=volume, target_path=target)),
                 ("NodeUnstageVolume", dict(volume_id=volume, staging_target_path=staging))]
        for name, fields in steps:
            with self.subTest(name):
                first = self.csi.call(name, **fields)
                if name == "NodePublishVolume":
                    self.write(target, "file", "kept")
                self.daemon.kill9()
                self.daemon.start()
                self.assertEqual(self.insist(name, **fields), first)
        # And while one is under way.
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for name, fields in steps:
                with self.subTest(f"during {name}"):
                    call = pool.submit(self.insist, name, **fields)
                    self.daemon.kill9()
                    self.daemon.start()
                    call.result()
                    self.insist(name, **fields)
                    if name == "NodePublishVolume":
                        self.assertEqual(self.read(target, "file"), "kept")
        self.assertFalse(os.path.lexists(target))
        self.assertFalse(self.daemon.attached("v"))
        snapshot = self.csi.call("CreateSnapshot", source_volume_id=volume, name="s").snapshot
        self.twice("DeleteSnapshot", snapshot_id=snapshot.snapshot_id)
        self.delete(volume)


class CsiSocket(SystemTest):
    def test_is_moved_and_turned_off(self):
        pb2 = messages()
        host = self.make_host()
        elsewhere = host.path("kubelet", "plugins", "holdfast", "csi.sock")
        os.makedirs(host.path("kubelet"))
        daemon = Holdfastd(host, [f'csi_socket = "{elsewhere}"'])
        self.addCleanup(daemon.dispose)
        daemon.start()
        driver = Csi(elsewhere, pb2)
        self.addCleanup(driver.close)
        self.assertTrue(driver.call("Probe").ready.value)
        self.assertEqual(stat.S_IMODE(os.stat(elsewhere).st_mode), 0o600)
        self.assertFalse(os.path.exists(os.path.join(daemon.run_dir, "csi.sock")))
        daemon.stop()
        self.assertFalse(os.path.exists(elsewhere))
        with open(daemon.config_file, "r", encoding="utf-8") as stream:
            lines = [line for line in stream if not line.startswith("csi_socket")]
        with open(daemon.config_file, "w", encoding="utf-8") as stream:
            stream.write("".join(lines) + 'csi_socket = ""\n')
        daemon.start()
        self.assertFalse(os.path.exists(elsewhere) or os.path.exists(os.path.join(daemon.run_dir, "csi.sock")))


if __name__ == "__main__":
    pyunit.main()
