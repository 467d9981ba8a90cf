"""Find work that was done twice."""

from __future__ import annotations

from collections import Counter

from tests.support.partitions import fetch_everywhere


async def enriched_more_than_once(dsn: str) -> list[str]:
    """Blocks with two enrichments: the second leaves the first as a revision."""
    revisions = await fetch_everywhere(dsn, "SELECT block_id FROM memory_block_revisions")
    jobs = await fetch_everywhere(
        dsn,
        "SELECT block_id FROM memory_jobs WHERE job_type = 'enrich_and_embed'"
        " AND status = 'completed'",
    )
    done = Counter(str(row["block_id"]) for row in jobs)
    twice = [block_id for block_id, count in done.items() if count > 1]
    return [str(row["block_id"]) for row in revisions] + twice
