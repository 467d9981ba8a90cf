"""Facts drawn from a text without a model: one pure file a subject, joined by `extract`."""

from luma_memory.providers.completion.extract.enrichment import extract

__all__ = ["extract"]
