"""A network of hosts: each in a network namespace of its own, joined by a switch in another one. Nothing of it is seen by the real
machine, and all of it ends with the namespaces' processes."""
import subprocess

from harness.base import Failed, need_program, run

NET = "10.99.0"
NOBODY = "02:00:00:00:00:99"  # no interface has it


class Lan:
    """plug() gives a host (made with net=True) an address; unplug() and replug() are its cable, deafen() and mute() cut one direction."""

    def __init__(self, environment):
        need_program("ip", "iproute2")
        self.environment = environment
        script = "set -e; ip link add name switch type bridge; ip link set switch up; echo ready; exec sleep infinity"
        self._keeper = subprocess.Popen(["unshare", "-n", "sh", "-c", script], env=environment, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        line = self._keeper.stdout.readline()
        if line.strip() != "ready":
            raise Failed(f"the switch could not be made: {line}{self._keeper.stdout.read()}")
        self._hosts = 0

    def _switch(self, *words):
        return run(["nsenter", f"--net=/proc/{self._keeper.pid}/ns/net", "ip", *words], env=self.environment)

    def plug(self, host):
        """The host's address."""
        self._hosts += 1
        address, port = f"{NET}.{self._hosts}", f"port{self._hosts}"
        self._switch("link", "add", "name", port, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self._switch("link", "set", port, "master", "switch", "up")
        for words in (("addr", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "lo", "up"), ("link", "set", "eth0", "up"),
                      ("route", "add", "default", "via", f"{NET}.254")):
            host.run(["ip", *words])
        host.port, host.address = port, address
        return address

    def unplug(self, host):
        self._switch("link", "set", host.port, "down")

    def replug(self, host):
        self._switch("link", "set", host.port, "up")

    def deafen(self, host, others):
        """From now on nothing that the others send reaches the host; what the host sends arrives. undo: hear()."""
        for other in others:
            self._lead_astray(other, host)

    def mute(self, host, others):
        """From now on nothing that the host sends reaches the others; what they send arrives. undo: hear()."""
        for other in others:
            self._lead_astray(host, other)

    def hear(self, hosts):
        for one in hosts:
            for other in hosts:
                if one is not other:
                    one.run(["ip", "neigh", "del", other.address, "dev", "eth0"], check=False)

    def _lead_astray(self, sender, receiver):
        # Its frames go to a station that is not there: lost without a word, in this direction only.
        sender.run(["ip", "neigh", "replace", receiver.address, "lladdr", NOBODY, "nud", "permanent", "dev", "eth0"])

    def stop(self):
        self._keeper.kill()
        self._keeper.wait()
        self._keeper.stdout.close()
