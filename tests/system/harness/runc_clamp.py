#!/usr/bin/python3
"""An OCI runtime in front of runc that asks for no more than this machine may give.

Containers and virtual machines that run tests often lack capabilities (CAP_SYS_RESOURCE), and then runc refuses a bundle
with a higher limit, a negative OOM score or a capability outside the bounding set. This clamps the three and calls runc.
"""
import json
import os
import resource
import sys


def bounding_set():
    names = ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
             "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
             "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
             "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE").split()
    with open("/proc/self/status", encoding="ascii") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapBnd:"))
    return {"CAP_" + name for bit, name in enumerate(names) if mask >> bit & 1}


def clamp(process):
    allowed = bounding_set()
    for kind, names in (process.get("capabilities") or {}).items():
        process["capabilities"][kind] = [name for name in names or [] if name in allowed]
    with open("/proc/self/oom_score_adj", encoding="ascii") as stream:
        own = int(stream.read())
    if process.get("oomScoreAdj") is not None:
        process["oomScoreAdj"] = max(own, process["oomScoreAdj"])
    for limit in process.get("rlimits") or []:
        hard = resource.getrlimit(getattr(resource, limit["type"]))[1]
        if hard != resource.RLIM_INFINITY:
            limit["hard"] = min(limit["hard"], hard)
            limit["soft"] = min(limit["soft"], hard)


def rewrite(path, pick):
    with open(path, encoding="utf-8") as stream:
        spec = json.load(stream)
    clamp(pick(spec))
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(spec, stream)


def option(name):
    for at, word in enumerate(sys.argv):
        if word == name and at + 1 < len(sys.argv):
            return sys.argv[at + 1]
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return None


if option("--bundle") and {"create", "run"} & set(sys.argv):
    rewrite(os.path.join(option("--bundle"), "config.json"), lambda spec: spec["process"])
elif option("--process") and "exec" in sys.argv:
    rewrite(option("--process"), lambda spec: spec)
os.execv("/usr/sbin/runc", ["runc", *sys.argv[1:]])
