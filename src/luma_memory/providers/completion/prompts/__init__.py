"""Prompts as files: one per task and version.

A version that was released is not edited: its name is stored with every result it made.
"""

from __future__ import annotations

from importlib.resources import files


def prompt_text(name: str) -> str:
    """The prompt of that name, for example "enrich_v1"."""
    return files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8").strip()
