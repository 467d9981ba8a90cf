"""How each repository is routed: one rule for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from luma_memory.partitions import events, jobs, lists, models, webhooks
from luma_memory.partitions.places import Places
from luma_memory.partitions.router import Routed
from luma_memory.partitions.rules import (
    RoutedStore,
    Rule,
    at_home,
    by_items,
    by_job,
    by_job_results,
    by_scope,
    merged,
    pages_of_scope,
)
from luma_memory.postgres.database import Database
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.producer import PostgresJobProducer
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.store.archive import PostgresArchive
from luma_memory.store.backfill import PostgresBackfillStore
from luma_memory.store.block_lists import PostgresBlockLists
from luma_memory.store.block_selections import PostgresBlockSelections
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.edits import PostgresBlockEditor
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.events import PostgresEventStore
from luma_memory.store.items import PostgresItemStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.responses import PostgresResponseStore
from luma_memory.store.scope_versions import PostgresScopeVersions
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.store.summaries import PostgresSummaryStore
from luma_memory.store.usage import PostgresUsageStore
from luma_memory.store.user_lists import PostgresUserLists
from luma_memory.store.users import PostgresUserStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.store.webhooks import PostgresWebhookStore
from luma_memory.store.windows import PostgresWindowStore

StoreT = TypeVar("StoreT")
_READ: Final = by_scope(writes=False)
_WRITE: Final = by_scope(writes=True)
_KEYS: Final = by_items(lambda key: key[0], writes=False)

RULES: Final[Mapping[type, Mapping[str, Rule]]] = {
    PostgresArchive: {
        "rows": pages_of_scope,
        "store": _WRITE,
        "dimension": _READ,
        "kinds": at_home,
    },
    PostgresBackfillStore: {
        "enqueue_due": merged(models.enqueue_backfill),
        "request": merged(models.request_backfill),
        "pending_counts": merged(models.count_backfill),
    },
    PostgresBlockEditor: {"edit": _WRITE, "delete": _WRITE, "revisions": _READ},
    PostgresBlockLists: {
        "find": merged(lists.find_blocks),
        "page": merged(lists.page_of_choice),
        "ids": merged(lists.ids_of_choice),
        "ids_of_group": merged(lists.ids_of_group),
        "replaced_by": _READ,
        "groups": merged(lists.groups),
        "delete": _WRITE,
    },
    PostgresBlockSelections: {
        "page": merged(lists.page_of_selection),
        "chosen": merged(lists.chosen),
        "delete": _WRITE,
    },
    PostgresBlockStore: {
        "ingest": by_items(lambda item: item.block.scope, writes=True, inserts=True),
        "locked_scopes": merged(models.locked_scopes),
        "read": _KEYS,
        "read_to_enrich": _KEYS,
        "keep": by_job,
        "embedded_ordinals": _READ,
        "store_vectors": _WRITE,
        "write_back": by_job_results(lambda result: result.job),
    },
    PostgresEraserStore: {
        "sweep_jobs": _WRITE,
        "erase": merged(models.erase),
        "find": merged(models.find_erasure),
        "remains": merged(models.remains),
        "revoke_keys": at_home,
        "count_keys": _WRITE,
    },
    PostgresEventStore: {
        "subscribe": merged(events.subscribe),
        "end": merged(events.end),
        "events": merged(events.events),
    },
    PostgresItemStore: {
        "write": by_items(lambda request: request.scope, writes=True),
        # Reading may begin the time to live anew.
        "read": _WRITE,
        "read_by_id": _WRITE,
        "page": _WRITE,
        "namespaces": _READ,
    },
    PostgresJobControl: {
        "page": merged(jobs.page_of_jobs),
        "count": merged(jobs.count_jobs),
        "retry": merged(jobs.retry_jobs),
        "cancel": merged(jobs.cancel_jobs),
        "clear_pending": merged(jobs.clear_pending),
        "enqueue_waiting": merged(jobs.enqueue_waiting),
        "count_waiting": merged(jobs.count_waiting),
        "pause": merged(jobs.pause),
        "resume": merged(jobs.resume),
    },
    PostgresJobProducer: {"enqueue": merged(jobs.enqueue)},
    PostgresQueueUpkeep: {
        "prune": merged(jobs.prune),
        "schedule_weekly_summaries": merged(jobs.schedule),
    },
    PostgresRelationStore: {
        "candidates": _READ,
        "admit": by_job,
        "store": by_job,
        "decide": _WRITE,
        "page": _READ,
        "enqueue_page": merged(models.enqueue_relations),
        "links": _READ,
    },
    PostgresResponseStore: {"once": _WRITE},
    PostgresScopeVersions: {"state": _READ},
    PostgresSearchStore: {"scan": _READ, "own_speaker": _READ},
    PostgresSnapshotStore: {
        "look_up": _READ,
        "page": _READ,
        "erased": merged(models.erased_scopes),
    },
    PostgresSummaryStore: {"read_week": _READ, "store": _WRITE, "of_week": _READ, "page": _READ},
    PostgresUsageStore: {
        "add": merged(models.add_usage),
        "spent": _KEYS,
        "lines": merged(models.usage_lines),
    },
    PostgresUserLists: {"page": merged(lists.page_of_users), "sessions": _READ, "terms": _READ},
    PostgresUserStore: {"read": _READ, "set_time_zone": _WRITE},
    PostgresVectorModels: {
        "register": merged(models.register_model),
        "in_use": merged(models.models_in_use),
        "of_scope": _READ,
        "calibration": at_home,
        "store_calibration": at_home,
        "request": merged(models.request_model),
        "requested": at_home,
        "enqueue": merged(models.enqueue_reembeds),
        "stale": _READ,
        "put": _WRITE,
        "switch": _WRITE,
        "progress": merged(models.reembed_progress),
    },
    PostgresWebhookStore: {
        "create": merged(webhooks.create),
        "list": merged(webhooks.listed),
        "find": merged(webhooks.find),
        "change": merged(webhooks.change),
        "delete": merged(webhooks.delete),
        "deliveries": merged(webhooks.deliveries),
        "delivery": merged(webhooks.delivery),
        "add_test": merged(webhooks.add_test),
        "replay": merged(webhooks.replay),
        "definitions": at_home,
        "take_definitions": at_home,
    },
    PostgresWindowStore: {"turns": _READ, "sessions": _READ, "store": _WRITE},
}


def one_of_all(
    places: Places,
    make: Callable[[Database], StoreT],
    *,
    over: Callable[[Database], StoreT] | None = None,
) -> StoreT:
    """A repository that stands for one in every partition. make: makes it for a partition.

    over: makes what stands for the repository of a partition; None for the repository itself.
    """
    rules = RULES[type(make(places.home))]
    return cast("StoreT", RoutedStore(Routed(places, stores_of_all(places, over or make)), rules))


def stores_of_all(places: Places, make: Callable[[Database], StoreT]) -> Sequence[StoreT]:
    """A repository in each partition, in their order."""
    made: Sequence[Any] = [make(place.database) for place in places.all]
    return made
