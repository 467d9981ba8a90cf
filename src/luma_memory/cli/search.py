"""`search`: search a user's blocks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from luma_memory.cli.commands import examples
from luma_memory.cli.instants import parse_instant
from luma_memory.cli.options import Url, User, service_url
from luma_memory.cli.output import console, plain, print_note, shortened
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.protocol.search import LIMIT_MAX, TIMEOUT_MS_MAX, SearchResponse
from luma_memory.settings import load_settings


@examples(
    "luma-memory search 'Where does Ada live now?' --user ada",
    "luma-memory search 'river' --user ada --limit 3 --explain",
    "luma-memory search 'river' --user ada --filters '{\"source\": \"slack\"}' --as-of 2024-06-01",
    "luma-memory search 'river' --user ada --json | jq '.results[].block.content'",
)
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question or keywords.")],
    user: User,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=1, max=LIMIT_MAX, help="Maximum number of blocks."
        ),
    ] = 10,
    filters: Annotated[
        str | None,
        typer.Option("--filters", metavar="JSON", help="Filters on blocks (docs/recall.md)."),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of", metavar="TIME", parser=parse_instant, help="Search the state at that time."
        ),
    ] = None,
    include_superseded: Annotated[
        bool, typer.Option("--include-superseded", help="Include superseded blocks.")
    ] = False,
    timeout_ms: Annotated[
        int | None,
        typer.Option("--timeout-ms", metavar="MS", min=1, max=TIMEOUT_MS_MAX, help="Deadline."),
    ] = None,
    relevant_only: Annotated[
        bool, typer.Option("--relevant-only", help="Return only relevant blocks, or none.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the parts of every score.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as JSON.")] = False,
    url: Url = None,
) -> None:
    """Show a user's blocks that match a query, best first."""
    base_url = service_url(url, load_settings())
    body = {
        "filters": _filters(filters),
        "as_of": None if as_of is None else as_of.isoformat(),
        "include_superseded": include_superseded,
        "timeout_ms": timeout_ms,
        "relevant_only": relevant_only,
    }
    response = run_async(_search(base_url, user, query, limit=limit, explain=explain, more=body))
    if as_json:
        typer.echo(response.model_dump_json(indent=2))
        return
    for part in response.degraded:
        print_note(f"degraded: without {part}")
    if response.results:
        console().print(_table(response, explain=explain))
        if not response.relevant:
            print_note("nothing relevant: these are only the nearest blocks")
    else:
        print_note("nothing relevant" if relevant_only else "nothing found")


async def _search(
    base_url: str,
    user: str,
    query: str,
    *,
    limit: int,
    explain: bool,
    more: Mapping[str, Any],
) -> SearchResponse:
    async with ServiceClient(base_url, api_key=load_settings().client_key) as client:
        return await client.ask_search(
            {**more, "user_id": user, "query": query, "limit": limit, "explain": explain}
        )


def _filters(text: str | None) -> dict[str, Any] | None:
    """The filters as an object; the service validates their content."""
    if text is None:
        return None
    try:
        filters = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--filters") from error
    if not isinstance(filters, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--filters")
    return filters


def _table(response: SearchResponse, *, explain: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("score", justify="right", style="green", no_wrap=True)
    table.add_column("relevance", justify="right", no_wrap=True)
    for name in _PARTS if explain else ():
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("date", style="cyan", no_wrap=True)
    table.add_column("speaker", max_width=20)
    table.add_column("text", ratio=1, min_width=24, overflow="fold")
    for hit in response.results:
        parts = _parts(hit.explanation or {}) if explain else []
        date = hit.block.occurred_at.strftime("%Y-%m-%d %H:%M")
        content = hit.block.content
        text = plain(shortened(content, _EXPLAINED_CHARACTERS) if explain else content)
        table.add_row(
            f"{hit.score:.3f}",
            f"{hit.relevance:.2f}",
            *parts,
            date,
            plain(hit.block.speaker or ""),
            text,
        )
    if explain:
        table.caption = (
            "z-score = (dense + lexical + context + speaker + time + session) / 1.5;"
            " ~ is estimated: no vector yet"
        )
    return table


_PARTS = ("z-score", "dense", "lexical", "context", "speaker", "time", "session", "relation")
_EXPLAINED_CHARACTERS = 200


def _parts(explanation: Mapping[str, float | int | str | None]) -> list[str]:
    """The contribution of each part, in the order of _PARTS.

    They sum to 1.5 times the z-score, except for the relation, which is added at the end.
    """
    value = {name: part for name, part in explanation.items() if isinstance(part, int | float)}
    if "standing" not in value:
        return [""] * len(_PARTS)
    names = ("dense", "lexical", "context")
    scale = math.hypot(*(value[f"{name}_weight"] for name in names))
    dense, lexical, context = (
        value[f"{name}_weight"] * value[f"{name}_standing"] / scale for name in names
    )
    estimated = "~" if explanation.get("dense_similarity") is None else ""
    return [
        f"{value['standing']:.2f}",
        f"{estimated}{dense:.2f}",
        f"{lexical:.2f}",
        f"{context:.2f}",
        f"{value['speaker']:.2f}",
        f"{value['time']:.2f}",
        f"{value['session_share'] * value['session_standing']:.2f}",
        f"{value.get('relation_gain', 0.0):.2f}",
    ]
