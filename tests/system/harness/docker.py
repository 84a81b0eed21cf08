"""A real Docker engine, started by the test on a Host, in folders of its own."""
import json
import os
import signal

from harness import images
from harness.base import Failed, alive, need_program, run, wait_until
from harness.host import end_process, tail, wait_for_socket

CLAMP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runc_clamp.py")


class DockerEngine:
    """One dockerd with its containerd; `docker()` is the command line talking to it.

    No bridge and no iptables: containers run with --network=none or host. Everything lies below the host's folder. stop()
    removes all containers first; kill9() and start() leave them as a crash would.
    """

    def __init__(self, host, *, live_restore=False):
        self.host = host
        self._dockerd = need_program("dockerd", "docker.io")
        self._client = need_program("docker", "docker.io")
        need_program("runc", "runc")
        self.folder = host.path("docker")
        self.socket = os.path.join(self.folder, "docker.sock")
        self.log = os.path.join(self.folder, "dockerd.log")
        self.cgroup = f"holdfast-test-{os.path.basename(os.path.dirname(host.folder))}-{os.path.basename(host.folder)}"
        self._live_restore = live_restore
        self._process = None
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, "daemon.json"), "w", encoding="utf-8") as stream:
            stream.write("{}")
        os.makedirs(os.path.join(self.folder, "client"), exist_ok=True)

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        inside = self.folder
        command = [self._dockerd, f"--data-root={inside}/data", f"--exec-root={inside}/exec", f"--pidfile={inside}/pid",
                   f"--host=unix://{self.socket}", f"--config-file={inside}/daemon.json", "--bridge=none", "--iptables=false",
                   "--ip6tables=false", f"--add-runtime=clamp={CLAMP}", "--default-runtime=clamp",
                   f"--cgroup-parent=/{self.cgroup}"]
        if self._live_restore:
            command.append("--live-restore")
        self._process = self.host.start(command, self.log)
        wait_for_socket(self.socket, self._process, self.log)
        wait_until("docker version to answer", lambda: self.docker("version", check=False).returncode == 0, seconds=60)
        return self

    def docker(self, *arguments, **more):
        """Runs `docker …` against this engine; returns CompletedProcess. check=False to look at a refusal."""
        return self.host.run(self.command(*arguments), **more)

    def command(self, *arguments):
        """The command line of `docker …`, to be run in the host."""
        return [self._client, "--config", os.path.join(self.folder, "client"), "-H", "unix://" + self.socket, *arguments]

    def ensure_image(self, name):
        """Imports the image of harness/images.py unless this engine has it."""
        if self.docker("image", "inspect", name, check=False).returncode != 0:
            recipe = images.RECIPES[name]
            changes = [word for change in recipe.changes for word in ("-c", change)]
            self.docker("import", *changes, recipe.tar(), name, timeout=300)

    def inspect(self, thing):
        return json.loads(self.docker("inspect", thing).stdout)[0]

    def container_pid(self, name):
        return self.inspect(name)["State"]["Pid"]

    def kill9(self):
        """Kills dockerd as an OOM kill would. Its own containerd dies with it; shims and containers live on."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for pidfile in (os.path.join(self.folder, "pid"), os.path.join(self.folder, "exec", "containerd", "containerd.pid")):
            if os.path.exists(pidfile):
                with open(pidfile, encoding="ascii") as stream:
                    pid = int(stream.read())
                wait_until(f"process {pid} to be gone", lambda pid=pid: not alive(pid))
                # A zombie that nobody has reaped yet would look alive to the next dockerd.
                os.unlink(pidfile)

    def logs(self, lines=40):
        return tail(self.log, lines)

    def stop(self):
        if self._process is None:
            return
        if self._process.poll() is not None:
            self.start()  # a test killed it: its containers must end in order
        names = self.docker("ps", "-aq", check=False).stdout.split()
        if names:
            self.docker("rm", "-f", *names, check=False)
        if not end_process(self._process, seconds=90):
            raise Failed(f"dockerd did not end on SIGTERM:\n{self.logs()}")
        self._process = None
        self._remove_cgroups()
        run(["rm", "-rf", "--one-file-system", self.folder], check=False)

    def _remove_cgroups(self):
        for where, folders, _ in os.walk("/sys/fs/cgroup"):
            depth = where.count("/") - 3
            if self.cgroup in folders:
                target = os.path.join(where, self.cgroup)
                for inner, _, _ in os.walk(target, topdown=False):
                    try:
                        os.rmdir(inner)
                    except OSError:
                        pass
            if depth >= 2:
                folders.clear()
