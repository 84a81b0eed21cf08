"""A C++ file as the rules see it: raw text, text without comments and literals, brace structure."""
import bisect
import re

_BLANKED = re.compile(
    r'//[^\n]*|/\*.*?\*/'
    r'|(?:u8|[uUL])?R"(?P<raw>[^()\\ ]*)\(.*?\)(?P=raw)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])*'", re.S)
_NOT_NEWLINE = re.compile(r"[^\n]")
_CONTROL = re.compile(r"^(?:else\s+)?(?:if|for|while|switch|catch|do|else|try|return)\b")
_SCOPE = re.compile(r"\b(?:namespace|class|struct|union|enum)\b")
_CTOR_INIT = re.compile(r"\)\s*(?:noexcept\s*(?:\([^()]*\))?\s*)?(?:try\s*)?:(?!:)")
_FUNCTION_END = re.compile(r"(?:\)|\bconst|\bnoexcept|\boverride|\bfinal|&|>|\w)\s*$")


def _blank(match):
    text = match.group(0)
    if text.startswith(("//", "/*")):
        return _NOT_NEWLINE.sub(" ", text)
    # A literal keeps its quotes: an expression must stay an expression.
    return '"' + _NOT_NEWLINE.sub(" ", text[1:-1]) + '"'


class Source:
    """path is relative to the root of the tree, with slashes."""

    def __init__(self, path, text):
        self.path = path
        self.raw = text
        self.code = _BLANKED.sub(_blank, text)
        self._starts = [0] + [m.end() for m in re.finditer("\n", text)]
        self._functions = None

    def line(self, offset):
        return bisect.bisect_right(self._starts, offset)

    @property
    def line_count(self):
        return self.raw.count("\n") + (0 if self.raw.endswith("\n") or not self.raw else 1)

    @property
    def is_test(self):
        name = self.path.rsplit("/", 1)[-1]
        stem = name.rsplit(".", 1)[0]
        return (stem.endswith(("_test", "_fuzz", "_bench", "_testing")) or stem.startswith("test_")
                or "/testing/" in self.path or self.path.startswith(("tests/", "bench/")))

    def includes(self):
        """(offset, name, is_angled) of every include; read from the raw text, where the name still stands."""
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', self.raw, re.M):
            if self.code[match.start():match.end()].strip():
                yield match.start(), match.group(2), match.group(1) == "<"

    def functions(self):
        """(header offset, open brace, close brace) of the outermost function bodies."""
        if self._functions is None:
            self._functions = list(self._find_functions())
        return self._functions

    def _find_functions(self):
        code = self.code
        header = 0
        tokens = re.finditer(r"[{};]|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", code, re.M)
        skip_to = 0
        for token in tokens:
            at = token.start()
            if at < skip_to:
                continue
            kind = token.group(0)
            if kind == "{":
                text = code[header:at].strip()
                close = matching(code, at)
                if self._opens_function(text):
                    start = header + len(code[header:at]) - len(code[header:at].lstrip())
                    yield start, at, close
                    header = skip_to = close + 1
                elif self._opens_scope(text):
                    header = at + 1
                else:
                    # An initializer, or a brace in a constructor's list: the header goes on behind it.
                    skip_to = close + 1
            else:
                header = token.end()

    @staticmethod
    def _opens_scope(text):
        if re.search(r'\bextern\s+"\s*C?\s*"$', text) or not text:
            return True
        return bool(_SCOPE.search(text)) and "=" not in text.rsplit(">", 1)[-1] and not text.endswith(")")

    @staticmethod
    def _opens_function(text):
        if ")" not in text or _CONTROL.match(text):
            return False
        without_templates = re.sub(r"^template\s*<[^{}]*?>\s*(?=\w)", "", text)
        init = _CTOR_INIT.search(without_templates)
        if init:
            # In a constructor's list an opening brace behind a name initializes that member.
            return without_templates.endswith((")", "}"))
        last = without_templates.rfind(")")
        behind = without_templates[last + 1:]
        if "=" in behind or "[" in behind.split("->")[0] and "[[" not in behind:
            return False
        before = without_templates[:without_templates.find("(")]
        if re.search(r"(?<![=!<>])=(?!=)", before) and "operator" not in before:
            return False
        return bool(_FUNCTION_END.search(without_templates))


def matching(code, at):
    """Offset of the bracket that closes the one at `at`; the last offset where none does."""
    depth = 0
    pairs = {"{": "}", "(": ")", "[": "]"}
    opening, closing = code[at], pairs[code[at]]
    for match in re.compile("[" + re.escape(opening + closing) + "]").finditer(code, at):
        depth += 1 if match.group(0) == opening else -1
        if depth == 0:
            return match.start()
    return len(code) - 1
