"""The harness itself: exit codes, files in and out, the time limit, a panic, being killed; nothing is left behind."""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
import images  # noqa: E402
import pyunit  # noqa: E402
import vm  # noqa: E402

MACHINE = os.path.join(HERE, "machine")


def emulators():
    """Process ids of the emulators that were started from our cache folder."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                words = stream.read().split(b"\0")
        except OSError:
            continue
        if vm.EMULATOR.encode() in words[0] and any(images.cache_folder().encode() in word for word in words):
            found.add(int(pid))
    return found


class Harness(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def command(self, script, *options):
        path = os.path.join(self.folder, "script")
        with open(path, "w") as stream:
            stream.write("#!/bin/bash\n" + script)
        return [MACHINE, "run", "--kernel", "6.1", "--script", path, "--cpus", "1", *options]

    def machine(self, script, *options):
        return subprocess.run(self.command(script, *options), capture_output=True, text=True, timeout=400)

    def test_exit_code_and_files_both_ways(self):
        inside = os.path.join(self.folder, "in")
        os.makedirs(os.path.join(inside, "deep"))
        for name in ("a", "deep/b"):
            with open(os.path.join(inside, name), "w") as stream:
                stream.write(name)
        out = os.path.join(self.folder, "out")
        done = self.machine('cat /opt/x/deep/b /srv/a >/out/both; echo "$WORD" >/out/word; echo hello\n'
                            'blockdev --getsize64 $MACHINE_DISK0 $MACHINE_DISK1 >/out/sizes; exit 3',
                            "--dir", f"{inside}:/opt/x", "--file", f"{inside}/a:/srv/a", "--out", out,
                            "--env", "WORD=two words", "--disk", "8M", "--disk", "16M")
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        self.assertIn("\nhello\n", done.stdout)
        read = {name: open(os.path.join(out, name)).read() for name in os.listdir(out)}
        self.assertEqual(read, {"both": "deep/ba", "word": "two words\n", "sizes": f"{8 << 20}\n{16 << 20}\n"})

    def test_time_limit(self):
        for limit in (20, 60, 180):  # on a machine under load booting alone may take longer than the shortest
            began = time.monotonic()
            done = self.machine("echo started; sleep 1000", "--timeout", str(limit))
            self.assertEqual(done.returncode, vm.TIMED_OUT, done.stdout)
            self.assertLess(time.monotonic() - began, limit + 60)
            if "started" in done.stdout:
                return
        self.assertIn("started", done.stdout)

    def test_a_file_system_that_hangs_does_not_hold_the_end(self):
        out = os.path.join(self.folder, "out")
        done = self.machine("mkfs.ext4 -q $MACHINE_DISK0 && mount $MACHINE_DISK0 /mnt && fsfreeze -f /mnt || exit 1\n"
                            "(echo x >/mnt/f) & sync /mnt &\nsleep 0.5; echo word >/out/word; exit 4",
                            "--disk", "64M", "--out", out)
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
        with open(os.path.join(out, "word")) as stream:
            self.assertEqual(stream.read(), "word\n")

    def test_panic(self):
        done = self.machine("echo c >/proc/sysrq-trigger; sleep 1000")
        self.assertEqual(done.returncode, vm.DIED, done.stdout)
        self.assertIn("Kernel panic", done.stdout)

    def test_killed_harness_takes_the_emulator_along(self):
        before = emulators()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            running = subprocess.Popen(self.command("echo started; sleep 1000"), stdout=subprocess.PIPE, text=True)
            for line in running.stdout:
                if "started" in line:
                    break
            mine = {pid for pid in emulators() - before if parent(pid) == running.pid}
            self.assertEqual(len(mine), 1)
            running.send_signal(sign)
            running.wait(60)
            running.stdout.close()
            deadline = time.monotonic() + 60
            while mine & emulators() and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertFalse(mine & emulators(), f"the emulator outlived its harness after {sign.name}")

    def test_missing_libraries_are_named(self):
        image = os.path.join(self.folder, "root.img")
        with open(os.path.join(self.folder, "root.libraries"), "w") as stream:
            stream.write("libc.so.6\n")
        self.assertIn("libm.so.6", images.missing_libraries("/usr/bin/python3", image))
        self.assertNotIn("libc.so.6", images.missing_libraries("/usr/bin/python3", image))
        self.assertEqual(images.missing_libraries(os.path.abspath(__file__), image), [])

    def test_a_machine_that_cannot_be_had_is_a_skip(self):
        poor = dict(os.environ, PATH=self.folder)
        done = subprocess.run(["/usr/bin/python3", *self.command("true")], capture_output=True, text=True, env=poor)
        self.assertEqual(done.returncode, pyunit.SKIPPED)
        self.assertIn("SKIP: qemu-system-x86_64 is missing", done.stdout.splitlines()[-1])


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return int(stream.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    try:
        vm.check_emulator()
        images.prepare("6.1")
    except images.Unavailable as why:
        pyunit.skip_all(why)
    pyunit.main()
