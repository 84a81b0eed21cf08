#!/usr/bin/python3
"""In an emulated machine, whose root has CAP_SYS_RESOURCE: the daemon grows a mounted file system that is being written."""
import json
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, "/opt/t")
import pyunit  # noqa: E402

MIB = 1 << 20
RUN, STATE, POOL = "/run/holdfast", "/data/state", "/data/pool"


def run(*argv, timeout=180):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Daemon:
    def __init__(self, kind):
        self.kind = kind
        self.log = open(f"/data/holdfastd-{kind}.log", "a", encoding="utf-8")
        with open("/etc/holdfast.toml", "w", encoding="utf-8") as stream:
            stream.write(f'state_dir = "{STATE}-{kind}"\nhttp_port = 0\ndocker_socket = ""\nexport = "{kind}"\n')
        self.process = None

    def start(self):
        self.process = subprocess.Popen(["/usr/bin/holdfastd", "--config", "/etc/holdfast.toml"], stderr=self.log)
        deadline = time.monotonic() + 60
        while subprocess.run(["holdfast", "status"], capture_output=True, check=False).returncode != 0:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError("holdfastd does not start:\n" + self.tail())
            time.sleep(0.3)

    def tail(self):
        with open(self.log.name, encoding="utf-8") as stream:
            return stream.read()[-5000:]

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class Writer(threading.Thread):
    """Writes and syncs a block a moment; an error ends it and is kept."""

    def __init__(self, path):
        super().__init__()
        self.path, self.blocks, self.error, self.ended = path, 0, None, False
        self.start()

    def run(self):
        try:
            with open(self.path, "wb", buffering=0) as stream:
                while not self.ended:
                    stream.write(self.blocks.to_bytes(8, "little") * 512)
                    os.fsync(stream.fileno())
                    self.blocks += 1
        except OSError as error:
            self.error = error

    def end(self):
        self.ended = True
        self.join()


class Growth(unittest.TestCase):
    def grows(self, kind, fs):
        daemon = Daemon(kind)
        daemon.start()
        volume, point = f"{kind}-{fs}", f"/mnt/{kind}-{fs}"
        os.makedirs(point)
        os.makedirs(f"{POOL}-{kind}", exist_ok=True)
        if not json.loads(run("holdfast", "pool", "list", "--json")).get("pools"):
            run("holdfast", "pool", "add", f"{POOL}-{kind}", "--size", "1G")
        run("holdfast", "volume", "create", volume, "--size", "320M", "--fs", fs)
        run("holdfast", "volume", "mount", volume, point)
        with open(f"{point}/kept", "wb") as stream:
            stream.write(os.urandom(4 * MIB))
        with open(f"{point}/kept", "rb") as stream:
            kept = stream.read()
        writer = Writer(f"{point}/log")
        try:
            sizes = [os.statvfs(point)]
            run("holdfast", "volume", "resize", volume, "448M")
            sizes.append(os.statvfs(point))
            # And by a daemon that has adopted it.
            daemon.kill9()
            daemon.start()
            run("holdfast", "volume", "resize", volume, "576M")
            sizes.append(os.statvfs(point))
            blocks = writer.blocks
            deadline = time.monotonic() + 30
            while writer.blocks < blocks + 5 and writer.error is None and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertGreater(writer.blocks, blocks)
        finally:
            writer.end()
        self.assertIsNone(writer.error)
        total = [size.f_blocks * size.f_frsize for size in sizes]
        print(f"{volume}: {[t // MIB for t in total]} MiB, {writer.blocks} blocks written meanwhile", flush=True)
        for smaller, larger in zip(total, total[1:]):
            self.assertGreater(larger - smaller, 100 * MIB, daemon.tail())
        # The new space can be used.
        with open(f"{point}/big", "wb") as stream:
            for _ in range(400):
                stream.write(bytes(MIB))
        os.sync()
        with open(f"{point}/kept", "rb") as stream:
            self.assertEqual(stream.read(), kept)
        self.assertEqual(os.path.getsize(f"{point}/log"), writer.blocks * 4096)
        run("holdfast", "volume", "unmount", volume, point)
        run("holdfast", "volume", "attach", volume)
        device = json.loads(run("holdfast", "volume", "inspect", volume, "--json"))["attachment"]["device"]
        run(*{"ext4": ("e2fsck", "-fn", device), "xfs": ("xfs_repair", "-n", device)}[fs])
        run("holdfast", "volume", "detach", volume)
        run("holdfast", "volume", "delete", volume, "--yes")
        daemon.stop()

    def test_ext4_by_fuse(self):
        self.grows("fuse", "ext4")

    def test_ext4_by_nbd(self):
        self.grows("nbd", "ext4")

    def test_xfs_by_fuse(self):
        self.grows("fuse", "xfs")


if __name__ == "__main__":
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    os.makedirs("/data", exist_ok=True)
    subprocess.run(["mkfs.ext4", "-q", os.environ["MACHINE_DISK0"]], check=True)
    subprocess.run(["mount", os.environ["MACHINE_DISK0"], "/data"], check=True)
    pyunit.main()
