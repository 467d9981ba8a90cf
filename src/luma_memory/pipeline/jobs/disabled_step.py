"""Jobs of a disabled step: cancelled with the reason, so that none waits forever."""

from __future__ import annotations

from luma_memory.domain.job import Cancel, Job, Outcome


class DisabledStep:
    """Handler that cancels all jobs of a disabled type. A retry runs them again."""

    def __init__(self, variable: str) -> None:
        """variable: the setting that is false."""
        self._reason = f"{variable} is false"

    async def __call__(self, job: Job) -> Outcome:
        return Cancel(self._reason)
