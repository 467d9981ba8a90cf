"""`python -m tests.support.deadly_worker`: a worker that a DEADLY text ends, with its process.

Everything else is the worker's own: as with a model or a library that crashes on one input.
"""

from __future__ import annotations

import os

from luma_memory.domain.enrichment import Enrichment, EnrichmentRequest
from luma_memory.providers.completion import local
from luma_memory.worker.__main__ import main

MARKER = "DEADLY"
EXIT_CODE = 86


class DeadlyEnricher(local.LocalEnricher):
    """Without a word, a trace or a goodbye, as after a segmentation fault."""

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        if MARKER in request.content:
            os._exit(EXIT_CODE)
        return await super().enrich(request)


if __name__ == "__main__":
    vars(local)["LocalEnricher"] = DeadlyEnricher
    raise SystemExit(main())
