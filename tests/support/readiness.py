"""Wait until an API process is ready."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx2
from tests.support.service import BASE_PATH

READY_SECONDS = 60.0


async def until_ready(port: int, output: list[tuple[str, str]]) -> None:
    url = f"http://127.0.0.1:{port}{BASE_PATH}/health/ready"
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    with suppress(httpx2.TransportError):
                        if (await client.get(url)).is_success:
                            return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(output) from None
