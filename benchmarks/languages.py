"""Retrieval and relevance in twelve languages, over made-up notes (`languages.tsv`).

    python -m benchmarks.languages write languages.json
    luma-memory eval languages.json --no-compare --json figures.json
    python -m benchmarks.languages table figures.json

Each language is a conversation: 20 notes of one user, 20 questions about them and 10 that no note
answers. docs/recall.md shows the table for both local models.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

NOTES: Final = Path(__file__).with_name("languages.tsv")
DAY: Final = "2026-03-02T09:00:00"


class Line(NamedTuple):
    """A question, and the note that answers it, if there is one."""

    language: str
    note: str
    question: str


def lines() -> Sequence[Line]:
    """The lines of the file."""
    text = NOTES.read_text(encoding="utf-8")
    return [
        Line(*line.split("\t")) for line in text.splitlines() if line and not line.startswith("#")
    ]


def dataset() -> Mapping[str, Any]:
    """The notes in the format memory-retrieval/1."""
    by_language: dict[str, list[Line]] = defaultdict(list)
    for line in lines():
        by_language[line.language].append(line)
    return {
        "format": "memory-retrieval/1",
        "name": "languages",
        "conversations": [_conversation(language, some) for language, some in by_language.items()],
    }


def _conversation(language: str, some: Sequence[Line]) -> Mapping[str, Any]:
    return {
        "id": language,
        "speakers": ["user"],
        "items": [
            # A session each: the notes do not belong together.
            {
                "id": f"{language}{number}",
                "session": f"{language}{number}",
                "speaker": "user",
                "text": line.note,
                "time": DAY,
            }
            for number, line in enumerate(some)
            if line.note
        ],
        "queries": [
            {
                "id": f"{language}:{number}",
                "text": line.question,
                "category": language,
                "group": "main" if line.note else "unanswerable",
                "evidence": [f"{language}{number}"] if line.note else [],
            }
            for number, line in enumerate(some)
        ],
    }


def table(figures: Mapping[str, Any]) -> str:
    """Per language: shares found first and among three, and called relevant, of both kinds."""
    rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for query in figures["queries"]:
        rows[query["conversation"]].append(query)
        rows["all"].append(query)
    shown = [
        "| | first | among three | relevant | unanswerable: relevant |",
        "|---|---|---|---|---|",
    ]
    for language in sorted(rows, key=lambda name: (name == "all", name)):
        answerable = [query for query in rows[language] if query["evidence"]]
        others = [query for query in rows[language] if not query["evidence"]]
        shares = (
            _share([query["evidence"][0] in query["ranking"][:1] for query in answerable]),
            _share([query["evidence"][0] in query["ranking"][:3] for query in answerable]),
            _share([query["relevant"] for query in answerable]),
            _share([query["relevant"] for query in others]),
        )
        shown.append(f"| {language} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    return "\n".join(shown)


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)


def main(arguments: Sequence[str]) -> None:
    what, path = arguments
    if what == "write":
        Path(path).write_text(json.dumps(dataset(), ensure_ascii=False, indent=1), encoding="utf-8")
    elif what == "table":
        print(table(json.loads(Path(path).read_text(encoding="utf-8"))))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
