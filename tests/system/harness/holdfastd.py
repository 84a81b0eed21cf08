"""Our daemon on a Host: started, killed, started again, with its state, pool and log below the host's folder."""
import json
import os
import signal

from harness.base import Failed, need_binary, need_device, wait_until
from harness.host import end_process, tail, wait_for_socket


class Holdfastd:
    """One holdfastd. stop() ends it in order, kill9() as a crash; start() after either is a restart on the same state."""

    def __init__(self, host):
        self.host = host
        need_device("/dev/fuse", "FUSE; modprobe fuse")
        need_device("/dev/loop-control", "loop devices; modprobe loop")
        self.program = need_binary("holdfastd")
        self.client = need_binary("holdfast")
        self.folder = host.path("holdfast")
        self.log = host.path("holdfastd.log")
        self.pool_folder = host.path("pool")
        self._process = None
        for folder in (self.folder, self.pool_folder):
            os.makedirs(folder, exist_ok=True)

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def command(self):
        return [self.program, "--state-dir", self.folder]

    def start(self, seconds=30):
        self._process = self.host.start(self.command(), self.log)
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=30):
        wait_for_socket(self.host.path("run", "docker", "plugins", "holdfast.sock"), self._process, self.log, seconds)

    def holdfast(self, *arguments, **more):
        """Runs `holdfast …` against this daemon."""
        return self.host.run([self.client, *arguments], **more)

    def holdfast_json(self, *arguments, **more):
        done = self.holdfast(*arguments, "--json", **more)
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise Failed(f"holdfast {' '.join(arguments)} --json answered no JSON: {done.stdout!r}") from error

    def kill9(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart(self, seconds=30):
        """SIGTERM, then a new process; volumes stay mounted."""
        if not end_process(self._process, seconds=seconds):
            raise Failed(f"holdfastd did not end on SIGTERM within {seconds} s:\n{self.logs()}")
        return self.start(seconds)

    def stop(self, seconds=30):
        if self.running and not end_process(self._process, seconds=seconds):
            raise Failed(f"holdfastd did not end on SIGTERM within {seconds} s:\n{self.logs()}")

    def logs(self, lines=60):
        return tail(self.log, lines)

    def wait_log(self, text, seconds=30):
        def seen():
            with open(self.log, encoding="utf-8", errors="replace") as stream:
                return text in stream.read()
        wait_until(f"{text!r} in holdfastd's log", seen, seconds=seconds)
