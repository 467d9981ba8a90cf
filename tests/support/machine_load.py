"""Time limits of tests on a machine that is busy with other work."""

from __future__ import annotations

import os


def within(seconds: float) -> float:
    """A limit that holds on an idle machine, extended by how many processes wait for each core.

    For promises about time that only a real clock shows. The figures themselves are measured by
    `make bench`.
    """
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * (1.0 + waiting)
