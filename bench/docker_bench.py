#!/usr/bin/python3
"""What `docker run` takes until its container runs: with a volume made by its own command, with Docker's local volume, with a
plain bind mount, and with a file system that was made and mounted beforehand.

Starts a Docker engine and a daemon of its own, in a mount namespace below --dir (tests/system/harness), and takes everything down
again. Results as JSON on standard output, progress on standard error. Needs root, Docker and runc.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "tests", "system")]
sys.dont_write_bytecode = True

MKFS = "mkfs.ext4 -q -F -b 4096 -m 0 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1"


def say(text):
    print(text, file=sys.stderr, flush=True)


def summary(values):
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": len(values)}


class Runs:
    """Each way of giving a container 10 GiB at /data; every call is one `docker run`, timed from outside."""

    def __init__(self, host, engine, where):
        self.host, self.engine, self.where = host, engine, where
        os.makedirs(where + "/bind")

    def docker_run(self, *options):
        """(ms to the first byte that the container says, ms until docker run returns). It writes durably before it speaks."""
        command = self.host.enter(self.engine.command(
            "run", "--rm", "--network=none", *options, "bb", "sh", "-c", "echo x >/data/f && sync -f /data/f && echo up"))
        began = time.monotonic()
        program = subprocess.Popen(command, env=self.host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said = program.stdout.readline()
        up = time.monotonic()
        _, complaint = program.communicate(timeout=120)
        if said != b"up\n" or program.returncode != 0:
            raise RuntimeError(f"docker run {' '.join(options)}: {complaint.decode(errors='replace').strip()[-500:]}")
        return (up - began) * 1e3, (time.monotonic() - began) * 1e3

    def bind(self, _):
        return self.docker_run("-v", f"{self.where}/bind:/data")

    def local(self, i):
        times = self.docker_run("-v", f"local{i}:/data")
        self.engine.docker("volume", "rm", f"local{i}")
        return times

    def holdfast(self, i):
        name = f"size=10G,fs=ext4,name=bench{i}"
        times = self.docker_run("--volume-driver", "holdfast", "-v", f"{name}:/data")
        self.engine.docker("volume", "rm", name)
        return times

    def again(self, i):
        """A volume that is there and has a file system: what every later start of a container takes."""
        name = f"again{i}"
        self.docker_run("--volume-driver", "holdfast", "-v", f"size=10G,fs=ext4,name={name}:/data")
        times = self.docker_run("--volume-driver", "holdfast", "-v", f"{name}:/data")
        self.engine.docker("volume", "rm", name)
        return times

    def bare(self, i):
        """mkfs and mount by hand on a loop device over a sparse file, then a bind of it; the time of all three."""
        image, point = f"{self.where}/bare{i}.img", f"{self.where}/bare{i}"
        os.makedirs(point)
        with open(image, "wb") as out:
            out.truncate(10 << 30)
        loop = self.host.run(["losetup", "-f", "--show", "--direct-io=on", "-b", "4096", image]).stdout.strip()
        try:
            began = time.monotonic()
            self.host.run(["sh", "-c", f"{MKFS} {loop} && mount -t ext4 {loop} {point}"])
            prepared = (time.monotonic() - began) * 1e3
            up, end = self.docker_run("-v", f"{point}:/data")
        finally:
            self.host.run(["umount", point], check=False)
            self.host.run(["losetup", "-d", loop], check=False)
            os.unlink(image)
        return prepared + up, prepared + end, prepared


def measure(runs, rounds):
    ways = {"bind": runs.bind, "local": runs.local, "bare": runs.bare, "holdfast": runs.holdfast, "again": runs.again}
    for way in ways.values():
        way(rounds)  # once each, so that programs and plugin are warm
    times = {name: [] for name in ways}
    for i in range(rounds):
        for name, way in ways.items():
            times[name].append(way(i))
    results = {name: {"up_ms": summary([t[0] for t in each]), "end_ms": summary([t[1] for t in each])} for name, each in times.items()}
    results["bare"]["mkfs_mount_ms"] = summary([t[2] for t in times["bare"]])
    # Rounds alternate, so the difference is taken within each round.
    results["create_to_mounted_ms"] = summary([ours[0] - local[0] for ours, local in zip(times["holdfast"], times["local"])])
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dir", required=True, help="an empty directory on a disk")
    parser.add_argument("--bin", required=True, help="where holdfastd and holdfast are")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    os.environ["HOLDFAST_BUILD_DIR"] = os.path.dirname(os.path.abspath(args.bin))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    import harness
    where, mark = os.path.abspath(args.dir), f"hf-{uuid.uuid4().hex[:12]}"
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {"HOLDFAST_TEST_ID": mark}
    # What was started ends in reverse order, whatever happens.
    started = []
    try:
        host = harness.Host(where + "/h", environment)
        started.append(host.stop)
        daemon = harness.Holdfastd(host)
        started.append(daemon.dispose)
        daemon.start()
        daemon.add_pool("20G")
        engine = harness.DockerEngine(host)
        started.append(engine.stop)
        engine.start()
        engine.ensure_image("bb")
        results = measure(Runs(host, engine, where), args.rounds)
    finally:
        for end in reversed(started):
            end()
    say("docker run until the container runs: " + ", ".join(f"{name} {results[name]['up_ms']['median']:.0f} ms"
                                                           for name in ("bind", "local", "bare", "holdfast", "again")))
    say(f"inline create to mounted, over a local volume: {results['create_to_mounted_ms']['median']:.0f} ms")
    json.dump(results, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
