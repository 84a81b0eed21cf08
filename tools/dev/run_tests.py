#!/usr/bin/python3
"""Runs ctest on a built tree, wholly or by room and name, and sums up honestly.

Counts single test cases where the program reports them (gtest and the system tests write XML), and one per
ctest entry elsewhere. Whatever a test leaves running is ended, named, and counted as a failure. The last line is
"N passed, N failed, N skipped"; exit 0 only where nothing failed.
"""
import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

PR_SET_CHILD_SUBREAPER = 36
# "12/30 Test  #3: base_tests ......   Passed    0.51 sec"
RESULT_LINE = re.compile(r"^\s*\d+/\d+ Test\s+#\d+: (\S+) \.*\s*(\S.*?)\s+[\d.]+ sec")
GRACE_SECONDS = 20


def read_tests(build):
    """Every ctest entry as {name, room, labels, command}; the room is the folder below src/ or tests/."""
    shown = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True, capture_output=True)
    tests = []
    for entry in json.loads(shown.stdout)["tests"]:
        facts = {p["name"]: p["value"] for p in entry.get("properties", [])}
        inside = os.path.relpath(facts.get("WORKING_DIRECTORY", build), build).split(os.sep)
        if inside[0] in ("src", "tests") and len(inside) > 1:
            room = inside[1]
        else:
            room = inside[0]
        tests.append({"name": entry["name"], "room": room, "labels": facts.get("LABELS", []),
                      "command": entry.get("command", [])})
    return tests


