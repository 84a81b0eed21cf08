#!/usr/bin/python3
"""Checks the model of the replication protocol (replication.pml) with spin: see README.md beside it.

  check.py                 the correct model exhaustively in every configuration; every mutant must be caught
  check.py --large         the correct model in larger bounds: many minutes, up to 12 GiB
  check.py --story M4      the shortest counterexample of a mutant, step by step
  check.py --list          configurations and mutants

Exit: 0 all as it should be, 1 something is not, 77 spin or gcc is not installed (tools/deps.sh test).
A correct model whose search was not complete (memory, depth, time) is a failure, and so is a mutant that nobody caught.
"""
import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "replication.pml")
GIB = 1 << 30
MEMORY = 4 * GIB
MEMORY_LARGE = 12 * GIB
SECONDS = 900
SECONDS_LARGE = 7200
DEPTH = 5000  # the longest path is some hundreds of steps; more is a failure, not a cut


def bounds(replicas, epochs, writes, joins, *more):
    """Flags of a configuration: at most so many epochs, writes and resyncs in all."""
    return (f"-DREPLICAS={replicas}", f"-DEPOCHS={epochs}", f"-DWRITES={writes}", f"-DJOINS={joins}",
            *[f"-D{flag}" for flag in more])


# What is proved in each run: name → flags.
CONFIGURATIONS = {
    "2 replicas": bounds(2, 3, 3, 2, "SYM"),
    "2 replicas, reads": bounds(2, 3, 3, 1, "READS", "SYM"),
    "3 replicas, 2 takeovers": bounds(3, 3, 2, 1, "SYM"),
    "3 replicas, 2 resyncs": bounds(3, 2, 2, 2, "SYM"),
    "3 replicas, reads": bounds(3, 2, 2, 1, "READS", "SYM"),
    "3 replicas, reads, 2 takeovers": bounds(3, 3, 1, 0, "READS", "SYM"),
}
LARGE = {
    "2 replicas, 4 epochs": bounds(2, 4, 3, 3, "SYM"),
    "2 replicas, reads, 4 epochs": bounds(2, 4, 3, 2, "READS", "SYM"),
    "3 replicas, 3 writes": bounds(3, 3, 3, 1, "SYM"),
    "3 replicas, reads, 2 takeovers, 2 writes": bounds(3, 3, 2, 1, "READS", "SYM"),
}

# A mutant is searched breadth first, in bounds where it shows, and with no other invariant than the one that it must break.
WRITES2 = bounds(2, 3, 2, 2)
WRITES3 = bounds(3, 2, 2, 1)
TAKEOVERS3 = bounds(3, 3, 1, 0)
READS2 = bounds(2, 3, 2, 1, "READS")
READS3 = bounds(3, 2, 2, 0, "READS")
MUTANTS = {  # name: (what is wrong, invariants it breaks each by itself, in which bounds)
    "M1": ("a replica does not check the epoch", (7, 5), (WRITES2, WRITES3)),
    "M2": ("acknowledges without waiting for the shrink", (5,), (WRITES2, WRITES3)),
    "M3": ("no reconcile at takeover", (5,), (WRITES2, WRITES3)),
    "M4": ("resync ignores the returning replica's own window", (5,), (WRITES2, WRITES3)),
    "M5": ("takeover does not OR the source's window into the maps of absent members", (7,), (WRITES2, WRITES3)),
    "M6": ("activation does not wait for read leases", (4,), (READS2, READS3)),
    "M7": ("reads return values in flight", (1,), (READS2, READS3)),
    "M8": ("joins before the new member's answer is mandatory", (5,), (WRITES2, WRITES3)),
    "M9": ("takeover uses a member outside in_sync", (1,), (WRITES2, WRITES3)),
    "M11": ("the promise does not survive a restart", (7,), (WRITES2, WRITES3)),
    "M12": ("writes in flight are not sent again after a shrink", (7,), (WRITES2, WRITES3)),
    "M14": ("the commit point advances at apply", (7,), (WRITES2, WRITES3)),
    "S1": ("a new session does not end what an older one carries", (1,), (WRITES2,)),
    "S2": ("the copy counts as complete although the joiner has not answered earlier writes", (1,), (WRITES2,)),
    "S3": ("the copy overwrites what is newer than its read", (1,), (WRITES2,)),
    "S4": ("a joiner takes the commit point as its own", (7,), (WRITES2,)),
    "S5": ("a restarted replica has forgotten the leases it gave", (4,), (READS2,)),
    "S6": ("reads need no lease of a joiner whose answer is mandatory", (4,), (READS2,)),
    "S7": ("remote reads are checked by the epoch alone, without leases", (4,), (READS2,)),
    "S8": ("what a takeover copies is in nobody's window", (7,), (TAKEOVERS3,)),
    "S9": ("only the source's window is reconciled, not the union", (5,), (WRITES2,)),
    "S10": ("only the source marks its window for absent members", (7,), (WRITES3,)),
    "S11": ("the joiner inherits the maps after the compare-and-set", (7,), (WRITES3,)),
    "S12": ("a join whose answer got lost counts as refused", (1,), (WRITES2,)),
    "S13": ("the order to drop a map's bits comes after later writes", (7,), (WRITES2,)),
    "S14": ("inherited maps replace what the joiner marked itself", (7,), (WRITES3,)),
    "S15": ("leases are looked at when a read begins, not when it is done", (4,), (READS2,)),
    "S16": ("activation waits only for leases to the epoch before", (4,), (READS2,)),
    "S17": ("a read does not ask for its own replica's promise", (9,), (READS2,)),
}


