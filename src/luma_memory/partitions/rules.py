"""How the methods of a repository are routed.

A rule makes a method for all partitions from the methods of the repositories of each. `stores` has
a table of rules, one for each method; a method without a rule does not exist, and a test finds it.
What a rule names itself is positional only: a method may have an option of the same name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from luma_memory.domain.errors import StoreUnavailable
from luma_memory.domain.job import Job
from luma_memory.domain.partition import HOME
from luma_memory.domain.scope import Scope
from luma_memory.partitions.router import Routed, results_or_raise
from luma_memory.partitions.user_locations import look_up

# Makes a method, of a repository in every partition and the method's name.
Rule: TypeAlias = Callable[[Routed[Any], str], Callable[..., Any]]


class RoutedStore:
    """Stands for a repository; its methods are those that rules made."""

    def __init__(self, routed: Routed[Any], rules: Mapping[str, Rule]) -> None:
        for name, rule in rules.items():
            setattr(self, name, rule(routed, name))


def by_scope(*, writes: bool) -> Rule:
    """The first argument is a scope, or has one."""

    def rule(routed: Routed[Any], name: str) -> Callable[..., Any]:
        async def method(first: Any, /, *values: Any, **options: Any) -> Any:
            return await routed.of(
                first if isinstance(first, Scope) else first.scope,
                lambda store: getattr(store, name)(first, *values, **options),
                writes=writes,
            )

        return method

    return rule


def pages_of_scope(routed: Routed[Any], name: str) -> Callable[..., Any]:
    """An asynchronous iterator over what one user has."""

    async def method(scope: Scope, /, *values: Any, **options: Any) -> AsyncIterator[Any]:
        places = routed.places
        await places.know()
        (here,) = await look_up(places, [scope]) if places.moves_users else (None,)
        number = places.number_of(scope) if here is None else here.number

        async def still_there() -> None:
            await places.know()
            if places.moves_users:
                (now,) = await look_up(places, [scope])
                if now.number != number:
                    raise StoreUnavailable("The user was moved to another partition: try again")

        async for page in getattr(routed.stores[number], name)(scope, *values, **options):
            await still_there()
            yield page
        await still_there()

    return method


def by_job(routed: Routed[Any], name: str) -> Callable[..., Any]:
    """The second argument, behind the worker's id, is a job: a write where it was claimed."""

    async def method(worker_id: str, job: Job, /, *values: Any, **options: Any) -> Any:
        return await routed.of_job(
            job, lambda store: getattr(store, name)(worker_id, job, *values, **options)
        )

    return method


def by_items(scope_of: Callable[[Any], Scope], *, writes: bool, inserts: bool = False) -> Rule:
    """The first argument is a sequence, and so is the result, in its order.

    Items of a partition that raised have its error as their result. inserts: see `Calls`.
    """

    def rule(routed: Routed[Any], name: str) -> Callable[..., Any]:
        async def method(items: Sequence[Any], /, *values: Any, **options: Any) -> Sequence[Any]:
            return await routed.each(
                items,
                scope_of,
                lambda store, chosen: getattr(store, name)(chosen, *values, **options),
                writes=writes,
                inserts=inserts,
            )

        return method

    return rule


def by_job_results(job_of: Callable[[Any], Job]) -> Rule:
    """The second argument, behind the worker's id, is a sequence about jobs, and so is the result.

    Raises the first error after all partitions have responded.
    """

    def rule(routed: Routed[Any], name: str) -> Callable[..., Any]:
        async def method(worker_id: str, items: Sequence[Any], /, **options: Any) -> Sequence[Any]:
            of_users = [n for n, item in enumerate(items) if job_of(item).scope.user_id]
            results: list[Any] = [None] * len(items)
            outcomes = await routed.each(
                [items[n] for n in of_users],
                lambda item: job_of(item).scope,
                lambda store, chosen: getattr(store, name)(worker_id, chosen, **options),
                writes=True,
            )
            for n, outcome in zip(of_users, outcomes, strict=True):
                results[n] = outcome
            # Deliveries of webhooks belong to no user.
            others: dict[int, list[int]] = {}
            for n in sorted(set(range(len(items))) - set(of_users)):
                others.setdefault(job_of(items[n]).partition, []).append(n)
            for number, positions in others.items():
                call = partial(_call, name, worker_id, [items[n] for n in positions], options)
                (found,) = await routed.outcomes(call, writes=True, numbers=[number])
                for at, n in enumerate(positions):
                    results[n] = found if isinstance(found, Exception) else found[at]
            return results_or_raise(results)

        return method

    return rule


async def _call(
    name: str, worker_id: str, chosen: Sequence[Any], options: Mapping[str, Any], store: Any
) -> Any:
    return await getattr(store, name)(worker_id, chosen, **options)


def at_home(routed: Routed[Any], name: str) -> Callable[..., Any]:
    """Only the home partition has these rows."""
    places, method_of_home = routed.places, getattr(routed.stores[HOME], name)

    async def method(*values: Any, **options: Any) -> Any:
        return await places.run(HOME, lambda: method_of_home(*values, **options), writes=False)

    return method


def merged(function: Callable[..., Any]) -> Rule:
    """A function whose first argument is the repository in every partition."""

    def rule(routed: Routed[Any], _name: str) -> Callable[..., Any]:
        return partial(function, routed)

    return rule
