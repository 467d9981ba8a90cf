"""What a model expects before a text: "query: " and "passage: " for the models of the E5 family."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luma_memory.domain.errors import SetupError

PROMPTS_FILE: Final = "config_sentence_transformers.json"
_PASSAGE_KEYS: Final = ("passage", "document")


@dataclass(frozen=True, slots=True)
class Prompts:
    """The beginnings of the embedded texts; empty for most models."""

    query: str = ""
    passage: str = ""


NO_PROMPTS: Final = Prompts()


def read_prompts(folder: Path) -> Prompts:
    """The prompts `query` and `passage` (or `document`) of a sentence-transformers folder.

    Raises SetupError if the file is invalid.
    """
    path = folder / PROMPTS_FILE
    if not path.is_file():
        return NO_PROMPTS
    try:
        named = json.loads(path.read_text("utf-8")).get("prompts") or {}
        passage = next((named[key] for key in _PASSAGE_KEYS if named.get(key)), "")
        query = named.get("query") or ""
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise SetupError(f"The prompts in {path} cannot be used: {error!r}.") from error
    if not (isinstance(query, str) and isinstance(passage, str)):
        raise SetupError(f"The prompts in {path} cannot be used: they must be strings.")
    return Prompts(query, passage)
