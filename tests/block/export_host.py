"""One holder and one serving tool at a time in a folder of their own; killed, started again, cleared away."""
import os
import signal
import shutil
import subprocess
import tempfile
import threading
import time

BUILD = os.environ.get("HOLDFAST_BUILD_DIR", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
TOOL = os.environ.get("BLOCK_EXPORT_TOOL", os.path.join(BUILD, "tests/block/block_export_tool"))
HOLDER = os.environ.get("HOLDFAST_HOLDER", os.path.join(BUILD, "bin/holdfast-holder"))
MIB = 1 << 20


def run(*argv, check=True, timeout=120):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        return [line.split()[4] for line in stream]


class Tool:
    """A running block_export_tool."""

    def __init__(self, arguments, log):
        self.process = subprocess.Popen([TOOL, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=log, text=True)

    def line(self, timeout=60):
        got = []
        reader = threading.Thread(target=lambda: got.append(self.process.stdout.readline().strip()), daemon=True)
        reader.start()
        reader.join(timeout)
        if not got:
            raise AssertionError("the tool says nothing")
        return got[0]

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.line()

    def kill(self, reap=True):
        self.process.send_signal(signal.SIGKILL)
        if reap:
            self.process.wait(60)
        self.process.stdout.close()
        self.process.stdin.close()

    def park(self):
        answer = self.ask("park")
        self.process.wait(60)
        self.process.stdout.close()
        self.process.stdin.close()
        return answer


class Host:
    """Folder, holder, and what they leave in the kernel, which close() insists is nothing."""

    def __init__(self, kind="fuse", size=512 * MIB, delay_us=0, holder=True):
        self.folder = tempfile.mkdtemp(prefix="hf-block-")
        self.kind, self.size, self.delay_us = kind, size, delay_us
        self.socket = os.path.join(self.folder, "holder.sock") if holder else ""
        self.log = open(os.path.join(self.folder, "log"), "w+", encoding="utf-8")
        self.holder = None
        self.tool = None
        self.device = None
        self.mount_point = os.path.join(self.folder, "mnt")
        os.mkdir(self.mount_point)
        if holder:
            self.start_holder()

    def start_holder(self):
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.holder = subprocess.Popen([HOLDER, "--foreground", self.socket], stderr=self.log)
        deadline = time.monotonic() + 60
        while not os.path.exists(self.socket):
            if time.monotonic() > deadline:
                raise AssertionError("the holder does not start")
            time.sleep(0.01)

    def start(self, expect=True, kind=None, more=()):
        arguments = ["--run-dir", self.folder, "--kind", kind or self.kind, "--file",
                     os.path.join(self.folder, "image"), "--size", str(self.size), "--delay-us", str(self.delay_us)]
        if self.socket:
            arguments += ["--holder", self.socket]
        arguments += more
        self.tool = Tool(arguments, self.log)
        line = self.tool.line()
        if not line.startswith("device "):
            self.tool.process.wait(60)
            if expect:
                raise AssertionError(f"the tool could not serve: {line}\n{self.read_log()}")
            return line
        self.device = line.split()[1]
        return self.device

    def kill(self):
        self.tool.kill()

    def started_holder(self):
        """The holder that the tool started, not we."""
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as stream:
                    words = stream.read().split(b"\0")
            except OSError:
                continue
            if words[:2] == [HOLDER.encode(), self.socket.encode()]:
                return int(entry)
        return None

    def end_started_holder(self):
        pid = self.started_holder() if self.socket else None
        if pid:
            os.kill(pid, signal.SIGTERM)

    def read_log(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8") as stream:
            return stream.read()[-8000:]

    def mkfs_and_mount(self, fs="ext4"):
        flags = {"ext4": ["-q", "-F", "-E", "nodiscard"], "xfs": ["-q", "-K", "-f"]}[fs]
        run("mkfs." + fs, *flags, self.device)
        self.mount()

    def mount(self):
        run("mount", self.device, self.mount_point)

    def unmount(self):
        run("umount", self.mount_point)

    def close(self):
        detached = "ok"
        if self.mount_point in mounts():
            run("umount", self.mount_point, check=False)
        if self.tool and self.tool.process.poll() is None:
            detached = self.tool.ask("detach")
            self.tool.park()
        if self.holder:
            self.holder.terminate()
            try:
                self.holder.wait(30)
            except subprocess.TimeoutExpired:
                self.holder.kill()
                self.holder.wait()
        self.end_started_holder()
        left = [m for m in mounts() if m.startswith(self.folder)]
        left += loop_devices_of(self.folder)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if left:
            raise AssertionError(f"left behind: {left} ({detached})")


def loop_devices_of(folder):
    found = []
    for name in os.listdir("/sys/block"):
        path = f"/sys/block/{name}/loop/backing_file"
        if name.startswith("loop") and os.path.exists(path):
            try:
                with open(path, encoding="utf-8") as stream:
                    if folder in stream.read():
                        found.append("/dev/" + name)
            except OSError:
                pass
    return found


def fio(path, size, seconds=None, verify=True, extra=()):
    """Starts fio writing and verifying; .wait() and judge by check_fio()."""
    argv = ["fio", "--name=t", f"--filename={path}", f"--size={size}", "--rw=randrw", "--bsrange=4k-128k",
            "--blockalign=4k", "--direct=1", "--ioengine=libaio", "--iodepth=16", "--serialize_overlap=1",
            "--output-format=terse", "--eta=never", "--aux-path=" + tempfile.gettempdir(), *extra]
    if verify:
        argv += ["--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1", "--verify_state_save=0"]
    if seconds:
        argv += ["--time_based", f"--runtime={seconds}"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def check_fio(process, timeout=300):
    try:
        out, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if process.returncode != 0:
        raise AssertionError(f"fio failed with {process.returncode}: {out[-3000:]}")
    return out


LOST_REFERENCE = "VFS: Close: file count is 0 (f_op=ublk_ch_fops"


def skip_when_the_kernel_loses_ublk():
    """Ends the run as skipped when the kernel itself has lost a reference of ublk's device file.

    Linux 6.12 now and then completes a request of a killed ublk server twice (docs/facts-block.md, 3.4). No program can
    undo that, and nothing of this machine can be trusted afterwards.
    """
    def watch():
        while True:
            time.sleep(2)
            if LOST_REFERENCE in subprocess.run(["dmesg"], capture_output=True, text=True, check=False).stdout:
                print(f"skipped: this kernel has completed a killed server's request twice ({LOST_REFERENCE})", flush=True)
                os._exit(77)

    threading.Thread(target=watch, daemon=True).start()
