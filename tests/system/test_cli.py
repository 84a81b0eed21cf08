#!/usr/bin/python3
"""Every command of `holdfast` on a real daemon, as people and as programs use it; and what each refuses, in one sentence with a stable code."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import Failed, Holdfastd, SystemTest, run, wait_until  # noqa: E402
from harness.base import ROOT, alive, need_program  # noqa: E402
from harness.host import tail  # noqa: E402
from harness.ports import free_port  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30


def documented_codes():
    """{name: (code, exit)} from the page that users read."""
    codes = {}
    with open(os.path.join(ROOT, "docs", "operations", "exit-codes.md"), encoding="utf-8") as page:
        for line in page:
            row = re.match(r"\| (HF\d+) \| (\w+) \| (\d+) \|", line)
            if row:
                codes[row[2]] = (row[1], int(row[3]))
    return codes


CODES = documented_codes()


class CliTest(SystemTest):
    """self.host, self.daemon, with a pool of `pool_size` unless that is None."""

    pool_size = "6G"

    def setUp(self):
        super().setUp()
        self.host = self.make_host()
        self.addCleanup(self._show_log)
        self.daemon = Holdfastd(self.host)
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        if self.pool_size:
            self.daemon.add_pool(self.pool_size)

    def _show_log(self):
        if not self._outcome.success:
            print(f"---- the end of holdfastd's log\n{tail(self.daemon.log, 40)}", flush=True)

    def ok(self, *arguments):
        """The answer of a command that must succeed, in both forms; the JSON one is given back."""
        done = self.daemon.holdfast(*arguments, "--json", check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"holdfast {' '.join(arguments)}")
        return json.loads(done.stdout)

    def said(self, *arguments):
        """What a person reads."""
        done = self.daemon.holdfast(*arguments, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"holdfast {' '.join(arguments)}")
        return done.stdout

    def judge(self, done, name, *words):
        """One sentence, the stable code, and the exit code of the documented table."""
        code, status = CODES[name]
        what = " ".join(done.args[-6:])
        self.assertEqual(done.stdout, "", what)
        self.assertEqual(done.returncode, status, f"{what}: {done.stderr}")
        error = json.loads(done.stderr)["error"]
        self.assertEqual((error["code"], error["name"]), (code, name), done.stderr)
        self.assertNotIn("\n", error["message"].strip(), what)
        for word in words:
            self.assertIn(word, error["message"], what)
        return error["message"]

    def refused(self, name, *arguments, words=()):
        """The message of a command that must be refused, with --json."""
        return self.judge(self.daemon.holdfast(*arguments, "--json", check=False), name, *words)

    def make_directory(self, *parts):
        path = self.host.path(*parts)
        os.makedirs(path, exist_ok=True)
        return path

    def loop_of(self, megabytes, name):
        """A loop device of the test's own over a sparse file; the leak check detaches what a failure leaves."""
        image = self.host.path(name)
        with open(image, "wb") as stream:
            stream.truncate(megabytes * MIB)
        return run(["losetup", "-f", "--show", image]).stdout.strip()


