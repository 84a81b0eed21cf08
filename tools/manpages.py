#!/usr/bin/python3
"""Makes the manual pages: the text in deploy/man/*.md, with what programs and documents already say pulled in.

  tools/manpages.py --bin FOLDER-OF-PROGRAMS --version V --out FOLDER

A page is deploy/man/NAME.SECTION.md. Lines of their own that begin with "@" are replaced:
  @help PROGRAM [COMMAND …]   what its --help says: synopsis, arguments, options, examples
  @commands PROGRAM           the same for every command of the program, with all below it
  @table FILE [HEADING]       the first table of a document (below that heading)
  @document FILE              a document without its title
So a page cannot say other than the program and the reference do.
"""
import argparse
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIST_SECTIONS = ("Positionals", "Options", "Subcommands")


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")
    text = text.replace("~", "\\(ti")
    return "\\&" + text if text[:1] in (".",) else text


def inline(text):
    """Markdown within a line: `code` and **bold** as bold, *stress* as italic, links as their text."""
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text.replace("\\|", "|"))
    out = []
    for part in re.split(r"(``.+?``|`[^`]+`|\*\*[^*]+\*\*|(?<![\w*])\*[^*\s][^*]*\*(?![\w*]))", text):
        if part.startswith("`"):
            out.append(f"\\fB{escape(part.strip('`').strip())}\\fR")
        elif part.startswith("**") and len(part) > 4:
            out.append(f"\\fB{escape(part[2:-2])}\\fR")
        elif part.startswith("*") and len(part) > 2:
            out.append(f"\\fI{escape(part[1:-1])}\\fR")
        elif part:
            out.append(escape(part))
    joined = "".join(out)
    return "\\&" + joined if joined[:1] in (".", "'") else joined


def preformatted(lines):
    return [".PP", ".in +4n", ".nf", *(escape(line) for line in lines), ".fi", ".in", ".PP"]


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def table(lines):
    """Each row a paragraph: the first column as its tag, the others behind the names of their columns."""
    head, rows = cells(lines[0]), [cells(line) for line in lines[2:]]
    out = []
    for row in rows:
        out += [".TP", inline(row[0]) or "\\&"]
        rest = [(name, cell) for name, cell in zip(head[1:], row[1:]) if cell]
        if len(head) == 2:
            out.append(inline(rest[0][1]) if rest else "\\&")
        else:
            out.append(inline("; ".join(f"{name}: {cell}" if name else cell for name, cell in rest)) or "\\&")
    return out + [".PP"]


def markdown(lines):
    out, i = [], 0
    while i < len(lines):
        line = lines[i]
        if line.startswith("```"):
            end = lines.index("```", i + 1)
            out += preformatted(lines[i + 1:end])
            i = end + 1
        elif line.startswith("#"):
            level, _, title = line.partition(" ")
            out.append((".SH " if len(level) < 3 else ".SS ") + inline(title.upper() if len(level) < 3 else title))
            i += 1
        elif line.startswith("|"):
            end = next((n for n in range(i, len(lines)) if not lines[n].startswith("|")), len(lines))
            out += table(lines[i:end])
            i = end
        elif re.match(r"(-|\d+\.) ", line):
            mark, _, text = line.partition(" ")
            i += 1
            while i < len(lines) and lines[i].startswith("  ") and lines[i].strip():
                text += " " + lines[i].strip()
                i += 1
            out += [".IP " + ("\\(bu" if mark == "-" else mark) + " 4", inline(text)]
        elif not line.strip() or line.startswith("<!--"):
            i += 1
        elif line.startswith(": "):
            out += [".TP", inline(line[2:])]
            i += 1
        else:
            text = []
            while i < len(lines) and lines[i].strip() and not re.match(r"```|#|\||: |- |\d+\. |<!--", lines[i]):
                text.append(lines[i].strip())
                i += 1
            follows_tag = len(out) > 1 and out[-2] == ".TP"
            out += ([] if follows_tag else [".PP"]) + [inline(" ".join(text))]
    return out


