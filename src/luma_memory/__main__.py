"""The command `luma-memory`, also as `python -m luma_memory`."""

from __future__ import annotations

import sys

from luma_memory.domain.extras import missing_extra


def main() -> None:
    """Without the server's packages there are no commands, and one sentence says so."""
    try:
        from luma_memory.cli.main import main as run
    except ModuleNotFoundError as error:
        sys.stderr.write(f"luma-memory: {missing_extra(error)}\n")
        raise SystemExit(1) from None
    run()


if __name__ == "__main__":
    main()
