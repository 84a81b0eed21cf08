"""The data path of a volume of three replicas: durable 4 KiB writes through one node's NBD socket, beside a bare durable write and a
round trip over loopback. Used by failover_bench.py; needs fio."""
import json
import os
import statistics
import subprocess

VOLUME = "load"
SIZE = "256M"


def fio(*arguments):
    command = ["fio", "--name=load", "--output-format=json", "--randrepeat=0", "--time_based", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]


def mean_us(job):
    return job["write"]["lat_ns"]["mean"] / 1e3


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Bare:
    """The floor: O_DIRECT|O_DSYNC into a written file beside the pools, and 4 KiB there and back over loopback."""

    def __init__(self, folder, seconds):
        self.file, self.seconds = folder + "/floor", seconds
        subprocess.run(["dd", "if=/dev/urandom", f"of={self.file}", "bs=1M", "count=256", "conv=fsync", "status=none"], check=True)

    def write(self):
        return fio("--ioengine=psync", f"--filename={self.file}", "--rw=randwrite", "--bs=4k", "--direct=1", "--sync=dsync",
                   f"--size={SIZE}", f"--runtime={self.seconds}")

    def round_trip(self, port=28765):
        side = ["--ioengine=net", f"--port={port}", "--protocol=tcp", "--nodelay=1", "--bs=4k", "--size=64G", "--pingpong=1"]
        server = subprocess.Popen(["fio", "--name=server", *side, "--listen", "--rw=read"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            return fio(*side, "--hostname=127.0.0.1", "--rw=write", f"--runtime={self.seconds}")
        finally:
            server.kill()
            server.wait()


def measure(cluster, plugin, rounds=3, seconds=2):
    node = cluster.nodes[0]
    plugin(node, "Create", Name=VOLUME, Opts={"size": "512M", "repl": "3"})
    node.holdfast("volume", "attach", VOLUME, "--export", "nbd-server")
    export = [f"--uri=nbd+unix:///{VOLUME}?socket={node.run_dir}/nbd.sock", "--ioengine=nbd", "--rw=randwrite", "--bs=4k", f"--size={SIZE}"]
    pids = [each.pid for each in cluster.nodes]
    bare = Bare(cluster.rig.scratch, seconds)
    fio(*export, "--iodepth=32", f"--runtime={seconds}")  # so that nothing is written for the first time
    one, deep = [], []
    for _ in range(rounds):
        written, travelled = mean_us(bare.write()), mean_us(bare.round_trip())
        ours = mean_us(fio(*export, "--iodepth=1", f"--runtime={seconds}"))
        one.append({"bare_us": written, "round_trip_us": travelled, "ours_us": ours, "ratio": ours / (written + travelled)})
        before = cpu_seconds(pids)
        job = fio(*export, "--iodepth=32", f"--runtime={seconds}")
        writes = job["write"]["total_ios"]
        deep.append({"per_second": job["write"]["iops"], "cpu_us": (cpu_seconds(pids) - before) * 1e6 / writes})
    node.holdfast("volume", "detach", VOLUME)
    node.holdfast("volume", "delete", VOLUME, "--yes")
    os.unlink(bare.file)
    middle = {f"qd1_{key}": statistics.median(each[key] for each in one) for key in one[0]}
    middle |= {f"qd32_{key}": statistics.median(each[key] for each in deep) for key in deep[0]}
    return middle | {"rounds": [a | b for a, b in zip(one, deep)]}
