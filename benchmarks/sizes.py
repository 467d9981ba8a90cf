"""How much is measured: enough for steady figures, or just enough to see that all of it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int  # of a value and its limit in turns
    accepts: int  # requests of one client a round
    imported: int  # blocks a round of an import
    accepts_busy: int  # requests of one client while the worker is busy
    backlog: int  # blocks the busy worker has before it
    loads: int  # requests of the 64 clients a round
    jobs: int  # blocks a round of the worker
    concurrencies: tuple[int, ...]  # other than the default
    provider_waves: int  # blocks a round with a model provider: so many times the jobs at once
    pickups: int  # single blocks for an idle worker
    searched: int  # blocks in the searched scope
    foreign: int  # blocks of other users
    questions: int  # a round of search
    reembedded: int  # blocks whose embedding model changes
    scale_template: int  # blocks that are stored one by one, and in each of many users
    scale_users: tuple[int, int]  # with so many blocks each: few, then many
    scale_copies: tuple[int, ...]  # scopes of so many times as many blocks
    scale_questions: int  # of one client; 16 take twice as many
    snapshot_scopes: tuple[int, ...]  # blocks, the smallest first
    context_blocks: int  # of the user whose contexts are requested
    context_reads: int  # cached contexts of one client a round
    replayed: int  # requests of a replayed workload
    hanging_requests: int  # of each kind, with Redis hanging and without
    queue_jobs: int  # a round of jobs that do nothing
    queue_enqueues: int  # a round of single jobs; as many calls a tenth of it for many at once
    queue_pickups: int  # single jobs for an idle worker, each queue
    queue_depths: tuple[int, ...]  # jobs that wait behind those claimed
    queue_claims: int  # each queue, depth and batch size
    queue_completed: int  # jobs behind the statistics
    compared_items: tuple[int, int]  # in stores beside others', in hundreds
    list_users: tuple[int, int]  # few, then many, with ten blocks each
    list_reads: int  # pages of each list
    partitions: tuple[int, ...]  # beside one
    idle_seconds: float  # of a worker without jobs
    replica_scopes: tuple[int, ...]  # blocks, searched with a replica and without


FULL = Sizes(
    rounds=5,
    accepts=150,
    imported=15_000,
    accepts_busy=600,
    backlog=6_000,
    loads=2_000,
    jobs=2_400,
    concurrencies=(16, 128),
    provider_waves=60,
    pickups=200,
    searched=10_000,
    foreign=50_000,
    questions=40,
    reembedded=100_000,
    scale_template=1_000,
    scale_users=(10, 1_000),
    scale_copies=(10, 100),
    scale_questions=100,
    snapshot_scopes=(1_000, 10_048, 100_000),
    context_blocks=1_000,
    context_reads=300,
    replayed=1_500,
    hanging_requests=400,
    queue_jobs=20_000,
    queue_enqueues=100,
    queue_pickups=200,
    queue_depths=(50_000, 1_000_000),
    queue_claims=500,
    queue_completed=10_000_000,
    compared_items=(1_000, 10_000),
    list_users=(100, 10_000),
    list_reads=200,
    partitions=(8, 64),
    idle_seconds=30.0,
    replica_scopes=(1_000, 10_000),
)
SHORT = Sizes(
    rounds=1,
    accepts=20,
    imported=1_500,
    accepts_busy=20,
    backlog=600,
    loads=200,
    jobs=60,
    concurrencies=(128,),
    provider_waves=3,
    pickups=10,
    searched=400,
    foreign=400,
    questions=5,
    reembedded=240,
    scale_template=100,
    scale_users=(2, 6),
    scale_copies=(4,),
    scale_questions=4,
    snapshot_scopes=(300, 700),
    context_blocks=60,
    context_reads=10,
    replayed=60,
    hanging_requests=10,
    queue_jobs=1_000,
    queue_enqueues=20,
    queue_pickups=10,
    queue_depths=(5_000, 20_000),
    queue_claims=20,
    queue_completed=100_000,
    compared_items=(100, 200),
    list_users=(60, 300),
    list_reads=20,
    partitions=(2, 3),
    idle_seconds=2.0,
    replica_scopes=(200,),
)