class Volumes(CliTest):
    def test_life_of_a_volume(self):
        for fs, size in (("ext4", "1G"), ("xfs", "1G"), ("btrfs", "1G"), ("none", "1G")):
            with self.subTest(fs=fs):
                self.life(f"v-{fs}", fs, size)
        self.assertEqual(self.ok("volume", "list")["volumes"], [])
        self.assertIn("no volumes", self.said("volume", "list"))

    def life(self, name, fs, size):
        made = self.ok("volume", "create", name, "--size", size, "--fs", fs, "-o", "labels=team=core")
        self.assertEqual((made["name"], made["size_bytes"], made["state"], made["spec"]["fs"]), (name, GIB, "detached", fs))
        self.assertEqual(self.ok("volume", "create", name, "--size", size, "--fs", fs, "-o", "labels=team=core")["id"], made["id"], "asked twice")
        self.refused("spec_mismatch", "volume", "create", name, "--size", "2G", words=(name, "size"))
        self.assertIn(name, self.said("volume", "list"))
        self.assertEqual(self.ok("volume", "inspect", made["id"])["name"], name)
        attached = self.ok("volume", "attach", name)
        self.assertEqual(attached["state"], "attached")
        self.assertEqual(self.said("volume", "attach", name), f"{name} is attached as {attached['attachment']['device']} (by fuse)\n")
        self.assertTrue(os.path.exists(attached["attachment"]["device"]))
        where = self.make_directory("mnt-" + name)
        if fs == "none":
            self.refused("failed_precondition", "volume", "mount", name, where, words=("fs=none",))
        else:
            self.use(name, where)
        self.ok("volume", "detach", name)
        self.assertEqual(self.ok("volume", "inspect", name)["state"], "detached")
        self.snapshots(name, fs, where)
        self.ok("volume", "delete", name, "--yes")
        self.refused("not_found", "volume", "inspect", name, words=(name,))
        self.refused("not_found", "volume", "delete", name, "--yes", words=(name,))
        self.ok("volume", "delete", name, "--yes", "--missing-ok")

    def use(self, name, where):
        self.assertEqual(self.ok("volume", "mount", name, where)["path"], where)
        self.host.run(["sh", "-c", f"echo kept > {where}/f && sync {where}/f"])
        self.refused("in_use", "volume", "detach", name, words=(name,))
        self.refused("in_use", "volume", "delete", name, "--yes", words=(name,))
        resized = self.ok("volume", "resize", name, "1200M")
        self.assertEqual(resized["size_bytes"], 1200 * MIB)
        self.refused("invalid_argument", "volume", "resize", name, "1G", words=(name,))
        self.assertEqual(self.ok("volume", "unmount", name, "--keep-attached")["state"], "attached", "the path may be left out")
        self.refused("not_attached", "volume", "unmount", name, words=(name, "not mounted"))

    def snapshots(self, name, fs, where):
        cut = self.ok("snapshot", "create", name, "s1", "-l", "why=test")
        self.assertEqual((cut["name"], cut["labels"]), ("s1", {"why": "test"}))
        self.assertIn("s1", self.said("snapshot", "list", name))
        self.refused("in_use", "volume", "delete", name, "--yes", words=("snapshot",))
        self.ok("volume", "clone", name, name + "-c1", "--snapshot", "s1")
        cloned = self.ok("volume", "clone", name + "-c1", name + "-c2")
        self.assertEqual(cloned["parent"].partition("@")[0], name + "-c1")
        if fs != "none":
            self.ok("volume", "mount", name + "-c2", where)
            self.assertEqual(self.host.run(["cat", where + "/f"]).stdout, "kept\n", "a clone of a clone")
            self.host.run(["sh", "-c", f"echo changed > {where}/f"])
            self.ok("volume", "unmount", name + "-c2", where)
        self.ok("snapshot", "restore", name, "s1", "--yes")
        self.refused("not_found", "snapshot", "restore", name, "s9", "--yes", words=("s9",))
        self.ok("snapshot", "delete", name, "s1", "--yes")
        self.assertEqual(self.ok("snapshot", "list", name)["snapshots"], [])
        for clone in ("-c2", "-c1"):
            self.ok("volume", "delete", name + clone, "--yes")

    def test_update_and_what_a_spec_may_say(self):
        self.ok("volume", "create", "v", "--size", "1G")
        changed = self.ok("volume", "update", "v", "-o", "sticky=true", "-o", "mount_options=noatime,commit=30")
        self.assertEqual((changed["spec"]["sticky"], changed["spec"]["mount_options"]), ("true", "commit=30;noatime"))
        self.refused("failed_precondition", "volume", "delete", "v", "--yes", words=("sticky",))
        self.ok("volume", "update", "v", "-o", "sticky=false")
        self.refused("not_supported", "volume", "update", "v", "-o", "fs=xfs", words=("fs",))
        self.refused("invalid_spec", "volume", "update", "v", "-o", "colour=red", words=("colour",))
        for option in ("suid", "dev", "errors=panic", "nobarrier", "commit=never", "frobnicate"):
            self.refused("invalid_spec", "volume", "update", "v", "-o", f"mount_options={option}", words=(option, "ext4", "noatime"))
            self.refused("invalid_spec", "volume", "create", f"name=w,mount_options={option}", words=(option,))
        self.refused("invalid_spec", "volume", "create", "w", "--fs", "none", "-o", "mount_options=noatime", words=("fs=none",))
        cases = {("w", "--size", "lots"): ("size", "lots"), ("w", "--size", "1K"): ("size",), ("w", "--fs", "ntfs"): ("fs", "ntfs", "ext4"),
                 ("x" * 129,): ("128",), ("name=" + "x" * 129,): ("128",), ("-dash",): (), ("a b",): ("a b",),
                 ("size=1G",): ("name",), ("name=w,size=1G,size=2G",): ("size",), ("name=w,nmae=x",): ("nmae",)}
        for arguments, words in cases.items():
            if not arguments[0].startswith("-"):
                self.refused("invalid_spec", "volume", "create", *arguments, words=words)
        self.refused("not_supported", "volume", "create", "w", "--repl", "3", words=("repl", "not yet supported"))
        self.refused("no_space", "volume", "create", "w", "--size", "40T", words=("w",))
        self.refused("invalid_argument", "volume", "create", "w", "-o", "size", words=("size",))
        self.refused("not_found", "volume", "clone", "nobody", "w", words=("nobody",))
        self.refused("not_found", "snapshot", "create", "nobody", words=("nobody",))
        self.refused("not_found", "volume", "attach", "nobody", words=("nobody",))
        self.refused("invalid_argument", "volume", "attach", "v", "--export", "iscsi", words=("iscsi", "ublk"))
        self.refused("not_found", "volume", "mount", "v", self.host.path("nowhere"), words=("nowhere", "make it first"))
        full = self.make_directory("full")
        with open(os.path.join(full, "f"), "w", encoding="ascii"):
            pass
        self.refused("not_empty", "volume", "mount", "v", full, words=(full,))
        self.assertEqual([v["name"] for v in self.ok("volume", "list")["volumes"]], ["v"], "a refusal made something")
        self.assertFalse(self.daemon.attached("v"), "a refused mount left the volume attached")

    def test_unmount_without_a_path_when_there_are_several(self):
        self.ok("volume", "create", "v", "--size", "1G")
        one, two = self.make_directory("one"), self.make_directory("two")
        self.ok("volume", "mount", "v", one)
        self.ok("volume", "mount", "v", two)
        self.refused("invalid_argument", "volume", "unmount", "v", words=(one, two))
        self.ok("volume", "unmount", "v", two)
        self.assertEqual(self.ok("volume", "unmount", "v")["state"], "detached")

    def test_confirmation(self):
        self.ok("volume", "create", "v", "--size", "1G")
        self.ok("snapshot", "create", "v", "s")
        for words in (("volume", "delete", "v", "--with-snapshots"), ("snapshot", "delete", "v", "s"), ("snapshot", "restore", "v", "s")):
            self.refused("confirmation_needed", *words, words=("--yes",))
            for answer in ("n\n", "\n", "maybe\n", "\x04"):
                status, shown = self.at_terminal(answer, *words)
                self.assertEqual(status, CODES["confirmation_needed"][1], shown)
                self.assertIn("[y/N]", shown)
        self.assertEqual(len(self.ok("snapshot", "list")["snapshots"]), 1, "nothing was confirmed")
        status, shown = self.at_terminal("y\n", "volume", "delete", "v", "--with-snapshots")
        self.assertEqual(status, 0, shown)
        self.assertEqual(self.ok("volume", "list")["volumes"], [])

    def at_terminal(self, answer, *arguments):
        """(exit code, what stands on the screen) of a command whose question is answered at a pseudo-terminal."""
        master, slave = pty.openpty()
        command = subprocess.Popen(self.host.enter([self.daemon.client, *arguments]), env=self.environment, stdin=slave, stdout=slave,
                                   stderr=slave, close_fds=True)
        os.close(slave)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(master, 4096)
        os.write(master, answer.encode())
        status = command.wait(60)
        try:
            while more := os.read(master, 4096):
                shown += more
        except OSError:
            pass  # the other side is closed
        os.close(master)
        return status, shown.decode(errors="replace")


