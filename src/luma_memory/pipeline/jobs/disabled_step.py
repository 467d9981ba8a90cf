"""Jobs of a step that is switched off: ended with the reason, so that none waits for ever."""

from __future__ import annotations

from luma_memory.domain.job import Cancel, Job, Outcome


class DisabledStep:
    """Handler of a job type nobody works on here. What is cancelled runs again when retried."""

    def __init__(self, variable: str) -> None:
        """variable: the setting that is false."""
        self._reason = f"{variable} is false"

    async def __call__(self, job: Job) -> Outcome:
        return Cancel(self._reason)
