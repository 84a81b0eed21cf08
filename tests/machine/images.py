"""Makes and caches what an emulated machine boots from: kernel, modules disk, initrd, root image.

Everything lies below cache_folder(); nothing is installed on this machine and /etc/apt is not touched. Each product has a
folder named by a hash of what it is made from, so a second call is instant; a lock makes concurrent calls safe.
"""
import contextlib
import fcntl
import glob
import hashlib
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MIRROR = os.environ.get("HOLDFAST_DEBIAN_MIRROR", "http://deb.debian.org")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = ["debian bookworm", "debian bookworm-updates", "debian-security bookworm-security", "debian bookworm-backports"]
# The Debian suite in which each kernel is the newest linux-image-cloud-amd64.
KERNELS = {"6.1": "bookworm", "6.12": "bookworm-backports"}
# What the initrd loads to reach the root disk (with what these need); built-in ones are left out.
INITRD_MODULES = ["virtio_pci", "virtio_blk", "ext4", "crc32c_intel", "crc32c_generic"]
KEEP_SECONDS = 14 * 24 * 3600
NEEDED_PROGRAMS = {"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "depmod": "kmod", "dpkg-deb": "dpkg",
                   "apt-get": "apt", "/bin/busybox": "busybox-static"}


class Unavailable(Exception):
    """Something that the machine is made from cannot be had here: a reason to skip, not a failure."""


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "holdfast", "machine")


def say(text):
    print(f"machine: {text}", flush=True)


