"""Build the web console, or check that the committed files belong to their sources.

Usage: python -m tools.console_bundle [--check]

Building runs Vite, which needs Node.js. The check needs only Python: it compares the hashes of the
sources and of the built files with those recorded in `static/sources.json`.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CONSOLE: Final = ROOT / "console"
STATIC: Final = ROOT / "src" / "luma_memory" / "console" / "static"
RECORD: Final = STATIC / "sources.json"
COMMAND: Final = "make console"
COMPRESSED_BYTES_MAX: Final = 350_000
_FILES: Final = ("index.html", "package-lock.json", "svelte.config.js", "vite.config.js")
# Types only: nothing of it is in the bundle.
_WITHOUT_CODE: Final = ("openapi.ts", "types.ts")


def sources() -> Iterator[Path]:
    """What the bundle is built from."""
    yield from (CONSOLE / name for name in _FILES)
    yield from (file for file in (CONSOLE / "src").rglob("*") if file.is_file())
    sdk = ROOT / "sdk" / "typescript" / "src"
    yield from (file for file in sdk.glob("*.ts") if file.name not in _WITHOUT_CODE)


def built() -> Iterator[Path]:
    yield from (file for file in STATIC.rglob("*") if file.is_file() and file != RECORD)


def digest(files: Iterator[Path]) -> str:
    """Of names and contents, independent of the system's line ends."""
    found = sha256()
    for file in sorted(files):
        content = file.read_bytes().replace(b"\r\n", b"\n")
        found.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def record() -> Mapping[str, str]:
    return {"sources": digest(sources()), "files": digest(built())}


def compressed_bytes() -> int:
    """What a browser loads if it opens every page."""
    return sum(len(gzip.compress(file.read_bytes(), 9)) for file in built())


def check() -> str | None:
    """What is wrong with the committed files; None if nothing is."""
    if not RECORD.is_file() or json.loads(RECORD.read_text("utf-8")) != record():
        return f"the built console is outdated: run `{COMMAND}` (needs Node.js)"
    if (size := compressed_bytes()) > COMPRESSED_BYTES_MAX:
        return f"the console has {size} bytes compressed, at most {COMPRESSED_BYTES_MAX}"
    return None


def main(arguments: list[str]) -> int:
    if arguments != ["--check"]:
        subprocess.run(["npm", "run", "--silent", "build"], cwd=CONSOLE, check=True)
        RECORD.write_text(json.dumps(record(), indent=2) + "\n", "utf-8")
        print(f"built {STATIC.relative_to(ROOT)}: {compressed_bytes()} bytes compressed")
    if (wrong := check()) is not None:
        print(wrong)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
