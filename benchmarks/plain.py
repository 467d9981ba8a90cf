"""`python -m benchmarks.plain`: a worker that embeds passages as they are written.

`without_parts` also takes from a search what recall does besides: naming the user, taking "did you
recommend" as the assistant, calibrating for the language of a question. What is left is the limit
of what these parts cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from unittest.mock import patch

from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.calibration import Calibrations
from luma_memory.ports.models import Embedder
from luma_memory.worker.__main__ import main as work

# Set: an API process answers without these parts.
WITHOUT_PARTS: Final = "BENCHMARK_WITHOUT_PARTS"
_NEVER: Final = re.compile(r"(?!)")


def _as_written(text: str, _speaker: str | None) -> str:
    return text


async def _of_model(
    calibrations: Calibrations, embedder: Embedder, _script: str, _language: str | None
) -> Calibration:
    return await calibrations.of(embedder)


def _readable(_query: str, _language: str | None, _scripts: frozenset[str] | None) -> bool:
    return True


@contextmanager
def without_parts() -> Iterator[None]:
    """All that this process does meanwhile is without them."""
    with ExitStack() as stack:
        for patched in (
            patch("luma_memory.pipeline.ingest.indexing.with_name", _as_written),
            patch("luma_memory.pipeline.recall.recall.with_name", _as_written),
            patch("luma_memory.pipeline.recall.recall.is_readable", _readable),
            patch("luma_memory.pipeline.recall.speakers._MEANS_ASSISTANT", _NEVER),
            patch.object(Calibrations, "of_question", _of_model),
        ):
            stack.enter_context(patched)
        yield


def main() -> int:
    with without_parts():
        return work()


if __name__ == "__main__":
    raise SystemExit(main())
