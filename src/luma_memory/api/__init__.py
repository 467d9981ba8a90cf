"""The HTTP API. `python -m luma_memory.api` serves it."""
