"""The HTTP entrance. `python -m luma_memory.api` serves it."""