class Usage(CliTest):
    pool_size = None

    def test_usage_permission_and_absence(self):
        for words in ((), ("volume",), ("snapshot",), ("pool",), ("node",)):
            done = self.daemon.holdfast(*words, check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("Usage: holdfast", done.stderr)
            self.refused("invalid_argument", *words, words=("There are:",))
        for words, shown in ((("bogus",), "bogus"), (("volume", "bogus"), "bogus"), (("volume", "list", "--bogus"), "--bogus"),
                             (("volume", "create"), "name"), (("volume", "resize", "v"), "size"), (("status", "x"), "x")):
            self.refused("invalid_argument", *words, words=(shown, "--help"))
            done = self.daemon.holdfast(*words, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertTrue(done.stderr.startswith("holdfast: HF1001 invalid_argument: "), done.stderr)
        self.refused("invalid_argument", "vol", "list", words=('there is no command "vol"', "volume, snapshot, pool"))
        self.refused("invalid_argument", "volume", "list", "--bogus", words=("there is no option --bogus", "holdfast volume list --help"))
        self.refused("invalid_argument", "volume", "inspect", "a", "b", words=('"b" is an argument too many',))
        self.help_of_everything()
        self.nobody()
        gone = self.host.path("no.sock")
        self.refused("unavailable", "status", "--socket", gone, words=(gone, "holdfastd"))
        self.refused("invalid_argument", "status", "--socket", "/" + "x" * 200, words=("--socket",))

    def help_of_everything(self):
        """Each command says what it does, what it takes, and how it is called; none is longer than a screen is wide."""
        commands = [()]
        for words in commands:
            help_text = self.said(*words, "--help")
            self.assertIn("Usage: " + " ".join(("holdfast", *words)), help_text)
            below = re.findall(r"^  ([a-z]+)[ ,]", help_text.partition("Subcommands:\n")[2].partition("\n\n")[0], re.M)
            commands += [(*words, name) for name in below]
            if not below:
                self.assertIn("Example", help_text, words)
            # But for what cannot be broken: the grammar of snap_schedule.
            long = [line for line in help_text.splitlines() if len(line) > 80 and len(max(line.split(), key=len)) < 60]
            self.assertEqual(long, [], words)
        self.assertGreater(len(commands), 25)
        self.assertRegex(self.said("--version"), r"^holdfast \d")

    def nobody(self):
        """Who is not root learns that, and not that nobody answers."""
        client = shutil.copy(self.daemon.client, "/var/tmp/" + self.test_id)
        self.addCleanup(os.unlink, client)
        done = self.host.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", client, "status", "--json"], check=False)
        self.judge(done, "permission_denied", "root", "/run/holdfast/api.sock")

    def test_status_and_nodes(self):
        status = self.ok("status")
        self.assertEqual((status["healthy"], len(status["problems"])), (False, 1), "a node without a pool")
        self.assertIn("pool", status["problems"][0])
        self.assertEqual(self.daemon.http("/healthz")[0], 503)
        self.daemon.add_pool("1G")
        self.assertEqual(self.ok("status")["healthy"], True)
        self.assertIn("healthy", self.said("status"))
        (node,) = self.ok("node", "list")["nodes"]
        self.assertEqual((node["online"], node["name"]), (True, "host"))
        self.assertIn("fuse", node["exports"])
        self.assertIn("host", self.said("node", "list"))
        self.assertEqual(self.daemon.http("/healthz"), (200, '{"healthy":true}\n'))


class Completion(CliTest):
    """Typed at a terminal, with the Tab key, in each shell; what the command then says shows what was completed."""

    pool_size = None
    odd = "odd pool=a,b;c $d 'e' \"f\" (g)"

    # What reads the completion as a user's own settings do, and a prompt to wait for.
    settings = {"bash": "PS1='ready> '\nsource <(holdfast completion bash)\n",
                "zsh": "PROMPT='ready> '\nautoload -Uz compinit && compinit -u -D\nsource <(holdfast completion zsh)\n",
                "fish": "function fish_prompt; echo 'ready> '; end\nset -g fish_greeting\nholdfast completion fish | source\n"}

    def start_shell(self, shell):
        home = self.make_directory("home-" + shell)
        path = {"bash": "rc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}[shell]
        os.makedirs(os.path.dirname(os.path.join(home, path)), exist_ok=True)
        with open(os.path.join(home, path), "w", encoding="ascii") as settings:
            settings.write(self.settings[shell])
        command = [need_program(shell, shell), *(["--noprofile", "--rcfile", os.path.join(home, path)] if shell == "bash" else []), "-i"]
        environment = {**self.environment, "HOME": home, "ZDOTDIR": home, "TERM": "xterm", "LANG": "C.UTF-8",
                       "PATH": os.path.dirname(self.daemon.client) + ":/usr/sbin:/usr/bin:/sbin:/bin"}
        environment.pop("XDG_CACHE_HOME", None)
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
        # Its controlling terminal: shells ask for that.
        self.shell = subprocess.Popen(self.host.enter(command), env=environment, stdin=slave, stdout=slave, stderr=slave, cwd=home,
                                      start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.shown = b""
        wait_until(f"{shell}'s prompt", lambda: b"ready> " in self.settle(0.2), seconds=20)

    def end_shell(self):
        self.shell.kill()
        self.shell.wait()
        os.close(self.master)

    def settle(self, quiet):
        """Reads the screen until nothing was written for so many seconds."""
        while select.select([self.master], [], [], quiet)[0]:
            self.shown += os.read(self.master, 65536)
        return self.shown

    def typed(self, keys, rest=""):
        """The JSON of the command that stands on the line after the keys, the last of which is Tab."""
        said = self.host.path("said")
        if os.path.exists(said):
            os.unlink(said)
        os.write(self.master, keys.encode() + b"\t")
        self.settle(1.5)
        os.write(self.master, f"{rest} --json >{said}\n".encode())

        def answer():
            try:
                with open(said, encoding="utf-8") as stream:
                    return json.load(stream)
            except (OSError, ValueError):
                return None
        try:
            return wait_until(f"an answer to {keys!r}", answer, seconds=10)
        except Failed as error:
            raise Failed(f"{error}\n{self.settle(0.5).decode(errors='replace')}") from error

    def test_names_and_paths_as_odd_as_can_be(self):
        pool = self.make_directory(self.odd)
        self.ok("pool", "add", pool, "--size", "2G")
        for name in ("team/db.main-1_x", "other"):
            self.ok("volume", "create", name, "--size", "64M")
        self.ok("snapshot", "create", "team/db.main-1_x", "before.2")
        mounted = self.make_directory("mnt " + self.odd)
        for shell in self.settings:
            with self.subTest(shell=shell):
                self.start_shell(shell)
                try:
                    self.complete(shell, pool, mounted)
                finally:
                    self.end_shell()

    def complete(self, shell, pool, mounted):
        self.assertEqual(self.typed("holdfast volume inspect te")["name"], "team/db.main-1_x")
        self.assertEqual(self.typed("holdfast volume inspect team/d")["name"], "team/db.main-1_x")
        self.assertEqual(self.typed(f"holdfast pool inspect {self.host.path('od')}")["path"], pool)
        self.assertEqual(self.typed(f"holdfast pool inspect {self.host.path('odd')}\\ po")["path"], pool)
        self.assertEqual(self.typed(f"holdfast pool inspect {self.host.path('odd')}\\ pool=a,b")["path"], pool)
        for quote in "'\"":
            self.assertEqual(self.typed(f"holdfast pool inspect {quote}{self.host.path('odd po')}")["path"], pool)
        self.ok("volume", "mount", "other", mounted)
        self.assertEqual(self.typed("holdfast volume unmount other /")["state"], "detached")
        copy = f"copy/{shell}"
        self.assertEqual(self.typed(f"holdfast volume clone team/db.main-1_x {copy} --snapshot be")["parent"], "team/db.main-1_x@before.2")
        self.assertEqual(self.typed(f"holdfast volume create {shell} --size 300M -o nodi", "true")["spec"]["nodiscard"], "true")
        self.assertEqual(self.typed(f"holdfast volume attach {shell} --export fu")["attachment"]["export"], "fuse")
        self.ok("volume", "detach", shell)


class Pools(CliTest):
    pool_size = None

    def test_directories(self):
        add = ("pool", "add")
        self.assertIn("no pools", self.said("pool", "list"))
        self.refused("failed_precondition", "volume", "create", "v", words=("v", "holdfast pool add"))
        self.refused("invalid_argument", *add, "relative", words=("relative", "absolute"))
        self.refused("not_found", *add, self.host.path("nowhere"), words=("nowhere",))
        self.refused("invalid_argument", *add, self.daemon.config_file, words=("neither a directory nor a block device",))
        open_to_all, theirs = self.make_directory("open"), self.make_directory("theirs")
        os.chmod(open_to_all, 0o777)
        os.chown(theirs, 1000, 1000)
        self.refused("permission_denied", *add, open_to_all, words=(open_to_all, "chmod"))
        self.refused("permission_denied", *add, theirs, words=(theirs, "chown"))
        frozen = self.make_directory("frozen")
        self.host.run(["mount", "--bind", frozen, frozen])
        self.host.run(["mount", "-o", "remount,bind,ro", frozen])
        self.refused("read_only", *add, frozen, words=(frozen, "read-only"))
        self.host.run(["umount", frozen])
        self.full_file_system(add)
        self.nothing_comes_of_it(add)
        os.symlink(self.daemon.pool_dir, self.host.path("link"))
        self.refused("invalid_argument", *add, self.host.path("link"), words=("is a link", f"give {self.daemon.pool_dir}"))
        self.refused("invalid_argument", *add, self.daemon.pool_dir, "--size", "1M", words=("at least",))
        self.refused("no_space", *add, self.daemon.pool_dir, "--size", "900T", words=("--size",))
        self.refused("invalid_argument", *add, self.daemon.pool_dir, "--size", "much", words=("much",))
        self.refused("invalid_argument", *add, self.daemon.pool_dir, "--io-class", "gold", words=("gold",))
        self.assertEqual(self.ok("pool", "list")["pools"], [], "a refusal left a pool behind")
        made = self.ok(*add, self.daemon.pool_dir, "--size", "2G")
        self.assertEqual((made["path"], made["state"], made["on_device"]), (self.daemon.pool_dir, "online", False))
        self.assertEqual(self.ok(*add, self.daemon.pool_dir, "--size", "2G")["id"], made["id"], "asked twice")
        self.assertEqual(self.ok("pool", "inspect", made["id"])["path"], self.daemon.pool_dir)
        self.assertGreater(self.ok("pool", "expand", made["id"], "--size", "3G")["total_bytes"], made["total_bytes"])
        self.refused("invalid_argument", "pool", "expand", made["id"], "--size", "1G", words=("only grow",))
        self.refused("not_found", "pool", "inspect", "nobody", words=("nobody",))
        self.offline()

    def full_file_system(self, add):
        device = self.loop_of(420, "small.img")
        run(["mkfs.ext4", "-q", "-E", "nodiscard", device])
        small = self.make_directory("small")
        self.host.run(["mount", device, small])
        self.host.run(["sh", "-c", f"dd if=/dev/zero of={small}/f bs=1M 2>/dev/null; true"])
        self.refused("no_space", *add, small, words=(small,))
        self.host.run(["umount", small])
        run(["losetup", "-d", device])

    def nothing_comes_of_it(self, add):
        """A pool that fails half-way leaves nothing mounted or attached: the next one there would be a second file system on its image."""
        taken = self.make_directory("taken")
        image = os.path.join(taken, "pool.img")
        os.mkdir(os.path.join(taken, "journal"))  # where the pool's journal would be
        self.assertNotEqual(self.daemon.holdfast(*add, taken, "--size", "512M", check=False).returncode, 0)
        self.assertTrue(os.path.exists(image))
        self.assertNotIn(image, run(["losetup", "-n", "-O", "BACK-FILE"]).stdout)
        self.assertEqual([point for point, _, _ in self.host.mounts() if point.startswith("/run/holdfast/pools/")], [])
        # What somebody else has attached is not attached a second time.
        other = run(["losetup", "-f", "--show", image]).stdout.strip()
        self.refused("in_use", *add, taken, "--size", "512M", words=(other, image, "losetup -d"))
        run(["losetup", "-d", other])
        shutil.rmtree(taken)

    def offline(self):
        """verify and export: refused while the daemon serves the pool, right when it does not."""
        pool = self.daemon.pool_dir
        volume = self.ok("volume", "create", "v", "--size", "64M", "--fs", "none")
        device = self.ok("volume", "attach", "v")["attachment"]["device"]
        self.host.run(["sh", "-c", f"printf holdfast | dd of={device} bs=4096 conv=sync oflag=direct 2>/dev/null"])
        self.ok("volume", "detach", "v")
        self.refused("locked", "pool", "verify", pool, words=(pool, "stop"))
        self.refused("locked", "pool", "export", pool, volume["id"], self.host.path("no"), words=(pool,))
        self.daemon.stop()
        self.refused("unavailable", "status", words=("holdfastd",))
        self.assertEqual(self.ok("pool", "verify", pool)["findings"], [])
        self.assertIn("0 findings", self.said("pool", "verify", pool))
        self.assertEqual(len(self.ok("pool", "inspect", pool)["replicas"]), 1)
        self.daemon.holdfast("pool", "export", pool, volume["id"], self.host.path("raw"))
        with open(self.host.path("raw"), "rb") as raw:
            self.assertEqual(raw.read(8), b"holdfast")
        self.assertEqual(os.path.getsize(self.host.path("raw")), 64 * MIB)
        self.refused("already_exists", "pool", "export", pool, volume["id"], self.host.path("raw"), words=("raw",))
        self.refused("not_found", "pool", "export", pool, "nobody", self.host.path("no"), words=("nobody",))
        self.refused("not_found", "pool", "verify", self.host.path("nowhere"), words=("nowhere",))
        self.newer_format(pool)
        self.daemon.start()
        self.ok("volume", "delete", "v", "--yes")

    def newer_format(self, pool):
        """A pool that a newer version wrote is told and left alone."""
        path = os.path.join(pool, "pool.json")
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        newer = re.sub(r'("(?:format|version)"\s*:\s*)\d+', r"\g<1>99", text, count=1)
        self.assertNotEqual(newer, text)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(newer)
        self.refused("newer_format", "pool", "verify", pool, words=("99",))
        self.daemon.start()
        status = self.ok("status")
        self.assertFalse(status["healthy"])
        self.assertIn("format 99", " ".join(status["problems"]))
        self.assertEqual(self.daemon.http("/healthz")[0], 503)
        self.daemon.stop()
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)

    def test_devices(self):
        with_fs, with_table = self.loop_of(700, "fs.img"), self.loop_of(700, "table.img")
        run(["mkfs.ext4", "-q", "-E", "nodiscard", with_fs])
        with open(with_table, "r+b") as disk:  # a table of one partition, as fdisk writes it
            disk.seek(446)
            disk.write(struct.pack("<B3sB3sII", 0, b"\0\x20\x21", 0x83, b"\xfe\xff\xff", 2048, 200_000) + bytes(48) + b"\x55\xaa")
        self.refused("not_empty", "pool", "add", with_fs, words=(with_fs, "ext4", "--force"))
        self.refused("not_empty", "pool", "add", with_table, words=(with_table, "partition", "--force"))
        run(["losetup", "-d", with_table])
        mounted = self.make_directory("mounted")
        self.host.run(["mount", with_fs, mounted])
        self.refused("in_use", "pool", "add", with_fs, "--force", words=(with_fs,))
        self.host.run(["umount", mounted])
        made = self.ok("pool", "add", with_fs, "--force")
        self.assertEqual((made["on_device"], made["state"]), (True, "online"))
        self.ok("volume", "create", "v", "--size", "100M")
        self.ok("volume", "delete", "v", "--yes")
        self.loop_control_is_gone()

    def loop_control_is_gone(self):
        """No loop device to be had: a directory cannot become a pool, and says why."""
        self.host.run(["mount", "--bind", "/dev/null", "/dev/loop-control"])
        try:
            done = self.daemon.holdfast("pool", "add", self.daemon.pool_dir, "--size", "1G", "--json", check=False)
        finally:
            self.host.run(["umount", "/dev/loop-control"])
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("loop", json.loads(done.stderr)["error"]["message"])
        self.assertEqual(len(self.ok("pool", "list")["pools"]), 1)


class TwoDaemons(CliTest):
    pool_size = "2G"

    def other(self, **changed):
        """(process, its configuration) of a second daemon in the same host."""
        keys = {"state_dir": self.host.path("state2"), "run_dir": self.host.path("run2"), "http_port": free_port(), "docker_socket": ""}
        keys.update(changed)
        path = self.host.path("second.toml")
        with open(path, "w", encoding="utf-8") as stream:
            for key, value in keys.items():
                stream.write(f"{key} = {json.dumps(value)}\n")
            stream.write(f'holder_program = "{self.daemon.program.replace("node/holdfastd", "holder/holdfast-holder")}"\n'
                         if "/node/" in self.daemon.program else "")
        for folder in (keys["state_dir"], keys["run_dir"]):
            os.makedirs(folder, exist_ok=True)
        return [self.daemon.program, "--config", path]

    def fails(self, name, *words, **changed):
        done = self.host.run(self.other(**changed), check=False, timeout=60)
        code, status = CODES[name]
        self.assertEqual(done.returncode, status, done.stderr)
        last = done.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith(f"holdfastd: {code} {name}: "), last)
        for word in words:
            self.assertIn(word, last)

    def holders(self):
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as stream:
                    if self.host.path("run2").encode() in stream.read() and alive(int(entry)):
                        found.append(int(entry))
            except OSError:
                continue
        return found

    def test_the_second_refuses(self):
        self.fails("locked", "/run/holdfast", "run_dir", run_dir="/run/holdfast")
        self.fails("locked", self.daemon.state_dir, "state_dir", state_dir=self.daemon.state_dir)
        # A start that fails late leaves nothing running.
        done = self.host.run(self.other(http_port=self.daemon.http_port), check=False, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(self.daemon.http_port), done.stderr.strip().splitlines()[-1])
        wait_until("the holder of the failed start to end", lambda: not self.holders(), seconds=5)
        self.another_cluster()
        self.a_copy_of_the_state()
        self.assertTrue(self.ok("status")["healthy"], "the first one was disturbed")

    def another_cluster(self):
        second = self.second()
        done = second("pool", "add", self.daemon.pool_dir)
        self.judge(done, "wrong_owner", self.daemon.pool_dir)
        self.assertEqual(json.loads(second("pool", "list").stdout)["pools"], [])
        self.end_second()

    def a_copy_of_the_state(self):
        """The same node twice: only one has the pool."""
        shutil.rmtree(self.host.path("state2"))
        shutil.copytree(self.daemon.state_dir, self.host.path("state2"), ignore=shutil.ignore_patterns("mounts", "lock"))
        second = self.second()
        status = json.loads(second("status").stdout)
        self.assertFalse(status["healthy"])
        self.assertRegex(" ".join(status["problems"]), "(another|lock|serve)")
        self.end_second()

    def second(self):
        command = self.other()
        self._second = self.host.start(command, self.host.path("second.log"))
        socket = self.host.path("run2", "api.sock")
        wait_until("the second daemon", lambda: os.path.exists(socket) or self._second.poll() is not None, seconds=60)
        self.assertIsNone(self._second.poll(), tail(self.host.path("second.log")))
        return lambda *words: self.host.run([self.daemon.client, "--socket", socket, *words, "--json"], check=False)

    def end_second(self):
        self._second.terminate()
        self.assertEqual(self._second.wait(30), 0)
        for pid in self.holders():
            os.kill(pid, 15)
        wait_until("the second holder to end", lambda: not self.holders(), seconds=5)


if __name__ == "__main__":
    pyunit.main()