class Failed(Exception):
    """Why a run is not what it should be, in one sentence."""


def low_priority(limit):
    def prepare():
        os.nice(10)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return prepare


def run(command, folder, limit=MEMORY, seconds=SECONDS):
    """Output and CPU seconds; a program that fails is not an error here, one that does not end is."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=seconds, preexec_fn=low_priority(limit), check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} did not end within {seconds} s") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, done.stdout, spent


def build(folder, flags, *options):
    """Makes the verifier of the model with these flags; returns the CPU seconds that took."""
    shutil.copy(MODEL, os.path.join(folder, "model.pml"))
    spent = 0.0
    for command in (["spin", "-a", *flags, "model.pml"],
                    ["gcc", "-w", "-DSAFETY", "-DNOREDUCE", *options, "-o", "pan", "pan.c"]):
        code, output, seconds = run(command, folder)
        spent += seconds
        if code != 0 or "Error" in output:
            raise Failed(f"{command[0]} {' '.join(flags)} failed: {output.strip()[-500:]}")
    return spent


def read_result(output):
    """Errors, states and depth of a verifier's report, and whether it saw all."""
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"^\s*([\d.e+]+) states, stored", output, re.M)
    depth = re.search(r"depth reached (\d+)", output)
    if not errors or not states or not depth:
        raise Failed(f"the verifier ended without a report: {output.strip()[-300:]}")
    for sign in ("max search depth too small", "out of memory", "Search not completed", "search was not completed",
                 "hash-table", "interrupted"):
        if sign in output and not (sign == "Search not completed" and int(errors[1])):
            raise Failed(f"the search was not complete ({sign}), after {states[1]} states")
    return int(errors[1]), int(float(states[1])), int(depth[1])


def story_of(folder, replay):
    """The steps of the counterexample that was found, and the invariant that its last one breaks."""
    _, output, _ = run(replay, folder)
    steps = []
    for line in output.splitlines():
        broken = re.match(r"\s*(I\d+) is broken", line)
        if broken:
            return steps, broken[1]
        if line.startswith("spin: warning"):
            continue  # of a clock's tick between two files, for one
        if line.startswith("spin:"):
            break
        if not re.match(r"\s*\d+:\s+proc ", line):
            steps.append(line.strip())
    raise Failed("the counterexample cannot be replayed: " + output.strip()[-300:])


def prove(flags, limit=MEMORY, seconds=SECONDS, depth=DEPTH):
    """Searches the correct model to the end; returns states, depth, MiB and CPU seconds."""
    with tempfile.TemporaryDirectory(prefix="holdfast-model-") as folder:
        spent = build(folder, flags, "-O1", f"-DMEMLIM={limit // (1 << 20)}")
        _, output, seconds = run(["./pan", f"-m{depth}", "-w22"], folder, limit, seconds)
        errors, states, reached = read_result(output)
        if errors:
            steps, broken = story_of(folder, ["./pan", "-r"])
            raise Failed(f"{broken} is broken in the correct model (replicas may be renumbered from step to step):\n    " + "\n    ".join(steps))
        idle = [line.strip() for line in output.splitlines() if re.search(r"model\.pml:\d+, state", line)
                and "-end-" not in line]
        if idle:
            raise Failed(f"a step was never taken, so these bounds show nothing of it: {'; '.join(idle)}")
        memory = re.search(r"([\d.]+)\s+total actual memory", output)
        return states, reached, float(memory[1]), spent + seconds


