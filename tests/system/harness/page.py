"""The commands of a page of ours: what stands in its code blocks, to be run as it stands there."""
import os
import re

from harness.base import ROOT


class Block:
    """line: where it stands. note: the HTML comment right above it, "" where there is none. text: the commands."""

    def __init__(self, line, note, text):
        self.line, self.note, self.text = line, note, text


def blocks(page):
    """The code blocks of a page (a path from the root of the tree), in order."""
    with open(os.path.join(ROOT, page), encoding="utf-8") as stream:
        text = stream.read()
    found = []
    for match in re.finditer(r"(?:^<!-- ([^\n]*) -->\n)?^```\w*\n(.*?)^```$", text, re.M | re.S):
        found.append(Block(text[:match.start(2)].count("\n") + 1, match[1] or "", match[2]))
    return found