@contextlib.contextmanager
def locked(name):
    """Exclusive lock between processes; says so when it has to wait."""
    os.makedirs(cache_folder(), exist_ok=True)
    with open(os.path.join(cache_folder(), name + ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process prepares {name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command, reason, timeout=1800, **more):
    """Runs a step; its output is shown only when it fails, which raises Unavailable."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                          errors="replace", timeout=timeout, **more)
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-4000:])
        raise Unavailable(f"{reason} ({os.path.basename(command[0])} ended with {done.returncode})")
    return done.stdout


def digest(*parts):
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:16]


def content(name):
    with open(os.path.join(HERE, name), "rb") as stream:
        return stream.read()


def build_once(kind, key, build):
    """The folder <cache>/<kind>-<key>, made by build(temporary folder) unless it is there already."""
    done = os.path.join(cache_folder(), f"{kind}-{key}")
    if os.path.isdir(done):
        os.utime(done)
        return done
    with locked(kind):
        if os.path.isdir(done):
            return done
        drop_old(kind)
        temporary = tempfile.mkdtemp(prefix=f"making-{kind}-", dir=cache_folder())
        began = time.monotonic()
        try:
            build(temporary)
            os.chmod(temporary, 0o755)
            os.rename(temporary, done)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        say(f"made {os.path.basename(done)} in {time.monotonic() - began:.0f} s")
    return done


def drop_old(kind):
    """Removes products of this kind that were not used for two weeks, and what a killed maker left. Caller has the lock."""
    for folder in glob.glob(os.path.join(cache_folder(), f"{kind}-*")):
        if time.time() - os.stat(folder).st_mtime > KEEP_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    for folder in glob.glob(os.path.join(cache_folder(), f"making-{kind}-*")):
        shutil.rmtree(folder, ignore_errors=True)


def check_programs():
    for program, package in NEEDED_PROGRAMS.items():
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        if not shutil.which(program, path=path):
            raise Unavailable(f"{program} is missing; install it: tools/deps.sh machine (package {package})")
    if os.geteuid() != 0:
        raise Unavailable("making the images needs root (mmdebstrap, file ownership); run `machine prepare` once as root "
                          "with the same XDG_CACHE_HOME")


# Kernel packages ---------------------------------------------------------------------------------------------------

def apt_options():
    """Options that give apt a configuration of its own in the cache folder; proxies set in /etc/apt/apt.conf.d still hold."""
    apt = os.path.join(cache_folder(), "apt")
    for part in ("lists/partial", "cache/archives/partial", "empty"):
        os.makedirs(os.path.join(apt, part), exist_ok=True)
    sources = os.path.join(apt, "sources.list")
    with open(sources, "w") as stream:
        for suite in SUITES:
            archive, name = suite.split()
            stream.write(f"deb [arch=amd64 signed-by={KEYRING}] {MIRROR}/{archive} {name} main\n")
    settings = {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": f"{apt}/empty", "Dir::Etc::preferences": "/dev/null",
                "Dir::Etc::preferencesparts": f"{apt}/empty", "Dir::State::lists": f"{apt}/lists",
                "Dir::Cache": f"{apt}/cache", "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
                "Acquire::Languages": "none", "Acquire::Retries": "3", "APT::Sandbox::User": "root"}
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def newest_kernel(suite):
    """Name of the newest signed cloud kernel package of a suite: the one that linux-image-cloud-amd64 depends on."""
    shown = run(["apt-cache", *apt_options(), "show", f"linux-image-cloud-amd64/{suite}"], f"no kernel is known in {suite}")
    if suite == "bookworm":  # the security archive is ahead of the main one; `show` lists every version
        shown = run(["apt-cache", *apt_options(), "show", "linux-image-cloud-amd64"], f"no kernel is known in {suite}")
    prefix = r"6\.1\.0-" if suite == "bookworm" else r"6\.12\."
    found = re.findall(rf"^Depends: (linux-image-({prefix}\S+?)) \(= (\S+)\)", shown, re.M)
    if not found:
        raise Unavailable(f"Debian's {suite} has no linux-image-cloud-amd64 of the wanted series")
    newest = max(found, key=lambda row: [int(n) for n in re.findall(r"\d+", row[2])])
    return newest[0], newest[2]


def kernel_package(series, refresh):
    """Path of the unpacked kernel package of a series. Looks for a newer one only where none is there, or on refresh."""
    current = os.path.join(cache_folder(), f"kernel-{series}.current")
    if not refresh:
        with contextlib.suppress(OSError):
            with open(current) as stream:
                folder = os.path.join(cache_folder(), stream.read().strip())
            if os.path.isdir(folder):
                os.utime(folder)
                return folder
    check_programs()
    with locked("apt"):
        say("reading Debian's package lists")
        run(["apt-get", *apt_options(), "update"], "Debian's package lists cannot be read (no network?)", timeout=300)
        name, version = newest_kernel(KERNELS[series])

    def unpack(folder):
        say(f"downloading {name} {version}")
        with locked("apt"):
            run(["apt-get", *apt_options(), "download", f"{name}={version}"], f"{name} cannot be downloaded", timeout=900,
                cwd=folder)
        archive, = glob.glob(os.path.join(folder, "*.deb"))
        run(["dpkg-deb", "-x", archive, folder], f"{name} cannot be unpacked")
        os.unlink(archive)
        release, = os.listdir(os.path.join(folder, "lib", "modules"))
        run(["depmod", "-b", folder, release], "depmod failed", env=dict(os.environ, PATH=os.environ["PATH"] + ":/sbin:/usr/sbin"))

    folder = build_once(f"kernel-{series}", digest(name, version, "1"), unpack)
    with open(current + ".new", "w") as stream:
        stream.write(os.path.basename(folder))
    os.rename(current + ".new", current)
    return folder


def kernel_release(package):
    release, = os.listdir(os.path.join(package, "lib", "modules"))
    return release


# Boot files --------------------------------------------------------------------------------------------------------

def module_order(modules, wanted):
    """Files below the modules folder in the order to load them: each after what it needs."""
    needs, names, order = {}, {}, []
    with open(os.path.join(modules, "modules.dep")) as stream:
        for line in stream:
            file, _, rest = line.partition(":")
            needs[file] = rest.split()
            names[re.sub(r"\.ko(\.xz|\.zst)?$", "", os.path.basename(file)).replace("-", "_")] = file
    with open(os.path.join(modules, "modules.builtin")) as stream:
        builtin = {os.path.basename(line.strip()).removesuffix(".ko").replace("-", "_") for line in stream}

    def add(file):
        for needed in needs[file]:
            if needed not in order:
                add(needed)
        if file not in order:
            order.append(file)

    for name in wanted:
        if name in names:
            add(names[name])
        elif name not in builtin and not name.startswith("crc32c"):
            raise Unavailable(f"the kernel has no module {name}")
    return order


def cpio_entry(name, mode, data=b"", number=[0]):
    number[0] += 1
    padded = name.encode() + b"\0"
    fields = [number[0], mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(padded), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + padded
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


def make_initrd(modules, path):
    """An uncompressed cpio: decompressing would cost more under emulation than reading."""
    with open("/bin/busybox", "rb") as stream:
        busybox = stream.read()
    parts = [cpio_entry(folder, stat.S_IFDIR | 0o755) for folder in ("bin", "proc", "sys", "dev", "root", "modules")]
    parts.append(cpio_entry("bin/busybox", stat.S_IFREG | 0o755, busybox))
    parts.append(cpio_entry("init", stat.S_IFREG | 0o755, content("initrd-init")))
    parts.append(cpio_entry("guest-init", stat.S_IFREG | 0o755, content("guest-init")))
    order = []
    for file in module_order(modules, INITRD_MODULES):
        with open(os.path.join(modules, file), "rb") as stream:
            data = stream.read()
        if file.endswith(".xz"):
            data, file = lzma.decompress(data), file.removesuffix(".xz")
        order.append(os.path.basename(file))
        parts.append(cpio_entry(f"modules/{order[-1]}", stat.S_IFREG | 0o644, data))
    parts.append(cpio_entry("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in order).encode()))
    parts.append(cpio_entry("TRAILER!!!", 0))
    with open(path, "wb") as stream:
        stream.write(b"".join(parts))


def folder_bytes(folder):
    total = 0
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            total += (os.lstat(os.path.join(where, name)).st_size + 8191) // 4096 * 4096
    return total


def make_ext4(folder, image, spare, features=()):
    with open(image, "wb") as stream:
        stream.truncate((folder_bytes(folder) * 23 // 20 + spare + 1048575) // 1048576 * 1048576)
    run(["/sbin/mkfs.ext4", "-q", "-F", "-O", ",".join(["^has_journal", *features]), "-m", "0", "-d", folder, image],
        "mkfs.ext4 failed")


def boot_folder(package):
    """Folder with vmlinuz, initrd and modules.img of an unpacked kernel package."""
    release = kernel_release(package)
    with open("/bin/busybox", "rb") as stream:
        busybox = stream.read()

    def build(folder):
        modules = os.path.join(package, "lib", "modules")
        shutil.copy(os.path.join(package, "boot", f"vmlinuz-{release}"), os.path.join(folder, "vmlinuz"))
        make_initrd(os.path.join(modules, release), os.path.join(folder, "initrd"))
        make_ext4(modules, os.path.join(folder, "modules.img"), 16 << 20)

    key = digest(os.path.basename(package), content("initrd-init"), content("guest-init"), busybox, content("images.py"))
    return build_once("boot", key, build)


# Root image --------------------------------------------------------------------------------------------------------

def packages():
    lines = content("packages.txt").decode().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def library_names(tree):
    found = set()
    for where, _, files in os.walk(os.path.join(tree, "usr", "lib")):
        found.update(name for name in files if ".so" in name and "python" not in where)
        found.update(name for name in os.listdir(where) if ".so." in name)
    return found


def missing_libraries(program, root):
    """Shared libraries that a host program needs and the root image lacks; empty for a script or a static program."""
    with open(program, "rb") as stream:
        if stream.read(4) != b"\x7fELF":
            return []
    shown = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    needed = re.findall(r"^\s*([^/\s]+\.so\S*) =>", shown, re.M)
    with open(os.path.join(os.path.dirname(root), "root.libraries")) as stream:
        there = set(stream.read().split())
    return [name for name in needed if name not in there]


def root_image():
    def build(folder):
        check_programs()
        say(f"building the root image: Debian 12 with {len(packages())} packages")
        tree = os.path.join(folder, "tree")
        excludes = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")]
        run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages())}", *excludes,
             '--aptopt=Acquire::Languages "none"', "--aptopt=Acquire::Retries 3", "bookworm", tree,
             *[f"deb [signed-by={KEYRING}] {MIRROR}/{suite.split()[0]} {suite.split()[1]} main" for suite in SUITES[:3]]],
            "the root image cannot be built")
        for waste in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(os.path.join(tree, waste), ignore_errors=True)
        for kept in ("lib/modules", "out"):
            os.makedirs(os.path.join(tree, kept), exist_ok=True)
        with open(os.path.join(folder, "root.libraries"), "w") as stream:
            stream.write("".join(f"{name}\n" for name in sorted(library_names(tree))))
        make_ext4(tree, os.path.join(folder, "root.img"), 1 << 30)
        shutil.rmtree(tree)

    key = digest("\n".join(packages()), "bookworm", "3")
    return os.path.join(build_once("root", key, build), "root.img")


def prepare(series, refresh=False):
    """All that a machine with this kernel boots from, as paths; makes what is not in the cache."""
    boot = boot_folder(kernel_package(series, refresh))
    paths = {name: os.path.join(boot, name) for name in ("vmlinuz", "initrd", "modules.img")}
    paths["root.img"] = root_image()
    return paths
