"""Check wording against the glossary in tools/wording.toml.

Usage: python tools/wording.py [--counts] [PATH...]

Fails on every avoided word in the tracked files, or in those below the paths; file names count too.
With --counts: prints the number of findings per package and per term instead of each finding.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "tools" / "wording.toml"
SUFFIXES = (".py", ".md", ".sql", ".sh", ".toml", ".yaml", ".yml", ".ts", ".svelte", ".example")
NAMES = ("Makefile", "Dockerfile", "Dockerfile.worker", "Procfile", "run")
# Between two words of a term: a space, a line break in a comment or a docstring, `_` or `-`.
SPACE = r"[\s_-]+"
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
# By suffix, what holds prose. In other files everything is prose.
_LITERALS = {
    ".py": re.compile(
        r"""#[^\n]*"""
        r"""|[rbfuRBFU]{0,2}(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}"""
        r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
        re.DOTALL,
    ),
    ".sql": re.compile(r"--[^\n]*|'(?:[^']|'')*'"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One avoided word. text: as found; use: what to write instead."""

    path: str
    line: int
    text: str
    use: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text!r}: use {self.use}"


@dataclass(frozen=True)
class Glossary:
    terms: Sequence[dict[str, str]]
    exceptions: Sequence[dict[str, str]]
    skipped: Sequence[str]
    strings_are_data: Sequence[str]

    @classmethod
    def load(cls, file: Path = GLOSSARY) -> Glossary:
        read = tomllib.loads(file.read_text("utf-8"))
        return cls(
            read["term"],
            read.get("exception", ()),
            read["skipped"],
            read["strings_are_data"],
        )

    @cached_property
    def prose(self) -> re.Pattern[str]:
        return self._pattern("prose")

    @cached_property
    def identifiers(self) -> re.Pattern[str]:
        return self._pattern("identifiers")

    def _pattern(self, kind: str) -> re.Pattern[str]:
        """One group a term, `t` and its index. For lower-case text, which `re` scans far faster."""
        terms = [
            f"(?P<t{index}>{term['avoid'].replace(' ', SPACE).lower()})"
            for index, term in enumerate(self.terms)
            if term.get("in", kind) == kind
        ]
        return re.compile(rf"(?<![a-z])(?:{'|'.join(terms)})(?![a-z])")

    def findings(self, path: str, text: str) -> list[Finding]:
        """What to avoid in one file, by line; its name counts as line 1."""
        named = self._found(path, self.identifiers, _CAMEL_CASE.sub("_", path))
        return named + self._findings_in(path, text)

    def _findings_in(self, path: str, text: str) -> list[Finding]:
        literal = _LITERALS.get(Path(path).suffix)
        if literal is None:
            return self._found(path, self.prose, text)
        parts = Parts(text, literal, strings_are_data=is_below(path, self.strings_are_data))
        found = self._found(path, self.prose, parts.prose)
        found += self._found(path, self.identifiers, _CAMEL_CASE.sub("_", parts.code))
        return sorted(found, key=lambda finding: finding.line)

    def _found(self, path: str, pattern: re.Pattern[str], text: str) -> list[Finding]:
        found = []
        for match in pattern.finditer(text.lower()):
            term = self.terms[int(str(match.lastgroup)[1:])]
            matched = " ".join(match[0].split())
            if not self._is_excepted(path, matched):
                line = 1 + text.count("\n", 0, match.start())
                found.append(Finding(path, line, matched, term["use"]))
        return found

    def _is_excepted(self, path: str, matched: str) -> bool:
        return any(
            is_below(path, [exception["path"]]) and re.fullmatch(exception["avoid"], matched)
            for exception in self.exceptions
        )


class Parts:
    """A source file taken apart; both texts keep its lines.

    prose: comments and string literals (of strings only docstrings if strings_are_data).
    code: the rest, in which every word is an identifier or a keyword.
    """

    def __init__(self, text: str, literal: re.Pattern[str], *, strings_are_data: bool) -> None:
        prose, code, end = [], [], 0
        for match in literal.finditer(text):
            before, found = text[end : match.start()], match[0]
            is_comment = found.startswith(("#", "--"))
            is_prose = is_comment or not strings_are_data or _is_docstring(match)
            code += [before, _blank(found)]
            prose += [_blank(before), found.lstrip("#-") if is_prose else _blank(found)]
            end = match.end()
        self.prose = "".join(prose)
        self.code = "".join(code) + text[end:]


def _blank(text: str) -> str:
    """As many lines; a mark where a term must not match across what was there."""
    return text if text.isspace() else "|" + "\n" * text.count("\n")


def _is_docstring(literal: re.Match[str]) -> bool:
    before = literal.string[: literal.start()]
    return '"""' in literal[0] and not before.rstrip().endswith(("(", ",", "=", "[", "{"))


def is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def tracked_files() -> Iterator[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for path in listed.splitlines():
        if path.endswith(SUFFIXES) or path.rsplit("/", 1)[-1] in NAMES:
            yield path


def check(glossary: Glossary, folders: Sequence[str] | None = None) -> list[Finding]:
    """folders: None for the whole tree."""
    found = []
    for path in tracked_files():
        is_included = folders is None or is_below(path, folders)
        file = ROOT / path
        if is_included and not is_below(path, glossary.skipped) and file.is_file():
            found += glossary.findings(path, file.read_text("utf-8"))
    return found


def package(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[:3] if path.startswith("src/") else parts[:1])


def print_counts(found: Sequence[Finding]) -> None:
    by_package = Counter(package(finding.path) for finding in found)
    by_text = Counter(finding.text.lower() for finding in found)
    for title, counts in (("package", by_package), ("wording", by_text)):
        print(f"\nby {title}")
        for name, count in counts.most_common(40):
            print(f"{count:6}  {name}")
    print(f"\n{len(found)} in total")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("paths", nargs="*", help="files or folders to check (default: all)")
    parser.add_argument("--counts", action="store_true", help="print counts, not each finding")
    arguments = parser.parse_args()
    paths = [path.rstrip("/") for path in arguments.paths]
    found = check(Glossary.load(), paths or None)
    if arguments.counts:
        print_counts(found)
    else:
        print(*found, sep="\n", end="\n" if found else "")
    if found:
        print(f"wording: {len(found)} to rewrite (glossary: tools/wording.toml)", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
