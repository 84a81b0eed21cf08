"""Container images built on this machine from Debian packages, kept in ~/.cache/holdfast/images by their recipe's hash.

bb: a static busybox. pg: PostgreSQL 15 with pgbench, by tools/postgres-image.sh.
"""
import fcntl
import hashlib
import io
import os
import tarfile
import time

from harness.base import CACHE, ROOT, Skip, need_program, run

MIRROR = os.environ.get("HOLDFAST_DEBIAN_MIRROR", "http://deb.debian.org/debian")

POSTGRES_IMAGE = os.path.join(ROOT, "tools", "postgres-image.sh")


class Recipe:
    def __init__(self, name, changes, text, build):
        self.name = name
        self.changes = changes  # docker import -c
        self._text = text       # what the content depends on
        self._build = build

    def tar(self):
        """Path of the image's tar; builds it unless it is in the cache."""
        folder = os.path.join(CACHE, "images")
        os.makedirs(folder, exist_ok=True)
        digest = hashlib.sha256(self._text.encode()).hexdigest()[:12]
        path = os.path.join(folder, f"{self.name}-{digest}.tar")
        with open(os.path.join(folder, f"{self.name}.lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(path):
                print(f"building the image {self.name} (kept as {path})", flush=True)
                began = time.monotonic()
                self._build(path + ".part")
                os.rename(path + ".part", path)
                print(f"built in {time.monotonic() - began:.0f} s, {os.path.getsize(path) >> 20} MiB", flush=True)
        return path


def _add(tar, name, content, mode=0o755):
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def _add_link(tar, name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    tar.addfile(member)


def _add_folder(tar, name, mode=0o755):
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    tar.addfile(member)


def _build_busybox(path):
    busybox = need_program("busybox", "busybox-static")
    applets = run([busybox, "--list"]).stdout.split()
    with open(busybox, "rb") as stream:
        program = stream.read()
    with tarfile.open(path, "w") as tar:
        for folder in ("bin", "etc", "proc", "sys", "dev", "root", "data"):
            _add_folder(tar, folder)
        _add_folder(tar, "tmp", 0o1777)
        _add(tar, "bin/busybox", program)
        for applet in applets:
            if applet != "busybox":
                _add_link(tar, f"bin/{applet}", "busybox")
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", 0o644)
        _add(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)


def debian_tar(path, packages, *, setup=(), customize=(), options=(), seconds=900):
    """A minimal Debian 12 with these packages, as a tar. Raises Skip where Debian's archive is out of reach."""
    mmdebstrap = need_program("mmdebstrap", "mmdebstrap")
    command = [mmdebstrap, "--mode=root", "--variant=minbase", "--quiet", f"--include={','.join(packages)}", *options]
    for excluded in ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"):
        command.append(f"--dpkgopt=path-exclude={excluded}")
    command += [f"--setup-hook={hook}" for hook in setup] + [f"--customize-hook={hook}" for hook in customize]
    done = run([*command, "--format=tar", "bookworm", path, f"deb {MIRROR} bookworm main"], check=False, timeout=seconds)
    if done.returncode != 0:
        if os.path.exists(path):
            os.unlink(path)
        said = "; ".join(done.stderr.strip().splitlines()[-3:])
        raise Skip(f"mmdebstrap could not build an image with {', '.join(packages)} (Debian's archive away?): {said}")


class PostgresRecipe:
    """The image that users make where none can be pulled: by the same script, kept in the same place."""

    name = "pg"

    def tar(self):
        done = run([POSTGRES_IMAGE, "--tar"], check=False, timeout=1500)
        if done.returncode != 0:
            raise Skip("; ".join(done.stderr.strip().splitlines()[-3:]))
        return done.stdout.strip()

    @property
    def changes(self):
        return run([POSTGRES_IMAGE, "--changes"]).stdout.splitlines()


RECIPES = {
    "bb": Recipe("bb", ['CMD ["sh"]'], "busybox 1", _build_busybox),
    "pg": PostgresRecipe(),
}
