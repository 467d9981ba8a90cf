"""`context`: get the context for a question, as text for a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from luma_memory.cli.commands import examples
from luma_memory.cli.options import Url, User, service_url
from luma_memory.cli.output import print_note, printable
from luma_memory.cli.running import run_async
from luma_memory.cli.service import ServiceClient
from luma_memory.protocol.context import (
    BLOCKS_MAX,
    TIMEOUT_MS_DEFAULT,
    TIMEOUT_MS_MAX,
    TIMEOUT_MS_MIN,
    TOKEN_BUDGET_MAX,
    TOKEN_BUDGET_MIN,
    ContextResponse,
)
from luma_memory.settings import load_settings


@examples(
    "luma-memory context 'Where does Ada live now?' --user ada",
    "luma-memory context 'river' --user ada --max-blocks 3 --token-budget 400",
    "luma-memory context 'river' --user ada --json | jq '.citations'",
)
def context(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question or keywords.")],
    user: User,
    max_blocks: Annotated[
        int | None,
        typer.Option(
            "--max-blocks", metavar="N", min=1, max=BLOCKS_MAX, help="Maximum number of blocks."
        ),
    ] = None,
    token_budget: Annotated[
        int | None,
        typer.Option(
            "--token-budget",
            metavar="N",
            min=TOKEN_BUDGET_MIN,
            max=TOKEN_BUDGET_MAX,
            help="Maximum number of tokens in the text.",
        ),
    ] = None,
    synthesize: Annotated[
        bool,
        typer.Option(
            "--synthesize/--quote",
            help="Let a configured model write the text, or only quote blocks.",
        ),
    ] = True,
    relevant_only: Annotated[
        bool, typer.Option("--relevant-only", help="Return only relevant blocks, or none.")
    ] = False,
    timeout_ms: Annotated[
        int,
        typer.Option(
            "--timeout-ms", metavar="MS", min=TIMEOUT_MS_MIN, max=TIMEOUT_MS_MAX, help="Deadline."
        ),
    ] = TIMEOUT_MS_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as JSON.")] = False,
    url: Url = None,
) -> None:
    """Print the context for a question: the blocks that matter, as text for a prompt."""
    body = {"user_id": user, "query": query, "synthesize": synthesize, "timeout_ms": timeout_ms}
    body["relevant_only"] = relevant_only
    limits = {"max_blocks": max_blocks, "token_budget": token_budget}
    body |= {name: limit for name, limit in limits.items() if limit is not None}
    response = run_async(_context(service_url(url, load_settings()), body))
    if as_json:
        typer.echo(response.model_dump_json(indent=2))
        return
    if response.text:
        typer.echo(printable(response.text))
    print_note(_details(response))


async def _context(base_url: str, body: Mapping[str, Any]) -> ContextResponse:
    async with ServiceClient(base_url, api_key=load_settings().client_key) as client:
        return await client.ask_context(body)


def _details(response: ContextResponse) -> str:
    """One line: the numbers of blocks and tokens, age in the cache, what is missing."""
    if not response.blocks:
        return "nothing found" if response.relevant else "nothing relevant found"
    tokens = response.tokens
    parts = [
        f"{len(response.blocks)} blocks",
        f"{tokens.count} of {tokens.budget} tokens ({tokens.counted_by})",
        f"cached {response.age_seconds:.0f} s ago"
        if response.age_seconds is not None
        else "computed",
        *([] if response.relevant else ["none clearly relevant"]),
        *(f"without {part}" for part in response.degraded if part != "token_budget"),
        *(["cut to the budget"] if "token_budget" in response.degraded else []),
    ]
    return " · ".join(parts)
