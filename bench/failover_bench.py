#!/usr/bin/python3
"""How long a volume of three replicas is not to be written: its node is killed, frozen, cut off, or hands it over; a replica is.

Three real daemons with their own etcd, each in a network namespace of its own. Prints JSON; see bench/README.md.

  takeover  from the signal to the end of the first durable write on another node, which mounts at once, as an engine does
  move      from the beginning of the unmount on one node to the end of the first durable write on the other
  stall     the longest durable write of a writer that goes on, of those that end within three seconds from the signal
"""
import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT + "/tests/system", ROOT + "/tests"]
sys.path.insert(0, ROOT + "/bench")
sys.dont_write_bytecode = True
import replicated_load  # noqa: E402

CASES = ("data_path", "takeover_killed", "takeover_frozen", "takeover_cut", "move", "stall_killed", "stall_frozen", "stall_cut")
VOLUME = "db"
STALL_WINDOW = 3.0
NOTABLE = 0.02  # seconds: shorter writes are not listed

# Runs in a node. One line in, one line out. Writes go on in a thread, each of 4 KiB, durable, in turn over 64 blocks.
AGENT = r"""
import json, os, sys, threading, time
lock, slow, state = threading.Lock(), [], {"count": 0, "error": None, "run": False}
def write_on(path):
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DSYNC, 0o600)
        try:
            i = 0
            while state["run"]:
                began = time.monotonic()
                os.pwrite(fd, b"%020d" % i + bytes(4076), (i % 64) * 4096)
                ended = time.monotonic()
                i += 1
                with lock:
                    state["count"] += 1
                    if ended - began > NOTABLE: slow.append((began, ended))
        finally:
            os.close(fd)
    except OSError as error:
        state["error"] = str(error)
for line in sys.stdin:
    ask = json.loads(line)
    answer = {}
    try:
        if ask["do"] == "write":
            fd = os.open(ask["path"], os.O_WRONLY | os.O_CREAT | os.O_DSYNC, 0o600)
            os.pwrite(fd, bytes(4096), 0)
            answer["at"] = time.monotonic()
            os.close(fd)
        elif ask["do"] == "begin":
            state.update(count=0, error=None, run=True)
            slow.clear()
            thread = threading.Thread(target=write_on, args=(ask["path"],), daemon=True)
            thread.start()
        elif ask["do"] == "look":
            with lock: answer = {"slow": list(slow), "count": state["count"], "error": state["error"], "alive": thread.is_alive()}
        elif ask["do"] == "end":
            state["run"] = False
            thread.join(60)
            answer = {"error": state["error"], "alive": thread.is_alive()}
    except OSError as error:
        answer = {"failed": str(error)}
    print(json.dumps(answer), flush=True)
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Agent:
    def __init__(self, host):
        script = AGENT.replace("NOTABLE", str(NOTABLE))
        self.process = subprocess.Popen(host.enter(["/usr/bin/python3", "-c", script]), env=host.environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, do, **more):
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "failed" in answer:
            raise RuntimeError(f"{do} {more}: {answer['failed']}")
        return answer

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class PluginConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("plugin", timeout=90)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(90)
        self.sock.connect(self._path)


def plugin(daemon, method, **body):
    """A call of the Docker plugin's, as the engine makes it."""
    connection = PluginConnection(daemon.host.path("run", "docker", "plugins", "holdfast.sock"))
    try:
        connection.request("POST", f"/VolumeDriver.{method}", json.dumps(body))
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if answer.get("Err"):
        raise RuntimeError(f"{method}: {answer['Err']}")
    return answer


def etcd_leader(daemon):
    """Whether this node's etcd leads, which the others then have to replace too."""
    trust = os.path.join(daemon.state_dir, "trust")
    listed = daemon.host.run(["etcdctl", f"--endpoints={daemon.address}:2379", f"--cacert={trust}/ca.pem", f"--cert={trust}/node.pem",
                              f"--key={trust}/node.pem", "endpoint", "status", "-w", "json"], check=False)
    try:
        status = json.loads(listed.stdout)[0]["Status"]
        return status["leader"] == status["header"]["member_id"]
    except (ValueError, LookupError):
        return None


