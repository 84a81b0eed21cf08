"""Who may include whom, who may see the operating system, and files that nothing builds."""
import os
import re

# The rooms from the foundation up, and what each may name in its DEPENDS: these, and what these may name in turn
# (docs/architecture.md). What a room then really includes must stand in its own DEPENDS.
ROOMS = {
    "base": [],
    "runtime": ["base"],
    "uring": ["runtime"],
    "sim": ["runtime"],
    "format": ["base"],
    "store": ["runtime", "format"],
    "state": ["runtime"],
    "replicate": ["runtime", "format", "store", "state"],
    "volume": ["runtime", "replicate"],
    "cluster": ["state", "volume"],
    "holder": ["base"],
    "block": ["runtime", "volume", "holder", "uring"],
    "mount": ["runtime", "volume", "uring"],
    "backup": ["store", "volume", "state"],
    "auth": ["state"],
    "api": ["cluster", "block", "mount", "backup", "auth"],
    "node": ["uring", "sim", "api"],
    "cli": ["base", "volume"],
}

# Headers of the operating system's sockets and rings. `uring` alone may use them; every other use stands here with
# its reason.
SOCKET_HEADERS = re.compile(
    r"^(liburing.*|sys/(socket|un|epoll|timerfd|eventfd|signalfd)\.h|netinet/.*|arpa/.*|netdb\.h|linux/io_uring\.h)$")
SOCKET_EXCEPTIONS = {
    # (folder or file, header pattern): reason
    ("src/api/http/server.cc", r"sys/(socket|stat|un)\.h"): "makes the plugin's socket before Beast's own threads accept on it",
    ("src/holder/", r"sys/(socket|un)\.h"): "descriptors are handed over by SCM_RIGHTS, in a process without a loop",
    ("src/block/nbd/kernel/", r"sys/socket\.h"): "netlink, and the socket pair whose other end the kernel takes",
    ("src/mount/freeze.cc", r"sys/(socket|un)\.h"): "a guard and who asks it to thaw, in processes without a loop",
}

# These run under simulation: whatever reaches the world without the seams of `runtime` breaks "same seed, same history".
SIMULATED = ("runtime", "sim", "format", "store", "replicate", "volume", "cluster", "auth")
WORLD_HEADERS = re.compile(r"^(thread|fstream|filesystem|iostream|future|condition_variable|unistd\.h|fcntl\.h|dirent\.h"
                           r"|poll\.h|pthread\.h|sys/(stat|mman|ioctl|mount|uio|statvfs|file|time)\.h|time\.h)$")
WORLD_EXCEPTIONS = {
    # (folder or file, header pattern): reason
    ("src/sim/seed_runner.cc", r".*"): "runs simulations in processes of their own; it is in none of them",
}


def excepted(table, path, header):
    return any(path.startswith(where) and re.match(what, header) for where, what in table)


def allowed_closure(room):
    found, front = {room}, list(ROOMS.get(room, []))
    while front:
        name = front.pop()
        if name not in found:
            found.add(name)
            front += ROOMS[name]
    return found


def _commands(text):
    """(name, [arguments]) of the CMake commands in a file; the conditions around them are not looked at."""
    text = re.sub(r"#[^\n]*", "", text)
    for match in re.finditer(r"\b(\w+)\s*\(", text):
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        yield match.group(1).lower(), re.findall(r'"[^"]*"|[^\s()"]+', text[match.end():at - 1])


