"""`python -m luma_memory.cli`, the same as the command `luma-memory`."""

from __future__ import annotations

from luma_memory.__main__ import main

if __name__ == "__main__":
    main()