def catch(name, flags, invariant):
    """The counterexample of a mutant against one invariant: its steps, and CPU seconds."""
    flags = (*flags, f"-D{name}", f"-DONLY={invariant}")
    with tempfile.TemporaryDirectory(prefix="holdfast-model-") as folder:
        spent = build(folder, flags, "-O0", "-DBFS", f"-DMEMLIM={MEMORY // (1 << 20)}")
        _, output, seconds = run(["./pan", f"-m{DEPTH}", "-w20"], folder)
        errors, states, _ = read_result(output)
        if not errors:
            raise Failed(f"not caught by I{invariant} in all {states} states")
        steps, broken = story_of(folder, ["spin", "-t", *flags, "model.pml"])
        if broken != f"I{invariant}":
            raise Failed(f"broke {broken}, not I{invariant}")
        return steps, spent + seconds


def check_checker():
    """This program itself must be able to fail: on a search cut short, on a mutant that is none."""
    small = bounds(2, 2, 1, 1)
    for what, attempt, reason in (
            ("a search cut off by its depth", lambda: prove(small, depth=20), "not complete"),
            ("a search cut off by its memory", lambda: prove(bounds(2, 3, 3, 2), limit=64 << 20), "out of memory"),
            ("a broken model", lambda: prove(bounds(2, 2, 1, 1, "M5", "SYM")), "I7 is broken in the correct"),
            ("a mutant that changes nothing", lambda: catch("NOTHING", small, 1), "not caught")):
        try:
            attempt()
        except Failed as failure:
            if reason in str(failure):
                continue
            raise Failed(f"{what} ended as: {failure}") from None
        raise Failed(f"{what} passed as if it were well")


def main():
    parser = argparse.ArgumentParser(description="Checks the model of the replication protocol with spin.")
    parser.add_argument("--large", action="store_true", help="larger bounds, many minutes")
    parser.add_argument("--story", metavar="MUTANT", help="the shortest counterexample of a mutant")
    parser.add_argument("--list", action="store_true", help="configurations and mutants")
    chosen = parser.parse_args()
    if chosen.list:
        for name, flags in {**CONFIGURATIONS, **LARGE}.items():
            print(f"{name}: {' '.join(flags)}")
        for name, (wrong, invariants, where) in MUTANTS.items():
            print(f"{name}: {wrong}; breaks {', '.join(f'I{i}' for i in invariants)}")
            for flags in where:
                print(f"  {' '.join(flags)}")
        return 0
    for program in ("spin", "gcc"):
        if not shutil.which(program):
            print(f"{program} is not installed (tools/deps.sh test installs it)")
            return 77
    if chosen.story:
        if chosen.story not in MUTANTS:
            print(f"there is no mutant {chosen.story}; --list names them", file=sys.stderr)
            return 1
        wrong, invariants, where = MUTANTS[chosen.story]
        for flags, invariant in [(flags, invariant) for flags in where for invariant in invariants]:
            steps, _ = catch(chosen.story, flags, invariant)
            print(f"{chosen.story}: {wrong}. {len(steps)} steps to break I{invariant} ({' '.join(flags)}):")
            print("  " + "\n  ".join(steps))
        return 0

    failures = []
    total = 0.0
    started = time.monotonic()

    def attempt(what, action):
        nonlocal total
        try:
            text, spent = action()
            total += spent
        except Failed as failure:
            failures.append(what)
            text = f"FAILED: {failure}"
        print(f"{what}: {text}", flush=True)

    def proof(flags, *limits):
        states, depth, memory, spent = prove(flags, *limits)
        return f"holds, all {states} states, depth {depth}, {memory:.0f} MiB, {spent:.1f} s ({' '.join(flags)})", spent

    def hunt(name):
        wrong, invariants, where = MUTANTS[name]
        found, spent = [], 0.0
        for flags, invariant in [(flags, invariant) for flags in where for invariant in invariants]:
            steps, seconds = catch(name, flags, invariant)
            spent += seconds
            found.append(f"I{invariant} after {len(steps)} steps ({flags[0][-1]} replicas)")
        return f"caught by {', '.join(found)}: {wrong}", spent

    if not chosen.large:
        attempt("check.py itself", lambda: (check_checker() or "fails where it must", 0.0))
    limits = (MEMORY_LARGE, SECONDS_LARGE) if chosen.large else ()
    for name, flags in (LARGE if chosen.large else CONFIGURATIONS).items():
        attempt(name, lambda flags=flags: proof(flags, *limits))
    if not chosen.large:
        for name in MUTANTS:
            attempt(name, lambda name=name: hunt(name))
    print(f"{total:.0f} s of one core, {time.monotonic() - started:.0f} s by the clock; "
          + (f"{len(failures)} failed: {', '.join(failures)}" if failures else "all as it should be"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
