"""The coroutine rules that a machine can check: what gcc 12.2 compiles wrongly without a word.

R1 co_await only as `co_await e;`, `T x = co_await e;`, `x = co_await e;`, `co_return co_await e;`,
   `if (T x = co_await e; …)`. R2 no brace-built temporary and no capturing lambda in a statement that awaits, and never
   `auto [a, b] = co_await …`. R4 no lambda coroutines. R6 no co_await in catch. And never `new T(co_await e)`.
"""
import re

from tidy_rules.source import matching

_LAMBDA = re.compile(r"(?<![\w)\]\[])\s*\[(?!\[)([^\[\]]*)\]\s*(?=[({]|mutable\b|->|<)")
_AWAITS = re.compile(r"\bco_(?:await|return|yield)\b")
_CONDITION = re.compile(r"\s*(?:else\s+)?(?:if|while|for|switch)\s*(?:constexpr\s*)?\(")
_LABEL = re.compile(r"\s*(?:else\b|do\b|case\s+[\w:]+\s*:(?!:)|default\s*:)")
_TARGET = re.compile(r"[^(){}=;?]*(?<![=!<>])=\s*|\s*\(void\)\s*|\s*co_return\s+|\s*")


def _lambdas(code):
    """(start, capture text, body open, body close) of every lambda."""
    for match in _LAMBDA.finditer(code):
        at = match.end()
        if code.startswith("<", at):
            at = code.find("(", at)
        if code.startswith("(", at):
            at = matching(code, at) + 1
        body = re.compile(r"[^;{}()=]*\{").match(code, at)
        if body:
            open_brace = body.end() - 1
            yield match.start(1) - 1, match.group(1).strip(), open_brace, matching(code, open_brace)


def _statement_start(code, at):
    """Offset behind the `;`, `{` or `}` that precedes, and whether an open parenthesis lies around the statement
    (the second part of an `if (…; …)` or `for (…; …)` counts as inside)."""
    depth, inside, start = 0, False, None
    for i in range(at - 1, -1, -1):
        char = code[i]
        if char in ")]":
            depth += 1
        elif char in "([":
            if depth:
                depth -= 1
            else:
                inside = True
        elif depth == 0 and char in ";{}":
            start = i + 1 if start is None else start
            if char != ";":
                break
    return start or 0, inside


def _statement_end(code, at):
    """Offset of the `;` that ends the statement, or of the closing parenthesis around it."""
    i = at
    while i < len(code):
        char = code[i]
        if char in "([{":
            i = matching(code, i)
        elif char in ";)}":
            return i
        i += 1
    return len(code) - 1


def _strip_conditions(prefix):
    """The prefix without `else`, labels and complete `if (…)` in front of the statement itself."""
    while True:
        condition = _CONDITION.match(prefix)
        if condition:
            close = matching(prefix, condition.end() - 1)
            if close > condition.end() - 1 and prefix[close] == ")" and close < len(prefix):
                prefix = prefix[close + 1:]
                continue
            return prefix
        label = _LABEL.match(prefix)
        if not label or label.end() == 0:
            return prefix
        prefix = prefix[label.end():]


def _check_await(source, at, lambdas):
    code, line = source.code, source.line(at)
    start, inside = _statement_start(code, at)
    prefix = code[start:at]
    end = _statement_end(code, at)

    def wrong(rule, text):
        return source.path, line, rule, text

    if re.search(r"\bnew\b", prefix):
        return wrong("coroutine-new", "`new T(co_await …)`: await into a variable first")
    if re.search(r"\bauto\b\s*(?:&|&&|const\s*&)?\s*\[", prefix):
        return wrong("coroutine-R2", "`auto [a, b] = co_await …`: await into a variable, then take it apart")
    stripped = _strip_conditions(prefix)
    opening = _CONDITION.match(stripped)
    if opening and stripped.lstrip().startswith(("if", "else")) and code[end] == ";":
        stripped = stripped[opening.end():]  # if (T x = co_await e; …)
        if "=" not in stripped:
            return wrong("coroutine-R1", "co_await in a condition: await into a variable first")
    elif opening or inside or code[end] != ";":
        return wrong("coroutine-R1", "co_await inside another expression: await into a variable first")
    if not _TARGET.fullmatch(stripped):
        return wrong("coroutine-R1", "co_await only as `co_await e;`, `x = co_await e;`, `co_return co_await e;` "
                                     "or `if (T x = co_await e; …)`")
    operand = code[at:end]
    for start_l, capture, _, close in lambdas:
        if at <= start_l < end:
            if capture:
                return wrong("coroutine-R2", "a capturing lambda in a statement that awaits: name it, then move it")
            operand = operand.replace(code[start_l:close + 1], "")
    if "{" in operand or "{" in stripped:
        return wrong("coroutine-R2", "a brace-built temporary in a statement that awaits: name it, then move it")
    outer = re.sub(r"\([^()]*\)", "", operand)
    while outer != operand:
        operand, outer = outer, re.sub(r"\([^()]*\)", "", outer)
    if re.search(r"&&|\|\||\?", outer):
        return wrong("coroutine-R1", "co_await as an operand: await into a variable first")
    return None


def check(source):
    code = source.code
    if "co_" not in code:
        return
    lambdas = list(_lambdas(code))
    for start, _, open_brace, close in lambdas:
        if _AWAITS.search(code, open_brace, close) and not _only_in_inner(code, open_brace, close, lambdas):
            yield source.path, source.line(start), "coroutine-R4", "a lambda is a coroutine: make it a function"
    for match in re.finditer(r"\bcatch\s*\(", code):
        open_brace = code.find("{", matching(code, match.end() - 1))
        close = matching(code, open_brace)
        awaited = re.compile(r"\bco_(?:await|yield)\b").search(code, open_brace, close)
        if awaited:
            yield source.path, source.line(awaited.start()), "coroutine-R6", "co_await in a catch block"
    for match in re.finditer(r"\bco_await\b", code):
        if re.search(r"operator\s*$", code[max(0, match.start() - 12):match.start()]):
            continue
        finding = _check_await(source, match.start(), lambdas)
        if finding:
            yield finding


def _only_in_inner(code, open_brace, close, lambdas):
    """Whether every co_ keyword between the braces belongs to a lambda inside."""
    inner = [(o, c) for _, _, o, c in lambdas if open_brace < o and c < close]
    return all(any(o < m.start() < c for o, c in inner) for m in _AWAITS.finditer(code, open_brace, close))
