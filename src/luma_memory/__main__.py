"""The command `luma-memory`, also as `python -m luma_memory`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the server's packages, print which extra to install."""
    if len(sys.argv) == 3 and sys.argv[1] == "hook" and not sys.argv[2].startswith("-"):
        # A host waits for it: the other commands' imports alone take longer than it may.
        from luma_memory.cli.hook_events import run_hook

        run_hook(sys.argv[2])
    try:
        from luma_memory.cli.main import main as run
    except ModuleNotFoundError as error:
        from luma_memory.domain.extras import missing_extra

        sys.stderr.write(f"luma-memory: {missing_extra(error)}\n")
        raise SystemExit(1) from None
    run()


if __name__ == "__main__":
    main()