class CMakeFacts:
    """What the CMake files below a folder say: DEPENDS and ROOMS per room, and every file that a target names."""

    def __init__(self, root, cmake_files):
        self.depends = {}     # room -> rooms that its libraries may include
        self.test_rooms = {}  # room -> rooms that its tests may include as well
        self.files = set()    # source files that some target names
        self.globbed = set()  # folders whose sources are globbed
        self.where = {}       # room -> the CMake file with its hf_room
        for path in sorted(cmake_files):
            with open(os.path.join(root, path), encoding="utf-8") as stream:
                self._read(path, stream.read())

    def _read(self, path, text):
        folder = os.path.dirname(path)
        parts = folder.split("/")
        room = parts[1] if parts[0] == "src" and len(parts) > 1 else parts[0]
        if path.endswith(".cmake"):
            # Shared functions name files from the root.
            self.files.update(re.findall(r"src/[\w/.-]+\.(?:cc|h)", text))
            return
        variables = {"CMAKE_CURRENT_SOURCE_DIR": [folder], "CMAKE_SOURCE_DIR": ["."], "CMAKE_CURRENT_LIST_DIR": [folder]}
        for name, arguments in _commands(text):
            words = self._expand(arguments, variables)
            if name == "set" and words:
                variables[words[0]] = words[1:]
            elif name == "list" and words[:1] == ["APPEND"]:
                variables.setdefault(words[1], []).extend(words[2:])
            elif name == "file" and words and words[0].startswith("GLOB"):
                self.globbed.add(folder)
            elif name == "hf_room":
                self.where.setdefault(room, path)
                self.depends.setdefault(room, set()).update(self._section(words, "DEPENDS"))
            elif name in ("hf_test", "hf_fuzzer", "hf_bench"):
                self.test_rooms.setdefault(room, set()).update(self._section(words, "ROOMS"))
            for word in words:
                if re.search(r"\.(cc|h|cpp|proto|c)$", word):
                    self.files.add(os.path.normpath(word if word.startswith(folder) else os.path.join(folder, word)))

    @staticmethod
    def _expand(arguments, variables):
        out = []
        for argument in arguments:
            whole = re.fullmatch(r'"?\$\{(\w+)\}"?', argument)
            if whole:
                out += variables.get(whole.group(1), [])
            else:
                out.append(re.sub(r"\$\{(\w+)\}", lambda m: " ".join(variables.get(m.group(1), [])), argument.strip('"')))
        return out

    @staticmethod
    def _section(words, key):
        keys = {"SOURCES", "DEPENDS", "LIBS", "ROOMS", "LABELS", "TIMEOUT", "CORPUS"}
        taken, inside = [], False
        for word in words:
            if word in keys:
                inside = word == key
            elif inside:
                taken.append(word.removeprefix("hf_"))
        return taken


def check_depends(facts):
    for room, depends in sorted(facts.depends.items()):
        if room not in ROOMS:
            yield facts.where[room], 1, "rooms", f"'{room}' is not a room of the architecture"
            continue
        for wrong in sorted(d for d in depends if d in ROOMS and d not in allowed_closure(room)):
            yield (facts.where[room], 1, "rooms",
                   f"'{room}' may not depend on '{wrong}': the architecture gives it {', '.join(ROOMS[room]) or 'nothing'}")


def check_includes(source, facts):
    parts = source.path.split("/")
    if parts[0] != "src" or len(parts) < 3:
        return
    room = parts[1]
    # A room that has only headers so far is judged by the architecture alone.
    named = facts.depends.get(room, allowed_closure(room)) | {room, "base"}
    if source.is_test:
        named = named | facts.test_rooms.get(room, set())
    for offset, header, angled in source.includes():
        line = source.line(offset)
        if angled:
            yield from _check_system(source, room, header, line)
            continue
        other = header.split("/")[0]
        if other not in ROOMS:
            if other in (".", "..") or "/" not in header and not header.endswith((".pb.h", ".h.inc")):
                yield (source.path, line, "includes", f'"{header}": include from src/, as "<room>/…"')
            continue
        if other not in named and room != "node":
            how = "is not in the DEPENDS of" if other in allowed_closure(room) else "is above or beside"
            yield source.path, line, "includes", f'"{header}": room {other} {how} {room}'


def _check_system(source, room, header, line):
    if SOCKET_HEADERS.match(header) and room != "uring" and not source.is_test:
        if not excepted(SOCKET_EXCEPTIONS, source.path, header):
            yield (source.path, line, "includes",
                   f"<{header}>: only the room uring talks to sockets and rings (exceptions: tools/tidy_rules/rooms.py)")
    elif WORLD_HEADERS.match(header) and room in SIMULATED and not source.is_test:
        if not excepted(WORLD_EXCEPTIONS, source.path, header):
            yield (source.path, line, "includes",
                   f"<{header}>: {room} sees the world through runtime's seams alone (exceptions: tools/tidy_rules/rooms.py)")


def check_dead(sources, facts):
    """Sources that no CMake target names, headers that nothing includes."""
    included = set()
    for source in sources:
        folder = os.path.dirname(source.path)
        for _, header, _ in source.includes():
            included.add("src/" + header)
            included.add(os.path.normpath(os.path.join(folder, header)))
    for source in sources:
        path = source.path
        if not path.startswith("src/") or os.path.dirname(path) in facts.globbed:
            continue
        if path.endswith(".cc") and path not in facts.files:
            yield path, 1, "dead", "no CMake target builds it"
        elif path.endswith(".h") and path not in included and path not in facts.files:
            yield path, 1, "dead", "nothing includes it"
