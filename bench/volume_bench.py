#!/usr/bin/python3
"""What a container and an operator see of a daemon: create to mounted, idle cost, a thousand volumes.

Starts a daemon of its own below --dir, talks to it as Docker does (plugin protocol on its Unix socket), and takes
everything down again. Results as JSON on standard output, progress on standard error. Needs root.
"""
import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*argv, check=True):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} failed with {done.returncode}: {done.stdout.strip()[-500:]}")
    return done.stdout


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Docker:
    """The plugin protocol, over one kept connection as the engine's."""

    def __init__(self, path):
        self.connection = UnixConnection(path)

    def ask(self, call, body, refused=False):
        self.connection.request("POST", "/VolumeDriver." + call, json.dumps(body))
        answer = json.loads(self.connection.getresponse().read())
        if answer.get("Err") and not refused:
            raise RuntimeError(f"{call} {body}: {answer['Err']}")
        return answer


class Node:
    def __init__(self, bin_dir, where):
        self.bin, self.where = bin_dir, where
        self.run_dir, self.state_dir = where + "/r", where + "/s"
        self.socket = where + "/d.sock"
        self.daemon = None

    def start(self):
        os.makedirs(self.where + "/pool", mode=0o700)
        config = self.where + "/holdfastd.toml"
        with open(config, "w", encoding="utf-8") as out:
            out.write("")
        log = open(self.where + "/holdfastd.log", "wb")
        self.daemon = subprocess.Popen(
            [self.bin + "/holdfastd", "--config", config, "--state-dir", self.state_dir, "--run-dir", self.run_dir,
             "--docker-socket", self.socket, "--http-port", "0", "--node-name", "bench"], stdout=log, stderr=log)
        until = time.monotonic() + 30
        while not (os.path.exists(self.socket) and os.path.exists(self.run_dir + "/api.sock")):
            if self.daemon.poll() is not None or time.monotonic() > until:
                with open(self.where + "/holdfastd.log", encoding="utf-8", errors="replace") as text:
                    raise RuntimeError("the daemon did not start: " + text.read()[-1000:])
            time.sleep(0.05)

    def cli(self, *argv):
        return run(self.bin + "/holdfast", "--socket", self.run_dir + "/api.sock", *argv)

    def cpu_seconds(self):
        with open(f"/proc/{self.daemon.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_bytes(self, key="Rss"):
        with open(f"/proc/{self.daemon.pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
        raise RuntimeError("no " + key)

    def idle(self, seconds):
        before, start = self.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return 100 * (self.cpu_seconds() - before) / (time.monotonic() - start)

    def holder_pids(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as text:
                    words = text.read().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"holdfast-holder") and any(w.startswith(self.run_dir.encode()) for w in words):
                found.append(int(pid))
        return found

    def stop(self):
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(60)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        for pid in self.holder_pids():
            os.kill(pid, signal.SIGTERM)
        clean_up(self.where)


def clean_up(where):
    """Whatever of mounts and loop devices is left below a directory, innermost first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        points = [line.split()[4] for line in table]
    for point in sorted((p for p in points if p.startswith(where + "/")), key=len, reverse=True):
        run("umount", point, check=False)
        if os.path.ismount(point):
            run("umount", "-l", point, check=False)
    for line in run("losetup", "-l", "-n", "-O", "NAME,BACK-FILE", check=False).splitlines():
        words = line.split(None, 1)
        if len(words) == 2 and words[1].startswith(where + "/"):
            run("losetup", "-d", words[0], check=False)


def summary(values):
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": len(values)}


def bare_mkfs_and_mount(where, mount_options):
    """The same mkfs and mount on a loop device over a sparse file of the same file system."""
    image, point = where + "/bare.img", where + "/bare"
    os.makedirs(point, exist_ok=True)
    with open(image, "wb") as out:
        out.truncate(10 << 30)
    loop = run("losetup", "-f", "--show", "--direct-io=on", "-b", "4096", image).strip()
    try:
        start = time.monotonic()
        run("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
            loop)
        run("mount", "-t", "ext4", *mount_options, loop, point)
        took = time.monotonic() - start
    finally:
        run("umount", point, check=False)
        run("losetup", "-d", loop, check=False)
        os.unlink(image)
    return took * 1e3


def create_to_mounted(node, rounds):
    """What the engine asks for `docker run -v size=10G,fs=ext4,name=…:/data`: Get, Create, Get, Mount."""
    docker = Docker(node.socket)
    ours, bare, parts = [], [], {"create_ms": [], "mount_ms": []}
    for i in range(rounds):
        bare.append(bare_mkfs_and_mount(node.where, []))
        name = f"size=10G,fs=ext4,name=bench{i}"
        start = time.monotonic()
        docker.ask("Get", {"Name": name}, refused=True)
        docker.ask("Create", {"Name": name, "Opts": None})
        created = time.monotonic()
        docker.ask("Get", {"Name": name})
        point = docker.ask("Mount", {"Name": name, "ID": f"{i:064x}"})["Mountpoint"]
        end = time.monotonic()
        if not os.path.ismount(point):
            raise RuntimeError(f"{point} is no mount")
        with open(point + "/file", "wb") as out:
            out.write(b"x")
            os.fsync(out.fileno())
        ours.append((end - start) * 1e3)
        parts["create_ms"].append((created - start) * 1e3)
        parts["mount_ms"].append((end - created) * 1e3)
        docker.ask("Unmount", {"Name": name, "ID": f"{i:064x}"})
        docker.ask("Remove", {"Name": name})
    return {"ours_ms": summary(ours), "bare_mkfs_mount_ms": summary(bare), "create_ms": summary(parts["create_ms"]),
            "mount_ms": summary(parts["mount_ms"])}


def timed_ms(work, rounds=5):
    values = []
    for _ in range(rounds):
        start = time.monotonic()
        work()
        values.append((time.monotonic() - start) * 1e3)
    return statistics.median(values)


def thousand_volumes(node, count, idle_seconds):
    docker = Docker(node.socket)
    rss_before = node.memory_bytes()
    cpu_before, start = node.cpu_seconds(), time.monotonic()
    for i in range(count):
        docker.ask("Create", {"Name": f"idle{i:05}", "Opts": {"size": "64M"}})
    seconds = time.monotonic() - start
    cpu = node.cpu_seconds() - cpu_before
    time.sleep(2)
    idle_percent = node.idle(idle_seconds)
    rss = node.memory_bytes()
    listed = len(docker.ask("List", {})["Volumes"])
    if listed != count:
        raise RuntimeError(f"{listed} of {count} volumes listed")
    return {"count": count, "create_per_second": count / seconds, "create_cpu_ms_each": cpu * 1e3 / count,
            "added_rss_bytes": rss - rss_before, "rss_bytes": rss, "idle_cpu_percent": idle_percent,
            "idle_seconds": idle_seconds,
            "docker_list_ms": timed_ms(lambda: docker.ask("List", {})),
            "docker_get_ms": timed_ms(lambda: docker.ask("Get", {"Name": f"idle{count // 2:05}"})),
            "cli_list_ms": timed_ms(lambda: node.cli("--json", "volume", "list"), 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dir", required=True, help="an empty directory on a disk")
    parser.add_argument("--bin", required=True, help="where holdfastd and holdfast are")
    parser.add_argument("--rounds", type=int, default=9, help="create to mounted, so many times")
    parser.add_argument("--idle-seconds", type=float, default=20)
    parser.add_argument("--volumes", type=int, default=1000)
    parser.add_argument("--pool", default="20G", help="size of the pool (sparse)")
    args = parser.parse_args()
    node = Node(os.path.abspath(args.bin), os.path.abspath(args.dir))
    results = {}
    try:
        node.start()
        node.cli("pool", "add", node.where + "/pool", "--size", args.pool)
        time.sleep(1)
        results["idle"] = {"cpu_percent": node.idle(args.idle_seconds), "rss_bytes": node.memory_bytes(),
                           "private_bytes": node.memory_bytes("Private_Dirty"), "seconds": args.idle_seconds}
        say(f"daemon: idle {results['idle']['cpu_percent']:.2f} % of a core, "
            f"{results['idle']['rss_bytes'] / 2**20:.1f} MiB")
        results["create_to_mounted"] = create_to_mounted(node, args.rounds)
        made = results["create_to_mounted"]
        say(f"daemon: create to mounted {made['ours_ms']['median']:.0f} ms (create {made['create_ms']['median']:.0f}, "
            f"mount {made['mount_ms']['median']:.0f}), bare mkfs and mount {made['bare_mkfs_mount_ms']['median']:.0f} ms")
        results["volumes"] = thousand_volumes(node, args.volumes, args.idle_seconds)
        many = results["volumes"]
        say(f"daemon: {many['count']} volumes at {many['create_per_second']:.0f}/s, "
            f"{many['added_rss_bytes'] / 2**20:.1f} MiB more, {many['idle_cpu_percent']:.2f} % of a core, "
            f"list {many['docker_list_ms']:.0f} ms, get {many['docker_get_ms']:.1f} ms, CLI list {many['cli_list_ms']:.0f} ms")
    finally:
        node.stop()
    json.dump(results, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
