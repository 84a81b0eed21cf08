#!/usr/bin/python3
"""Checks what a machine can check of the style: see docs/style.md and the modules in tidy_rules/.

  tools/tidy.py                    the whole tree; exit 1 where a rule is broken
  tools/tidy.py src/store …        only findings below these paths
  tools/tidy.py --only includes    only rules with this word in their name (the build calls it so)
  --stamp FILE                     touch FILE when all is well (for the build)
  --warnings                       functions that are longer than they should be, too
"""
import argparse
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from tidy_rules import coroutines, rooms, text  # noqa: E402
from tidy_rules.source import Source  # noqa: E402

CODE_ENDS = (".cc", ".h")
TEXT_ENDS = CODE_ENDS + (".py", ".sh", ".md", ".txt", ".cmake", ".proto", ".toml", ".json", ".yml", ".yaml", ".service",
                         ".ts", ".tsx", ".html", ".css", ".js")
TEXT_NAMES = ("dev", "run", "rules", "control", "postinst", "prerm", "postrm")
FOLDERS = ("src", "tests", "tools", "bench", "docs", "deploy", "proto", "cmake", "web", ".ci")
# The checker and its fixtures speak of what they forbid.
NOT_CHECKED = ("tools/tidy_rules/", "tests/tools/tidy_test.py")
BIG = 512 * 1024


def files_of(root):
    """Files that are or could be committed, as paths relative to the root."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True)
    if listed.returncode == 0:
        paths = listed.stdout.decode().split("\0")
        return sorted({p for p in paths if p and os.path.isfile(os.path.join(root, p))})
    found = []  # an unpacked source archive
    for folder in FOLDERS:
        for where, _, names in os.walk(os.path.join(root, folder)):
            found += [os.path.relpath(os.path.join(where, name), root) for name in names]
    return sorted(found)


def read(root, path):
    try:
        with open(os.path.join(root, path), encoding="utf-8") as stream:
            return stream.read()
    except UnicodeDecodeError:
        return None


def findings_of(root):
    """Every finding as (path, line, rule, text)."""
    paths = files_of(root)
    facts = rooms.CMakeFacts(root, [p for p in paths if p.startswith("src/") and p.endswith("/CMakeLists.txt")
                                    or p.startswith("cmake/") and p.endswith(".cmake")])
    yield from rooms.check_depends(facts)
    sources = []
    for path in paths:
        name = os.path.basename(path)
        if path.startswith(NOT_CHECKED) or not (name.endswith(TEXT_ENDS) or name in TEXT_NAMES):
            continue
        if os.path.getsize(os.path.join(root, path)) > BIG:
            continue
        raw = read(root, path)
        if raw is None:
            if name.endswith(CODE_ENDS):
                yield path, 1, "encoding", "not UTF-8"
            continue
        yield from text.check_text(path, raw)
        if name.endswith(CODE_ENDS):
            source = Source(path, raw)
            sources.append(source)
            yield from rooms.check_includes(source, facts)
            yield from text.check_banned(source)
            yield from text.check_lengths(source)
            yield from coroutines.check(source)
    yield from rooms.check_dead(sources, facts)


def main():
    parser = argparse.ArgumentParser(prog="tidy")
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--only", default="")
    parser.add_argument("--stamp")
    parser.add_argument("--warnings", action="store_true")
    parser.add_argument("paths", nargs="*")
    arguments = parser.parse_args()
    broken, warned = 0, 0
    for path, line, rule, what in findings_of(arguments.root):
        if arguments.only not in rule or arguments.paths and not path.startswith(tuple(arguments.paths)):
            continue
        if rule == "long":
            warned += 1
            if arguments.warnings:
                print(f"{path}:{line}: warning: {what}")
            continue
        broken += 1
        print(f"{path}:{line}: {rule}: {what}")
    if broken:
        print(f"tidy: {broken} findings")
        return 1
    if arguments.stamp:
        with open(arguments.stamp, "w", encoding="utf-8"):
            pass
    elif not arguments.only:
        print(f"tidy: clean ({warned} functions over {text.FUNCTION_LINES_AIM} lines; --warnings shows them)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