def gtest_cases(program):
    """Names of the cases of a gtest program; empty for any other."""
    try:
        listed = subprocess.run([program, "--gtest_list_tests"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    cases, suite = [], None
    for line in listed.splitlines():
        if re.match(r"^\S+\.(\s|$)", line):
            suite = line.split()[0]
        elif suite and line.startswith("  "):
            cases.append(suite + line.split()[0])
    return cases


def select(tests, filters):
    """The entries that the filters name, and the gtest filter to set, or None. Exits where a filter names nothing."""
    chosen, patterns = [], []
    for text in filters:
        room, _, name = text.partition(":")
        in_room = [t for t in tests if room in (t["room"], t["name"]) or room in t["labels"]]
        if not in_room:
            rooms = sorted({t["room"] for t in tests})
            sys.exit(f"dev: no tests of a room '{room}'. Rooms with tests: {', '.join(rooms)}")
        by_name = [t for t in in_room if name.lower() in t["name"].lower()] if name else in_room
        if not by_name:
            by_name = [t for t in in_room if any(name in c for c in gtest_cases(t["command"][0]))]
            patterns.append(f"*{name}*")
        if not by_name:
            known = ", ".join(t["name"] for t in in_room)
            sys.exit(f"dev: no test of '{room}' has '{name}' in its name or in its cases. There are: {known}")
        chosen += [t for t in by_name if t not in chosen]
    if patterns and len(patterns) != len(filters):
        sys.exit("dev: a filter by the name of a case cannot be mixed with other filters in one run")
    return chosen, ":".join(patterns) or None


def parents():
    """{pid: parent} of every process."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    table[int(entry)] = int(stat.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    return table


def descendants():
    table, found, front = parents(), [], [os.getpid()]
    while front:
        front = [pid for pid, parent in table.items() if parent in front]
        found += front
    return found


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            return cmdline.read().replace(b"\0", b" ").decode(errors="replace").strip() or f"[{pid}]"
    except OSError:
        return f"[{pid}]"


def end_leftovers():
    """Ends every process below us (we are their subreaper); returns what they were."""
    reap()
    left = [(pid, command_of(pid)) for pid in descendants()]
    deadline = time.monotonic() + 10
    for sign in (signal.SIGTERM, signal.SIGKILL):
        while (pids := descendants()) and time.monotonic() < deadline:
            for pid in pids:
                try:
                    os.kill(pid, sign)
                except ProcessLookupError:
                    pass
            time.sleep(0.2)
            reap()
        deadline = time.monotonic() + 10
    return [command for _, command in left]


def reap():
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def reap_others(pid):
    """Reaps orphans that came to us as their subreaper, but leaves the status of `pid` to its own wait."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == pid:
            return
        os.waitpid(ended.si_pid, 0)


def run_ctest(build, chosen, gtest_filter, seconds_left):
    """Runs the chosen entries; returns ({name: status text}, ctest's exit code, whether time ran out)."""
    results = os.path.join(os.path.abspath(build), "test-results")
    shutil.rmtree(results, ignore_errors=True)
    os.makedirs(results)
    environment = dict(os.environ, GTEST_OUTPUT=f"xml:{results}/", HOLDFAST_TEST_RESULTS=results)
    environment["GTEST_BRIEF"] = "1"
    if gtest_filter:
        environment["GTEST_FILTER"] = gtest_filter
    names = "|".join(re.escape(t["name"]) for t in chosen)
    child = subprocess.Popen(
        ["ctest", "--test-dir", build, "-j2", "--output-on-failure", "--no-tests=error", "-R", f"^({names})$"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment)
    out_of_time = threading.Event()

    def stop():
        out_of_time.set()
        child.send_signal(signal.SIGINT)
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    timer = None
    if seconds_left is not None:
        timer = threading.Timer(max(1, seconds_left), stop)
        timer.start()
    statuses = {}
    # Ends at ctest's end even where a leftover still holds the pipe.
    for line in lines_until_exit(child):
        print(line, end="", flush=True)
        match = RESULT_LINE.match(line)
        if match:
            statuses[match.group(1)] = match.group(2)
    code = child.wait()
    if timer:
        timer.cancel()
    return statuses, code, out_of_time.is_set()


def lines_until_exit(child):
    lines, finished = [], threading.Event()

    def pump():
        for line in child.stdout:
            lines.append(line)
        finished.set()

    threading.Thread(target=pump, daemon=True).start()
    while True:
        reap_others(child.pid)
        gone = child.poll() is not None
        if gone:
            finished.wait(2)
        while lines:
            yield lines.pop(0)
        if gone:
            return
        time.sleep(0.05)


def read_cases(results, chosen):
    """{entry name: (passed, failed, [(skipped case, reason)])} of the entries whose program wrote an XML."""
    by_program = {os.path.basename(t["command"][0]): t["name"] for t in reversed(chosen) if t["command"]}
    by_program.update({t["name"]: t["name"] for t in chosen})
    counts = {}
    for file in sorted(os.listdir(results)):
        stem = re.sub(r"(_\d+)?\.xml$", "", file)
        name = by_program.get(file[:-4], by_program.get(stem))
        try:
            root = ElementTree.parse(os.path.join(results, file)).getroot()
        except ElementTree.ParseError:
            continue  # a program that died while writing: its entry's own status stands
        if name is None:
            continue
        passed, failed, skipped = counts.get(name, (0, 0, []))
        for case in root.iter("testcase"):
            if case.get("status") == "notrun":
                continue
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif skip is not None:
                reason = (skip.get("message") or "no reason given").strip().splitlines()[-1]
                skipped = skipped + [(f"{case.get('classname')}.{case.get('name')}", reason)]
            else:
                passed += 1
        counts[name] = (passed, failed, skipped)
    return counts


def skip_reason(build, name):
    """What a skipped entry printed last: the tests say there why."""
    log = os.path.join(build, "Testing", "Temporary", "LastTest.log")
    try:
        with open(log, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except OSError:
        return "no reason given"
    match = re.search(rf"^\d+/\d+ Testing: {re.escape(name)}\n.*?^Output:\n-+\n(.*?)^<end of output>", text, re.S | re.M)
    lines = match.group(1).strip().splitlines() if match else []
    return lines[-1].removeprefix("SKIP: ") if lines else "no reason given"


def sum_up(build, chosen, statuses, code, out_of_time, leftovers):
    cases = read_cases(os.path.join(build, "test-results"), chosen)
    passed, failed, skipped, broken = 0, 0, [], []
    for test in chosen:
        name, status = test["name"], statuses.get(test["name"])
        good, bad, skips = cases.get(name, (0, 0, []))
        if status == "Passed":
            # An entry without cases of its own counts as one.
            passed += good if name in cases else 1
            failed += bad
            skipped += skips
            if bad:
                broken.append(f"{name}: {bad} cases failed although it exited with 0")
        elif status and status.startswith("***Skipped"):
            skipped.append((name, skip_reason(build, name)))
        else:
            passed += good
            failed += max(1, bad)
            skipped += skips
            broken.append(f"{name}: {status.lstrip('*') if status else 'did not get its turn'}")
    if leftovers and not out_of_time:  # what the limit cut off was still running, of course
        failed += 1
        broken.append("left running (ended now): " + "; ".join(leftovers))
    if code != 0 and failed == 0:
        failed = 1
        broken.append(f"ctest ended with {code}")
    print()
    for name, reason in skipped:
        print(f"skipped: {name}: {reason}")
    for text in broken:
        print(f"FAILED: {text}")
    if out_of_time:
        print("FAILED: the time limit of the whole run (HOLDFAST_TEST_MINUTES) was reached")
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped", flush=True)
    return 1 if failed or out_of_time else 0


def main():
    parser = argparse.ArgumentParser(prog="./dev test")
    parser.add_argument("--build", required=True)
    parser.add_argument("--started", type=int, default=int(time.time()))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("filters", nargs="*")
    arguments = parser.parse_args()
    tests = read_tests(arguments.build)
    if arguments.list:
        for test in tests:
            print(f"{test['room']}:{test['name']}")
        return 0
    chosen, gtest_filter = select(tests, arguments.filters) if arguments.filters else (tests, None)
    seconds_left = None
    if os.environ.get("HOLDFAST_TEST_MINUTES"):
        end = arguments.started + 60 * float(os.environ["HOLDFAST_TEST_MINUTES"])
        seconds_left = end - time.time() - GRACE_SECONDS
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    statuses, code, out_of_time = run_ctest(arguments.build, chosen, gtest_filter, seconds_left)
    leftovers = end_leftovers()
    return sum_up(arguments.build, chosen, statuses, code, out_of_time, leftovers)


if __name__ == "__main__":
    sys.exit(main())
