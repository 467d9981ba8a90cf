"""`eval`: retrieval quality through the real service."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from luma_memory.bootstrap.private_files import write_private_text
from luma_memory.cli.commands import examples
from luma_memory.cli.conversations import StoredConversation, read_conversations
from luma_memory.cli.evaluation.measures import summarize
from luma_memory.cli.evaluation.report import (
    comparison_table,
    figures,
    quality_table,
    relevance_table,
    relevant_shares,
    session_table,
)
from luma_memory.cli.evaluation.run import BASELINES, run_queries
from luma_memory.cli.output import console
from luma_memory.cli.running import run_async


@examples(
    "luma-memory eval conversations.json",
    "luma-memory eval a.json b.json --json figures.json",
    "luma-memory eval conversations.json --url http://127.0.0.1:8080",
)
def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…", exists=True, dir_okay=False, help="In the format memory-retrieval/1."
        ),
    ],
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A running service; by default a temporary one."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="OUT", dir_okay=False, help="Write all figures to this file."
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, max=64, help="Concurrent questions.")
    ] = 4,
    compare: Annotated[
        bool,
        typer.Option(
            help="Also rank the same rows without relations, by dense similarity, by BM25 and by"
            " rank fusion."
        ),
    ] = True,
) -> None:
    """Measure retrieval quality over conversations with questions.

    Each conversation is stored through the HTTP API in an empty scope. Once all blocks are
    enriched, its questions are run. The group `main` counts; other groups are shown separately.
    Without --url a service is started on an empty database and removed afterwards; with it, the
    blocks stay there under users named eval-….
    """
    run = secrets.token_hex(4)
    read = [
        conversation for file in files for conversation in read_conversations(file).conversations
    ]
    conversations = [
        StoredConversation(conversation, f"eval-{run}-{number}")
        for number, conversation in enumerate(read)
    ]
    compared = tuple(BASELINES) if compare else ()
    results = run_async(run_queries(conversations, url, concurrency, compared))
    rows = summarize(entry.score for entry in results if entry.score is not None)
    baselines = {
        name: summarize(score for entry in results if (score := entry.baselines[name]) is not None)
        for name in compared
    }
    console().print(quality_table(rows))
    console().print(session_table(rows))
    if compare:
        console().print(comparison_table({"recall": rows, **baselines}))
    shares = relevant_shares(results)
    console().print(relevance_table(shares))
    if json_file is not None:
        document = figures(rows, baselines, results) | {"relevant": shares}
        write_private_text(json_file, json.dumps(document, indent=1))
