"""Our daemon on a Host: started, killed, started again, with its state, pool and log below the host's folder."""
import json
import os
import signal
import time
import urllib.error
import urllib.request

from harness.base import ROOT, Failed, alive, need_binary, need_device, need_program, run, wait_until
from harness.host import end_process, tail, wait_for_socket
from harness.ports import free_port


def confinement():
    """The beginning of a command line that has no other capabilities than deploy/'s unit grants, of those that this machine has."""
    unit = os.path.join(ROOT, "deploy", "systemd", "holdfastd.service")
    with open(unit, encoding="utf-8") as stream:
        line = next(line for line in stream if line.startswith("CapabilityBoundingSet="))
    granted = {name.lower().removeprefix("cap_") for name in line.partition("=")[2].split()}
    dump = run([need_program("setpriv", "util-linux"), "--dump"]).stdout
    here = set(next(line for line in dump.splitlines() if line.startswith("Capability bounding set:")).partition(":")[2].strip().split(","))
    return ["setpriv", "--no-new-privs", "--bounding-set", ",".join(["-all", *sorted("+" + name for name in granted & here)]), "--"]


class Holdfastd:
    """One holdfastd. stop() ends it in order, kill9() as a crash; start() after either is a restart on the same state.

    config: further lines of the configuration file, such as 'export = "nbd"'.
    confined: with the capabilities of the packaged unit only.
    apart: in a folder of its own below /run/holdfast. Hosts of a test have one kernel, whose loop devices are told apart by
    the path that they stand on, and nodes of a cluster may have the same volume.
    """

    def __init__(self, host, config=(), confined=False, apart=False):
        self.host = host
        self._before = confinement() if confined else []
        need_device("/dev/fuse", "FUSE; modprobe fuse")
        need_device("/dev/loop-control", "loop devices; modprobe loop")
        self.program = need_binary("holdfastd")
        self.client = need_binary("holdfast")
        self.state_dir = host.path("state")
        name = os.path.basename(host.folder)
        self.run_dir = host.path("run", "holdfast", *([name] if apart else []))  # in the host: /run/holdfast
        self.client_options = ["--socket", f"/run/holdfast/{name}/api.sock"] if apart else []
        if apart:
            config = (*config, f'run_dir = "/run/holdfast/{name}"')
        self.pool_dir = host.path("pool")
        self.log = host.path("holdfastd.log")
        self.config_file = host.path("holdfastd.toml")
        self.http_port = free_port()
        self._process = None
        for folder in (self.state_dir, self.pool_dir):
            os.makedirs(folder, exist_ok=True)
        with open(self.config_file, "w", encoding="utf-8") as stream:
            stream.write(f'state_dir = "{self.state_dir}"\nhttp_port = {self.http_port}\nnode_name = "{os.path.basename(host.folder)}"\n'
                         f'holder_program = "{need_binary("holdfast-holder")}"\n' + "".join(line + "\n" for line in config))

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def spawn(self):
        """Starts the process without waiting for it to serve."""
        self._process = self.host.start([*self._before, self.program, "--config", self.config_file], self.log)
        return self._process

    def start(self, seconds=60):
        self.spawn()
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=60):
        wait_for_socket(os.path.join(self.run_dir, "api.sock"), self._process, self.log, seconds)
        wait_for_socket(self.host.path("run", "docker", "plugins", "holdfast.sock"), self._process, self.log, seconds)

    def add_pool(self, size="4G"):
        return self.holdfast("pool", "add", self.pool_dir, "--size", size, timeout=120)

    def holdfast(self, *arguments, **more):
        """Runs `holdfast …` against this daemon."""
        return self.host.run([self.client, *self.client_options, *arguments], **more)

    def json(self, *arguments, **more):
        done = self.holdfast(*arguments, "--json", **more)
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise Failed(f"holdfast {' '.join(arguments)} --json answered no JSON: {done.stdout!r}") from error

    def volumes(self):
        return {volume["name"]: volume for volume in self.json("volume", "list")["volumes"]}

    def attached(self, name):
        return self.json("volume", "inspect", name)["state"] == "attached"

    def http(self, path):
        """(status, body) of a GET on the daemon's HTTP port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def kill9(self):
        """Kills it; returns when the kernel is done with it (a thread in the kernel can hold a dying process)."""
        self._process.send_signal(signal.SIGKILL)
        pid = self._process.pid
        wait_until(f"holdfastd {pid} to be gone after SIGKILL", lambda: not alive(pid), seconds=30)
        self._process.wait()

    def restart(self, seconds=60):
        """SIGTERM, then a new process; volumes stay mounted."""
        self.stop(seconds)
        return self.start(seconds)

    def stop(self, seconds=60):
        if self.running and not end_process(self._process, seconds=seconds):
            raise Failed(f"holdfastd did not end on SIGTERM within {seconds} s:\n{self.logs()}")
        if self._process is not None and self._process.returncode not in (0, -signal.SIGKILL):
            raise Failed(f"holdfastd ended with {self._process.returncode}:\n{self.logs()}")

    def dispose(self):
        """For addCleanup: takes all volumes down through the product itself, ends the daemon, then the holder."""
        if not self.running:
            self.start()
        self.release_volumes()
        self.stop()
        self.end_holder()
        self.close_pools()

    def release_volumes(self, node=None):
        """Unmounts and detaches everything; of a node of a cluster, by its id, what that node has."""
        for name, volume in self.volumes().items():
            if node is not None and (volume.get("attachment") or {}).get("node", node) != node:
                continue
            for mount in (volume.get("attachment") or {}).get("mounts", []):
                self.holdfast("volume", "unmount", name, mount["path"], check=False)
            if self.json("volume", "inspect", name)["state"] == "attached":
                # A container that was just killed keeps its mount until the kernel is done with it.
                wait_until(f"volume {name} to be detached",
                           lambda name=name: self.holdfast("volume", "detach", name, check=False).returncode == 0, seconds=60, every=1)

    def close_pools(self):
        """A daemon that stops leaves its pools mounted for the next one; here none comes."""
        for point, _, source in self.host.mounts():
            if point.startswith("/run/holdfast/") and "/pools/" in point:
                self.host.run(["umount", point])
                if source.startswith("/dev/loop"):
                    self.host.run(["losetup", "-d", source])

    def holder_pid(self):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    inside = os.readlink(f"/proc/{entry}/ns/mnt") == os.readlink(f"/proc/{self.host.pid}/ns/mnt")
                    with open(f"/proc/{entry}/comm", encoding="utf-8") as stream:
                        name = stream.read().strip()
                except OSError:
                    continue
                if inside and name == "holdfast-holder"[:15]:
                    return int(entry)
        return None

    def end_holder(self, seconds=60):
        pid = self.holder_pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + seconds
        while alive(pid):
            if time.monotonic() > end:
                raise Failed("the holder still holds something although every volume was detached")
            time.sleep(0.05)

    def logs(self, lines=60):
        return tail(self.log, lines)