class Programs:
    def __init__(self, folder):
        self.folder = folder

    def help(self, program, path=()):
        command = [os.path.join(self.folder, program), *path, "--help"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
        if done.returncode != 0:
            raise SystemExit(f"manpages: {' '.join(command)}: exit {done.returncode}\n{done.stdout}")
        return Help(done.stdout)

    def commands(self, program, path=()):
        """(path, Help) of every command below, in the order of the help."""
        for names, _ in self.help(program, path).sections.get("Subcommands", []):
            below = (*path, names.split(",")[0])  # its aliases stand behind it
            yield below, self.help(program, below)
            yield from self.commands(program, below)


class Help:
    """What a program's --help says: about, usage, sections (lists of what it names and its text), and the lines behind."""

    def __init__(self, text):
        self.about, self.usage, self.sections, self.footer = [], "", {}, []
        section = None
        for line in text.splitlines():
            title = re.fullmatch(r"(\w+):", line)
            item = re.match(r"  (\S.*?)(?:  +(\S.*))?$", line)
            if line.startswith("Usage:"):
                self.usage = line[len("Usage:"):].strip()
            elif not self.usage:
                self.about += [line.strip()] if line.strip() else []
            elif title and title.group(1) in LIST_SECTIONS and not self.footer:
                section = self.sections.setdefault(title.group(1), [])
            elif section is not None and item and line[2] != " ":
                section.append((item.group(1), item.group(2) or ""))
            elif section and line.startswith("      "):
                section[-1] = (section[-1][0], f"{section[-1][1]} {line.strip()}".strip())
            elif line.strip() or self.footer:
                section = None
                self.footer.append(line)
            else:
                section = None
        while self.footer and not self.footer[-1]:
            self.footer.pop()

    def roff(self):
        out = [".PP", f"\\fB{escape(self.usage)}\\fR", ".PP", inline(" ".join(self.about))]
        for title in ("Positionals", "Options"):
            for name, text in self.sections.get(title, []):
                if not name.startswith("-h,"):
                    out += [".TP", f"\\fB{escape(name)}\\fR", inline(text) or "\\&"]
        # The keys of a spec fill a page of their own.
        footer = "\n".join(self.footer)
        footer = re.sub(r"^Keys of the spec.*?:\n(?:\S.*\n|  +.*\n)+", "The keys of a spec: holdfast-volume-spec(7).\n", footer, flags=re.M)
        return out + (preformatted(footer.splitlines()) if footer else [])


def read_lines(file):
    with open(os.path.join(ROOT, file), encoding="utf-8") as stream:
        return stream.read().splitlines()


def first_table(file, heading):
    lines = read_lines(file)
    start = next(i for i, line in enumerate(lines) if line.strip("# ") == heading) if heading else 0
    first = next(i for i in range(start, len(lines)) if lines[i].startswith("|"))
    end = next((n for n in range(first, len(lines)) if not lines[n].startswith("|")), len(lines))
    return table(lines[first:end])


def expand(directive, programs):
    word, *rest = directive[1:].split(" ")
    if word == "help":
        return programs.help(rest[0], tuple(rest[1:])).roff()
    if word == "commands":
        out = []
        for path, said in programs.commands(rest[0]):
            if "Subcommands" not in said.sections:
                out += [".SS " + escape(" ".join((rest[0], *path))), *said.roff()]
        return out
    if word == "table":
        return first_table(rest[0], " ".join(rest[1:]))
    if word == "document":
        return markdown(read_lines(rest[0])[1:])
    raise SystemExit(f"manpages: unknown directive {directive}")


def page(name, section, lines, programs, version):
    out = [f'.\\" Made by tools/manpages.py from deploy/man/{name}.{section}.md: change that, or the program\'s own help.',
           f'.TH {name.upper()} {section} "" "holdfast {version}" "Holdfast"', ".nh", ".ad l"]
    block = []
    for line in lines:
        if line.startswith("@"):
            out += markdown(block) + expand(line, programs)
            block = []
        else:
            block.append(line)
    return "\n".join(out + markdown(block)) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    programs = Programs(arguments.bin)
    os.makedirs(arguments.out, exist_ok=True)
    folder = os.path.join("deploy", "man")
    for file in sorted(os.listdir(os.path.join(ROOT, folder))):
        name, section, _ = file.rsplit(".", 2)
        text = page(name, section, read_lines(os.path.join(folder, file)), programs, arguments.version)
        with open(os.path.join(arguments.out, f"{name}.{section}"), "w", encoding="utf-8") as stream:
            stream.write(text)


if __name__ == "__main__":
    sys.exit(main())
