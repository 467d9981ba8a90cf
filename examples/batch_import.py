"""Import a JSON Lines file into a user's memory.

    .venv/bin/python examples/batch_import.py notes.jsonl --user ada

Each line is an object with `content` and, optionally, `occurred_at`, `speaker`, `session_id`,
`source`, `metadata`. Give each line an `id`: it becomes the block's `external_id`, so an
interrupted import can be repeated without storing anything twice. Invalid lines are reported with
their number and do not stop the import.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from luma_memory.client import LumaMemoryError, MemoryClient

PROGRESS_EVERY = 500


def blocks(lines: Iterator[str], *, user_id: str) -> Iterator[Mapping[str, Any]]:
    """One block per line, in order. The service validates the fields."""
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:
            fields = {}
        if not isinstance(fields, dict):
            fields = {}
        external_id = fields.pop("id", None)
        if external_id is not None:
            fields["external_id"] = str(external_id)
        # Without content the service rejects this block alone, and it is reported below.
        yield {"content": "", "source": "import", **fields, "user_id": user_id}


def import_file(memory: MemoryClient, path: Path, *, user_id: str) -> int:
    """Returns the number of lines that were not stored."""
    stored = rejected = 0
    with path.open(encoding="utf-8") as file:
        outcomes = memory.ingest_many(blocks(file, user_id=user_id))
        for number, outcome in enumerate(outcomes, start=1):
            if outcome.error is None:
                stored += 1
            else:
                rejected += 1
                print(f"line {number}: {outcome.error.code}", file=sys.stderr)
            if number % PROGRESS_EVERY == 0:
                print(f"{number} lines", file=sys.stderr)
    print(f"stored {stored} blocks, rejected {rejected} lines")
    return rejected


def main() -> int:
    parser = argparse.ArgumentParser(description="Import a JSON Lines file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--user", required=True, help="whose memory to fill")
    arguments = parser.parse_args()
    url = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")
    try:
        with MemoryClient(url, api_key=os.environ.get("MEMORY_API_KEY")) as memory:
            return 1 if import_file(memory, arguments.file, user_id=arguments.user) else 0
    except OSError as error:
        print(f"Cannot read {arguments.file}: {error.strerror}", file=sys.stderr)
    except LumaMemoryError as error:
        print(f"The import stopped: {error} ({error.code})", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
