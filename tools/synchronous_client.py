"""Generate src/luma_memory/client/synchronous from the asynchronous client.

Usage: python tools/synchronous_client.py [--check]

One source for two clients, because hand-written twins drift apart. Names are replaced, `async` and
`await` removed, and ruff formats the result.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "src" / "luma_memory" / "client"
SOURCE, TARGET = CLIENT / "asynchronous", CLIENT / "synchronous"
WORDS = {
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "AsyncClient": "Client",
    "AsyncMemoryClient": "MemoryClient",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
    "asynccontextmanager": "contextmanager",
    "asynchronous": "synchronous",
    "asyncio": "time",
}
INIT = '"""The client without asyncio. Generated from `asynchronous`: `make format`."""\n'
NOTE = "# Generated from {name} in `asynchronous`; change it there, then `make format`.\n\n"


def synchronous(source: str) -> str:
    """The same module without asyncio, not formatted yet."""
    tokens = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            word = "" if token.string in ("async", "await") else WORDS.get(token.string)
            token = token if word is None else token._replace(string=word)
        tokens.append(token)
    return re.sub(r"(?m)^((?:import \w+\n)+)", _once_each, _joined(tokens))


def _joined(tokens: list[tokenize.TokenInfo]) -> str:
    """The text, each token behind as much space as it had: positions do not hold any more."""
    text: list[str] = []
    row, column = 1, 0
    for token in tokens:
        if token.start[0] > row:
            row, column = token.start[0], 0
        if token.type not in (tokenize.INDENT, tokenize.DEDENT):
            is_behind_nothing = bool(text) and text[-1] == ""
            text += [" " * (0 if is_behind_nothing else token.start[1] - column), token.string]
            row, column = token.end
    return "".join(text)


def _once_each(imports: re.Match[str]) -> str:
    return "".join(dict.fromkeys(imports[0].splitlines(keepends=True)))


def formatted(source: str, name: str) -> str:
    ruff = str(Path(sys.executable).parent / "ruff")
    for command in (["check", "--fix-only"], ["format"]):
        ran = subprocess.run(
            [ruff, *command, "--quiet", "--stdin-filename", str(TARGET / name), "-"],
            input=source,
            capture_output=True,
            text=True,
            check=False,
        )
        if not ran.stdout:
            raise SystemExit(f"{name}: {ran.stderr}")
        source = ran.stdout
    return source


def modules() -> dict[str, str]:
    """Text by file name."""
    made = {"__init__.py": INIT}
    for file in sorted(SOURCE.glob("*.py")):
        if file.name != "__init__.py":
            note = NOTE.format(name=file.name)
            made[file.name] = note + formatted(synchronous(file.read_text("utf-8")), file.name)
    return made


def main(arguments: list[str]) -> int:
    expected = modules()
    found = {file.name: file.read_text("utf-8") for file in TARGET.glob("*.py")}
    if found == expected:
        return 0
    if "--check" in arguments:
        raise SystemExit("The synchronous client does not match its source: run `make format`")
    TARGET.mkdir(exist_ok=True)
    for name in found.keys() - expected.keys():
        (TARGET / name).unlink()
    for name, text in expected.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
