"""Banned calls, lengths, marks of unfinished work, paths of somebody's machine."""
import re

FILE_LINES_MAX = 800
FUNCTION_LINES_AIM = 70
FUNCTION_LINES_MAX = 100

_NOT_MEMBER = r"(?<![\w.>:])"

# (rule, pattern on code without comments and literals, what to do instead)
BANNED = [
    ("banned-format", re.compile(r"\bv?sprintf\s*\("), "fmt::format, or snprintf with its size"),
    ("banned-copy", re.compile(r"\b(?:strcpy|strcat|gets|strtok)\s*\("), "std::string or std::span"),
    ("banned-system", re.compile(_NOT_MEMBER + r"(?:std::|::)?(?:system|popen)\s*\("), "the Process seam: no shell"),
    ("banned-rand", re.compile(_NOT_MEMBER + r"(?:std::|::)?(?:s?rand|random|drand48|rand_r)\s*\(\s*\)|\bsrand\s*\(|\bstd::(?:random_device|mt19937)"),
     "the Random seam, or base/prng.h with a seed"),
    ("banned-thread", re.compile(r"\bstd::j?thread\b(?!::)|\bpthread_create\s*\(|\bstd::async\b"),
     "tasks on a loop, or runtime's pool for blocking calls"),
    ("banned-sleep", re.compile(r"\bstd::this_thread::sleep|\b(?:usleep|nanosleep)\s*\(|(?:^|[;{}()])\s*(?:::)?sleep\s*\("),
     "the loop's timers"),
    ("banned-clock", re.compile(r"\bsystem_clock\b|\bgettimeofday\s*\(|\bclock_gettime\s*\(|" + _NOT_MEMBER +
                                r"(?:std::|::)?time\s*\(\s*(?:nullptr|NULL|0)"),
     "the Clock seam"),
    ("banned-async-exit", re.compile(_NOT_MEMBER + r"(?:std::|::)?(?:exit|quick_exit)\s*\("), "return an Error"),
    ("banned-throw", re.compile(r"\bthrow\b(?!\s*\()"), "Result<T>; exceptions are only caught, at third-party edges"),
]

# Where a banned thing is the right thing: (rule, path prefix or suffix pattern, reason). Tests are in TEST_EXCEPTIONS.
EXCEPTIONS = [
    ("banned-thread", r"src/(runtime|uring|node|api)/", "these own the threads: loops, the pool, gRPC and HTTP"),
    ("banned-clock", r"src/uring/", "the real Clock"),
    ("banned-clock", r"src/base/log", "time stamps of log lines, never a decision"),
    ("banned-clock", r"src/mount/freeze\.cc$", "a program of its own, without a loop"),
    ("banned-clock", r"src/(api|cli)/", "gRPC's deadlines are given in it"),
    ("banned-sleep", r"src/uring/", "the real world"),
    ("banned-rand", r"src/uring/", "the real Random"),
    ("banned-async-exit", r"src/(cli|node)/.*main\.cc$|src/sim/seed_runner\.cc$", "wrong use of a program's flags"),
]
TEST_EXCEPTIONS = {
    "banned-thread": "a test may be the other side of a socket",
    "banned-sleep": "a test of the real world may have to wait for it",
    "banned-clock": "a test may measure",
    "banned-system": "a test may use a shell",
    "banned-throw": "a test may play a third party",
    "banned-async-exit": "a test's child process",
}

UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
# Roots that exist only where this was written; in pieces so that this file does not name them itself.
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:wor" + r"k|far" + r"m)/(?:w|main|shared|agents?)\b|/home/\w+/|/root/(?!\.cache/holdfast)")


def check_banned(source):
    for rule, pattern, instead in BANNED:
        if source.is_test and rule in TEST_EXCEPTIONS:
            continue
        if any(rule == r and re.match(where, source.path) for r, where, _ in EXCEPTIONS):
            continue
        for match in pattern.finditer(source.code):
            text = match.group(0).strip(" \t\n;{}()")
            yield source.path, source.line(match.end() - 1), rule, f"`{text}`: use {instead}"


def check_lengths(source):
    """Yields (path, line, rule, text); rule "long" is a warning only."""
    if source.line_count > FILE_LINES_MAX:
        yield (source.path, 1, "file-length",
               f"{source.line_count} lines, more than {FILE_LINES_MAX}: split it by verb")
    for start, _, close in source.functions():
        lines = source.line(close) - source.line(start) + 1
        if lines > FUNCTION_LINES_AIM:
            name = re.split(r"\s*\(", source.code[start:close].split("{")[0].strip())[0].split()[-1:]
            what = f"{''.join(name)}() has {lines} lines"
            if lines > FUNCTION_LINES_MAX:
                yield source.path, source.line(start), "function-length", f"{what}, more than {FUNCTION_LINES_MAX}"
            else:
                yield source.path, source.line(start), "long", f"{what}; aim at {FUNCTION_LINES_AIM}"


def check_text(path, raw):
    """Rules for every text file of the tree."""
    for number, line in enumerate(raw.splitlines(), 1):
        if UNFINISHED.search(line):
            yield path, number, "unfinished", f"`{UNFINISHED.search(line).group(0)}`: build it now, or write it into the issue"
        if MACHINE_PATHS.search(line):
            yield path, number, "machine-path", f"`{MACHINE_PATHS.search(line).group(0)}`: a path of one machine"
