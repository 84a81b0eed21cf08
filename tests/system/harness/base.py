"""Running programs, waiting, and finding out what this machine can do."""
import os
import shutil
import subprocess
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get("HOLDFAST_BUILD_DIR", os.path.join(ROOT, "build"))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "holdfast")

Skip = unittest.SkipTest


class Failed(AssertionError):
    """A step of the test failed; the text says which, with what the program said."""


def run(command, *, check=True, timeout=120, text_input=None, env=None, merge=False):
    """Runs a program to its end; returns CompletedProcess with text output. Raises Failed with its output."""
    try:
        done = subprocess.run(command, timeout=timeout, input=text_input, env=env, text=True, errors="replace",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merge else subprocess.PIPE,
                              stdin=subprocess.DEVNULL if text_input is None else None)
    except subprocess.TimeoutExpired as error:
        said = b"".join(part if isinstance(part, bytes) else part.encode() for part in (error.stdout, error.stderr) if part)
        raise Failed(f"{' '.join(command)}: not done after {timeout} s\n{said.decode(errors='replace')}") from error
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr or ''}")
    return done


# Of a machine that has much else to do; where all is well nobody waits so long.
PATIENCE = 90


def wait_until(what, condition, *, seconds=PATIENCE, every=0.1):
    """Polls until condition() is true (returns that value), or raises Failed naming `what`; not before PATIENCE seconds."""
    seconds = max(seconds, PATIENCE)
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited {seconds} s in vain for: {what}")
        time.sleep(every)


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root (mounts, namespaces, loop devices)")
    if not run(["unshare", "-m", "true"], check=False).returncode == 0:
        raise Skip("this process may not make mount namespaces (CAP_SYS_ADMIN)")


def need_program(name, package):
    """Path of a program, Debian's own before others of that name in PATH."""
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    found = shutil.which(name)
    if not found:
        raise Skip(f"{name} is not installed (Debian package {package}; tools/deps.sh system)")
    return found


def need_psycopg2():
    try:
        import psycopg2
        return psycopg2
    except ImportError as error:
        raise Skip("python3-psycopg2 is not installed (tools/deps.sh system)") from error


def need_binary(name):
    """Path of a program of ours in the build folder."""
    room = {"holdfastd": "node", "holdfast-pool": "node", "holdfast": "cli", "holdfast-holder": "holder"}[name]
    for path in (os.path.join(BUILD, "bin", name), os.path.join(BUILD, "src", room, name)):
        if os.access(path, os.X_OK):
            return path
    raise Skip(f"{name} is not built yet")


def need_device(path, why):
    if not os.path.exists(path):
        raise Skip(f"this machine has no {path} ({why})")


def alive(pid):
    """Whether the process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_with(marks):
    """{pid: command line} of the processes whose environment or command line holds one of the byte strings."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as stream:
                command = stream.read()
            with open(f"/proc/{entry}/environ", "rb") as stream:
                environment = stream.read()
        except OSError:
            continue
        if any(mark in command or mark in environment for mark in marks):
            found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found
