"""A Dockerfile as far as tests need it: stages of instructions, and its RUN lines done by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Instruction: TypeAlias = tuple[str, str]  # name, arguments


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """Its stages, first to last; the first instruction of each is its FROM."""

    stages: Sequence[Sequence[Instruction]]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
        lines = re.sub(r"\\\n\s*", "", text).splitlines()
        found = [line.split(None, 1) for line in lines if line.strip()]
        stages: list[list[Instruction]] = []
        for name, arguments in found:
            if name == "FROM":
                stages.append([])
            stages[-1].append((name, arguments))
        return cls(stages)

    @property
    def bases(self) -> list[str]:
        """The image each stage is made from."""
        return [stage[0][1].split()[0] for stage in self.stages]

    @property
    def build_stage(self) -> Sequence[Instruction]:
        return self.stages[0]

    @property
    def final_stage(self) -> Mapping[str, list[str]]:
        """Arguments by instruction."""
        found: dict[str, list[str]] = {}
        for name, arguments in self.stages[-1]:
            found.setdefault(name, []).append(arguments)
        return found

    @property
    def environment(self) -> dict[str, str]:
        """What the final image sets."""
        return environment_of(" ".join(self.final_stage.get("ENV", [])))

    @property
    def copied(self) -> set[str]:
        """What comes from the build's context."""
        copies = [rest.split() for name, rest in self.build_stage if name == "COPY"]
        return {source for parts in copies for source in parts[:-1]}


def environment_of(arguments: str) -> dict[str, str]:
    """NAME=value pairs of an ENV."""
    return dict(pair.split("=", 1) for pair in arguments.split())
