"""A host: a mount namespace in which an engine and a daemon live together, as on a real machine.

Mounts made inside are shared among the host's processes (as under systemd, `/` is rshared) and never reach the real machine;
when the last process of the host ends, the kernel takes its mounts away. /run/docker, /run/containerd and /run/holdfast
are folders of its own, so several hosts, and an engine of the real machine, do not meet.
"""
import os
import signal
import subprocess

from harness.base import Failed, run, wait_until

OWN_FOLDERS = ("/run/docker", "/run/containerd", "/run/holdfast")


class Host:
    """folder: below the test's scratch folder; environment: what every process of the host gets; net: with a network of its own (lan.py)."""

    def __init__(self, folder, environment, net=False):
        self.folder = folder
        self.environment = environment
        self._made = []
        os.makedirs(folder, exist_ok=True)
        for target in OWN_FOLDERS:
            if not os.path.isdir(target):
                os.makedirs(target)  # an empty mount point; taken away again in stop()
                self._made.append(target)
            os.makedirs(self.path("run", os.path.basename(target)), exist_ok=True)
        # The first process keeps the namespace alive; it holds nothing open but its pipe.
        binds = "; ".join(f"mount --bind {self.path('run', os.path.basename(t))} {t}" for t in OWN_FOLDERS)
        script = f"set -e; mount --make-rprivate /; {binds}; mount --make-rshared /; echo ready; exec sleep infinity"
        self._keeper = subprocess.Popen(["unshare", "-m", *(["-n"] if net else []), "sh", "-c", script], env=environment, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        line = self._keeper.stdout.readline()
        if line.strip() != "ready":
            raise Failed(f"the host's namespace could not be made: {line}{self._keeper.stdout.read()}")

    @property
    def pid(self):
        return self._keeper.pid

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def enter(self, command):
        """The command line that runs the command in this host."""
        return ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", f"--net=/proc/{self.pid}/ns/net", "--", *command]

    def run(self, command, **more):
        return run(self.enter(command), env=self.environment, **more)

    def start(self, command, log):
        """Starts a long-running program; its output goes to the file. The pid is the program's own (nsenter execs)."""
        with open(log, "ab") as stream:
            return subprocess.Popen(self.enter(command), env=self.environment, stdin=subprocess.DEVNULL,
                                    stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)

    def mounts(self):
        """(mount point, file system, source) of every mount that this host sees."""
        rows = []
        with open(f"/proc/{self.pid}/mountinfo", encoding="utf-8") as stream:
            for line in stream:
                left, _, right = line.partition(" - ")
                kind, source = right.split()[:2]
                rows.append((left.split()[4].encode().decode("unicode_escape"), kind, source))
        return rows

    def stop(self):
        if self._keeper.poll() is None:
            self._keeper.send_signal(signal.SIGKILL)
        self._keeper.wait()
        self._keeper.stdout.close()
        for target in self._made:
            try:
                os.rmdir(target)
            except OSError:
                pass  # somebody else uses it by now


def end_process(process, *, sign=signal.SIGTERM, seconds=20):
    """Ends a Popen: the signal, then SIGKILL after the time. Returns whether it went by itself."""
    if process.poll() is not None:
        return True
    process.send_signal(sign)
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def wait_for_socket(path, process, log, seconds=60):
    """Waits until a Unix socket accepts; fails early, with the log, where the process ends."""
    import socket

    def accepts():
        if process.poll() is not None:
            raise Failed(f"it ended with {process.returncode} before it listened on {path}:\n{tail(log)}")
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
                return True
            except OSError:
                return False

    wait_until(f"a listener on {path}", accepts, seconds=seconds)


def tail(path, lines=40):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return "".join(stream.readlines()[-lines:])
    except OSError as error:
        return f"({error})"
