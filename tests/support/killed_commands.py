"""Commands that kill themselves at a named place."""

from __future__ import annotations

import asyncio
import sys

from tests.support.commands import clean_environment


async def output_of(program: str, *arguments: str, is_killed: bool) -> str | None:
    """What the Python program printed; None if it killed itself, which it must where it should."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments),
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == (-9 if is_killed else 0), errors.decode()
    return None if is_killed else output.decode()
