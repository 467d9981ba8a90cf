"""How much is measured: enough for steady figures, or just enough to see that all of it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int  # of a value and its limit in turns
    accepts: int  # requests of one client a round
    accepts_busy: int  # requests of one client while the worker is busy
    backlog: int  # blocks the busy worker has before it
    loads: int  # requests of the 64 clients a round
    jobs: int  # blocks a round of the worker
    concurrencies: tuple[int, ...]  # other than the default
    pickups: int  # single blocks for an idle worker
    searched: int  # blocks in the scope that is asked
    foreign: int  # blocks of other users
    questions: int  # a round of search


FULL = Sizes(
    rounds=5,
    accepts=150,
    accepts_busy=600,
    backlog=6_000,
    loads=2_000,
    jobs=600,
    concurrencies=(16, 32),
    pickups=200,
    searched=10_000,
    foreign=50_000,
    questions=40,
)
SHORT = Sizes(
    rounds=2,
    accepts=20,
    accepts_busy=20,
    backlog=600,
    loads=200,
    jobs=60,
    concurrencies=(),
    pickups=10,
    searched=400,
    foreign=400,
    questions=5,
)
