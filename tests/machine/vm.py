"""Runs one emulated machine: files in by a tar on a disk, files out by another, the end by a line on a second serial port."""
import contextlib
import ctypes
import fcntl
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

import images

EMULATOR = "qemu-system-x86_64"
TIMED_OUT, DIED = 124, 125
PR_SET_PDEATHSIG = 1
# 6.12 crashes at random under QEMU 7.2 with five-level page tables or cmpxchg16b.
CPU = "max,la57=off,cx16=off"


def check_emulator():
    if not shutil.which(EMULATOR):
        raise images.Unavailable(f"{EMULATOR} is missing; install it: tools/deps.sh machine (package qemu-system-x86)")


@contextlib.contextmanager
def run_folder():
    """A folder for this run alone. Held by a lock, so that the next run can remove what a killed one left."""
    parent = os.path.join(images.cache_folder(), "runs")
    os.makedirs(parent, exist_ok=True)
    with images.locked("runs"):
        for name in os.listdir(parent):
            with contextlib.suppress(OSError), open(os.path.join(parent, name, "lock")) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
        folder = tempfile.mkdtemp(dir=parent)
        lock = open(os.path.join(folder, "lock"), "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def add_bytes(archive, name, data, mode):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def own(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def pack(arguments, path):
    """Writes the tar disk: the script behind a wrapper that sets its environment, and the caller's files."""
    settings = []
    for setting in arguments.env:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            sys.exit(f"machine: --env '{setting}' is not NAME=VALUE")
        settings.append(f"export {name}={shlex.quote(value)}\n")
    with open(arguments.script, "rb") as stream:
        script = stream.read()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        add_bytes(archive, "run/machine/script.main", script, 0o755)
        wrapper = "#!/bin/sh\n" + "".join(settings) + "exec /run/machine/script.main\n"
        add_bytes(archive, "run/machine/script", wrapper.encode(), 0o755)
        for host, guest in arguments.file:
            archive.add(os.path.realpath(host), guest.lstrip("/"), filter=own)
        for host, guest in arguments.dir:
            archive.add(os.path.realpath(host), guest.lstrip("/") or ".", filter=own)


def check_libraries(arguments, root):
    for host, _ in arguments.file:
        missing = images.missing_libraries(host, root) if os.path.isfile(host) else []
        if missing:
            sys.exit(f"machine: {host} needs {', '.join(missing)}, which the root image lacks: add the Debian package of it to "
                     "tests/machine/packages.txt")


def sparse(path, length):
    with open(path, "wb") as stream:
        stream.truncate(length)


def command_line(arguments, paths, folder):
    words = [EMULATOR, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", str(arguments.cpus),
             "-m", str(arguments.mem), "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
             "-no-reboot", "-kernel", paths["vmlinuz"], "-initrd", paths["initrd"],
             "-append", f"console=ttyS0 panic=-1 quiet nokaslr mitigations=off no_timer_check {arguments.append}".strip(),
             "-serial", "stdio", "-serial", f"file:{folder}/status", "-device", "virtio-rng-pci"]

    def disk(serial, path, options):
        words.extend(["-drive", f"file={path.replace(',', ',,')},format=raw,if=none,id={serial},{options}",
                      "-device", f"virtio-blk-pci,drive={serial},serial={serial}"])

    disk("root", paths["root.img"], "snapshot=on,cache=unsafe")
    disk("modules", paths["modules.img"], "readonly=on")
    disk("in", f"{folder}/in", "readonly=on")
    sparse(f"{folder}/out", arguments.out_size)
    disk("out", f"{folder}/out", "cache=unsafe")
    for number, length in enumerate(arguments.disk):
        sparse(f"{folder}/disk{number}", length)
        disk(f"disk{number}", f"{folder}/disk{number}", "discard=unmap,detect-zeroes=off")
    return words


def status_of(folder):
    """{"up": seconds of the guest's clock, "exit": code}, as far as the guest has said them."""
    with contextlib.suppress(OSError), open(f"{folder}/status", errors="replace") as stream:
        lines = [line.split() for line in stream if line.endswith("\n")]
        return {words[0]: words[1] for words in lines if len(words) == 2}
    return {}


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Console(threading.Thread):
    """Copies the console to our output (and a log) line by line."""

    def __init__(self, stream, log):
        super().__init__(daemon=True)
        self.stream, self.log = stream, log

    def run(self):
        for line in self.stream:
            line = line.replace(b"\r", b"")
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            if self.log:
                self.log.write(line)
                self.log.flush()


def take_out(folder, target):
    """Unpacks the guest's /out; its names cannot leave the target, devices are not made."""
    os.makedirs(target, exist_ok=True)
    with contextlib.suppress(tarfile.ReadError), tarfile.open(f"{folder}/out", "r:") as archive:
        for entry in archive:
            parts = entry.name.split("/")
            if (entry.isfile() or entry.isdir()) and not entry.name.startswith("/") and ".." not in parts:
                archive.extract(entry, target, set_attrs=False)


def interrupted(signum, _frame):
    raise KeyboardInterrupt(signum)


def run(arguments, paths):
    check_libraries(arguments, paths["root.img"])
    signal.signal(signal.SIGTERM, interrupted)
    with run_folder() as folder, contextlib.ExitStack() as stack:
        pack(arguments, f"{folder}/in")
        log = stack.enter_context(open(arguments.log, "wb")) if arguments.log else None
        began = time.monotonic()
        emulator = subprocess.Popen(command_line(arguments, paths, folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, env=dict(os.environ, TMPDIR=folder),
                                    preexec_fn=die_with_parent)
        try:
            console = Console(emulator.stdout, log)
            console.start()
            code = watch(arguments, emulator, folder, began)
            if code is not None and emulator.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    emulator.wait(10)  # it powers off by itself
        finally:
            if emulator.poll() is None:
                emulator.kill()
            emulator.wait()
        console.join(5)
        if arguments.out:
            take_out(folder, arguments.out)
        seconds = time.monotonic() - began
        if code is None:
            print(f"machine: no end after {arguments.timeout:.0f} s; killed", flush=True)
            return TIMED_OUT
        if code == DIED and "exit" not in status_of(folder):
            print(f"machine: died after {seconds:.1f} s before the script ended (emulator's exit {emulator.returncode})",
                  flush=True)
            return DIED
        images.say(f"script ended with {code} after {seconds:.1f} s")
        return code


def watch(arguments, emulator, folder, began):
    """Waits for the script's exit code. DIED: the emulator ended first. None: out of time."""
    announced = False
    while True:
        gone = emulator.poll() is not None
        status = status_of(folder)
        if "up" in status and not announced:
            announced = True
            images.say(f"kernel {arguments.kernel} up in {time.monotonic() - began:.1f} s "
                       f"(its own clock: {status['up']} s)")
        if "exit" in status:
            return int(status["exit"])
        if gone:
            return DIED
        if time.monotonic() - began > arguments.timeout:
            return None
        time.sleep(0.05)