class Cluster:
    """Three nodes and one volume that is in use on one of them."""

    def __init__(self, rig):
        from harness import wait_until
        from harness.cluster import Frozen
        self.wait_until, self.frozen = wait_until, Frozen
        self.rig = rig
        self.nodes = rig.three(pool_size="2G")
        self.agents = {}
        for node in self.nodes:
            self.agents[node] = Agent(node.host)
            rig.addCleanup(self.agents[node].stop)
        plugin(self.nodes[0], "Create", Name=VOLUME, Opts={"size": "128M", "repl": "3"})
        self.user, self.ids = self.nodes[0], 0
        self.folder = self.mount(self.user)
        self.begin_writing()

    def mount(self, node):
        self.ids += 1
        return plugin(node, "Mount", Name=VOLUME, ID=f"c{self.ids}")["Mountpoint"]

    def begin_writing(self):
        agent = self.agents[self.user]
        agent.ask("begin", path=self.folder + "/lines")
        self.wait_until("the writer", lambda: agent.ask("look")["count"] > 20)

    def others(self):
        at = self.nodes.index(self.user)
        return [self.nodes[(at + 1) % 3], self.nodes[(at + 2) % 3]]

    def all_well(self):
        def well():
            answer = self.user.holdfast("volume", "inspect", VOLUME, "--json", check=False)
            if answer.returncode != 0 or not all(replica["in_sync"] for replica in json.loads(answer.stdout)["replicas"]):
                return False
            return all(node.json("status")["healthy"] for node in self.nodes)
        self.wait_until("all to be well", well, seconds=90)

    def ail(self, node, how):
        """(seconds of the moment, what ends it)."""
        began = time.monotonic()
        if how == "killed":
            os.kill(node.pid, signal.SIGKILL)

            def end():
                node.kill9()
                node.start(120)
            return began, end
        if how == "frozen":
            frozen = self.frozen(node)
            return began, frozen.thaw
        self.rig.lan.unplug(node.host)
        return began, lambda: self.rig.lan.replug(node.host)

    def takeover(self, how):
        old, new = self.user, self.others()[0]
        note = {"etcd_led": etcd_leader(old)}
        began, end = self.ail(old, how)
        try:
            folder = self.mount(new)
            note["mount_s"] = time.monotonic() - began
            took = self.agents[new].ask("write", path=folder + "/first")["at"] - began
        finally:
            end()
        self.wait_until("the old writer's end", lambda: not self.agents[old].ask("look")["alive"], seconds=60)
        self.user, self.folder = new, folder
        self.begin_writing()
        return took, note

    def move(self):
        old, new = self.user, self.others()[0]
        ended = self.agents[old].ask("end")
        if ended["error"] or ended["alive"]:
            raise RuntimeError(f"the writer: {ended}")
        began = time.monotonic()
        plugin(old, "Unmount", Name=VOLUME, ID=f"c{self.ids}")
        note = {"unmount_s": time.monotonic() - began}
        self.folder = self.mount(new)
        note["mount_s"] = time.monotonic() - began - note["unmount_s"]
        took = self.agents[new].ask("write", path=self.folder + "/first")["at"] - began
        self.user = new
        self.begin_writing()
        return took, note

    def stall(self, how):
        ill = self.others()[0]
        note = {"etcd_led": etcd_leader(ill)}
        began, end = self.ail(ill, how)
        try:
            time.sleep(STALL_WINDOW)
            seen = self.agents[self.user].ask("look")
            if not seen["alive"]:
                raise RuntimeError(f"the writer: {seen['error']}")
        finally:
            end()
        return max([done - start for start, done in seen["slow"] if done > began], default=NOTABLE), note


def measure(cluster, case, repeat, until):
    kind, _, how = case.partition("_")
    times, notes = [], []
    for _ in range(repeat):
        if time.monotonic() > until:
            break
        cluster.all_well()
        took, note = getattr(cluster, kind)(*([how] if how else []))
        times.append(took)
        notes.append(note)
        say(f"{case}: {took:.3f} s {note}")
    if not times:
        return {"error": "no time was left for it"}
    return {"median_s": statistics.median(times), "low_s": min(times), "high_s": max(times), "count": len(times),
            "seconds": [round(t, 4) for t in times], "notes": notes}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", required=True, help="where holdfastd and holdfast are")
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--only", action="append", choices=CASES, help="may be given several times; all of them otherwise")
    parser.add_argument("--seconds", type=float, default=1e9, help="what is not begun by then is not measured")
    parser.add_argument("--logs", help="a folder to keep the daemons' logs in")
    args = parser.parse_args()
    os.environ["HOLDFAST_BUILD_DIR"] = os.path.dirname(os.path.abspath(args.bin))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    until = time.monotonic() + args.seconds
    from harness.cluster import ClusterTest

    class Rig(ClusterTest):
        def runTest(self):
            pass

    rig = Rig()
    results = {}
    rig.setUp()
    try:
        cluster = Cluster(rig)
        for case in args.only or CASES:
            if case == "data_path":
                results[case] = replicated_load.measure(cluster, plugin)
                say(f"{case}: {results[case]}")
            else:
                results[case] = measure(cluster, case, args.repeat, until)
        cluster.all_well()
        ended = cluster.agents[cluster.user].ask("end")
        if ended["error"] or ended["alive"]:
            raise RuntimeError(f"the writer: {ended}")
        plugin(cluster.user, "Unmount", Name=VOLUME, ID=f"c{cluster.ids}")
    finally:
        if args.logs:
            os.makedirs(args.logs, exist_ok=True)
            for node in rig.nodes:
                with open(node.log, "rb") as log, open(f"{args.logs}/{os.path.basename(node.host.folder)}.log", "wb") as copy:
                    copy.write(log.read())
        rig.tearDown()
        rig.doCleanups()
    json.dump(results, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
