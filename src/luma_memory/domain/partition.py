"""Partitions: the installations that an installation's users are spread over.

A partition is a complete set of scope and queue tables with their functions, in one schema at one
address, so that a block and its job are committed together on one server. Partition 0 is the home
partition: the database of DATABASE_URL, which also holds keys, circuits and the directory of the
others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal

from luma_memory.domain.errors import Invalid
from luma_memory.domain.scope import Scope

HOME: Final = 0
PARTITIONS_MAX: Final = 1024
# A partition serves the users that the hash gives it; one that is paused serves reads, and writes
# wait; a prepared one has its schema, and no users; one that is being created may lack its schema.
# `adopting`: users arrive from the home partition one by one. `returning`: the opposite.
PartitionState = Literal["creating", "prepared", "adopting", "serving", "paused", "returning"]
# Where users are: all at home, each where the hash says, or in transit between the two.
Layout = Literal["home", "adopting", "spread", "returning"]
ACTIVE_STATES: Final[Collection[PartitionState]] = ("serving", "paused")
# Ids of jobs and deliveries have their partition above this bit: unique in the installation, and
# exact as numbers of JavaScript (1,024 partitions of 2^43 ids fill its 2^53).
ID_BITS: Final = 43
_PREFIX: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_HASH_BYTES: Final = 6


@dataclass(frozen=True, slots=True)
class Partition:
    """One line of the directory."""

    number: int
    schema: str
    dsn: str | None = field(repr=False)  # None: the address of the home partition
    state: PartitionState


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """What a partition holds, as far as its catalog knows without reading it."""

    rows: int  # of all tables; as of the last analysis
    bytes: int
    oldest_pending_seconds: float | None  # None: no job waits
    schema_current: bool
    users_leaving: int = 0  # who are still to be moved to another partition


@dataclass(frozen=True, slots=True)
class PartitionFault:
    """A partition whose users cannot be served, or not wholly."""

    number: int
    state: PartitionState
    reason: str | None  # None: writes are paused


def layout_of(partitions: Sequence[Partition]) -> Layout | None:
    """Of the directory; None if a partition is not complete."""
    states = {one.state for one in partitions[HOME + 1 :]}
    if "creating" in states:
        return None
    if "returning" in states:
        return "returning"
    if "adopting" in states:
        return "adopting"
    return "home" if not states or "prepared" in states else "spread"


def partition_number(scope: Scope, count: int) -> int:
    """The partition of a scope among `count` of them, always the same.

    The first six bytes of SHA-256 over project, a zero byte and user, both in UTF-8, as a number
    with the highest byte first, modulo the count. Not Python's `hash`, which differs between
    processes, and not PostgreSQL's, which may differ between versions.
    """
    if count == 1:
        return HOME
    digest = sha256(f"{scope.project_id}\0{scope.user_id}".encode()).digest()
    return int.from_bytes(digest[:_HASH_BYTES], "big") % count


def first_id(number: int) -> int:
    """The first id of jobs and of deliveries that are created in a partition."""
    return (number << ID_BITS) + 1


def created_in(row_id: int) -> int:
    """The partition in which a job or delivery was created; it may have been moved since."""
    return row_id >> ID_BITS


def schema_names(prefix: str, count: int) -> list[str]:
    """The schemas of partitions 1 to count - 1. Raises Invalid."""
    if not _PREFIX.fullmatch(prefix):
        raise Invalid(
            "A schema prefix has at most 40 lower-case letters, digits and _, and starts with a"
            " letter or _",
            field="schema_prefix",
        )
    if prefix.startswith("pg_"):
        raise Invalid("PostgreSQL reserves schemas that start with pg_", field="schema_prefix")
    if not 2 <= count <= PARTITIONS_MAX:
        raise Invalid(f"--count is from 2 to {PARTITIONS_MAX}", field="count")
    return [f"{prefix}{number}" for number in range(1, count)]
