"""Facts extracted from a text without a model: one module per subject, combined by `extract`."""

from luma_memory.providers.completion.extract.enrichment import extract

__all__ = ["extract"]
