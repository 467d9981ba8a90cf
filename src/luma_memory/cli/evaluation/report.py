"""The results of an evaluation as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from luma_memory.cli.evaluation.measures import CUTOFFS, MAIN_GROUP, NDCG_CUTOFF, SummaryRow
from luma_memory.cli.evaluation.run import QueryResult
from luma_memory.cli.output import plain

ELSEWHERE: Final = "about something else"


def quality_table(rows: Sequence[SummaryRow]) -> Table:
    """The measures of groups and categories, the main group first."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    table.add_column("category")
    for name in ("n", *_measure_names()):
        table.add_column(name, justify="right")
    for row in rows:
        if row.category is None and table.row_count:
            table.add_section()
        style = "bold" if row.category is None else ""
        table.add_row(plain(row.group), plain(row.category or "all"), *_cells(row), style=style)
    table.caption = f"{MAIN_GROUP} counts; other groups are shown separately"
    return table


def session_table(rows: Sequence[SummaryRow]) -> Table:
    """The measures by sessions, the main group first."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group, by sessions")
    names = [f"{kind}@{k}" for kind in ("any", "all") for k in CUTOFFS]
    for name in ("n", *names):
        table.add_column(name, justify="right")
    for row in rows:
        if row.category is None:
            measures = (row.measures.session_any, row.measures.session_all)
            cells = [f"{values[k]:.3f}" for values in measures for k in CUTOFFS]
            table.add_row(plain(row.group), str(row.query_count), *cells)
    table.caption = "any, or all, of the sessions with evidence are among the first k"
    return table


def comparison_table(results: Mapping[str, Sequence[SummaryRow]]) -> Table:
    """The measures of each ranking over whole groups, the main group first."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    table.add_column("ranking")
    for name in ("n", *_measure_names()):
        table.add_column(name, justify="right")
    groups = [row.group for row in next(iter(results.values()), ()) if row.category is None]
    for group in groups:
        if table.row_count:
            table.add_section()
        for number, (name, rows) in enumerate(results.items()):
            for row in rows:
                if row.group == group and row.category is None:
                    style = "" if number else "bold"
                    table.add_row(plain(group), name, *_cells(row), style=style)
    return table


def relevant_shares(results: Sequence[QueryResult]) -> dict[str, float]:
    """Share of the questions of each group for which the service reports something relevant."""
    reports: dict[str, list[bool]] = {}
    for entry in results:
        reports.setdefault(entry.query.group, []).append(entry.is_relevant)
        if entry.query.group == MAIN_GROUP and entry.is_relevant_elsewhere is not None:
            reports.setdefault(ELSEWHERE, []).append(entry.is_relevant_elsewhere)
    return {group: sum(found) / len(found) for group, found in reports.items()}


def relevance_table(shares: Mapping[str, float]) -> Table:
    """The shares of `relevant_shares`; that of questions about something else should be small."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("questions")
    table.add_column("called relevant", justify="right")
    for group, share in shares.items():
        table.add_row(plain(group), f"{share:.3f}")
    table.caption = f"{ELSEWHERE}: {MAIN_GROUP} questions in the scope of another conversation"
    return table


def _measure_names() -> list[str]:
    recalls, hits = [f"recall@{k}" for k in CUTOFFS], [f"hit@{k}" for k in CUTOFFS]
    return [*recalls, *hits, "MRR", f"nDCG@{NDCG_CUTOFF}"]


def _cells(row: SummaryRow) -> list[str]:
    measures = row.measures
    values = [
        *(measures.recall[k] for k in CUTOFFS),
        *(measures.hit[k] for k in CUTOFFS),
        measures.reciprocal_rank,
        measures.ndcg,
    ]
    return [str(row.query_count), *(f"{value:.3f}" for value in values)]


def figures(
    rows: Sequence[SummaryRow],
    baselines: Mapping[str, Sequence[SummaryRow]],
    results: Sequence[QueryResult],
) -> dict[str, Any]:
    """All figures as JSON."""
    return {
        "rows": [_row_figures(row) for row in rows],
        "baselines": {
            name: [_row_figures(row) for row in some] for name, some in baselines.items()
        },
        "queries": [
            {
                "conversation": entry.conversation_id,
                "id": entry.query.id,
                "evidence": list(entry.query.evidence),
                "ranking": list(entry.ranking),
                "relevant": entry.is_relevant,
            }
            for entry in results
        ],
    }


def _row_figures(row: SummaryRow) -> dict[str, Any]:
    return {
        "group": row.group,
        "category": row.category,
        "n": row.query_count,
        "recall": {str(k): row.measures.recall[k] for k in CUTOFFS},
        "hit": {str(k): row.measures.hit[k] for k in CUTOFFS},
        "session_any": {str(k): row.measures.session_any[k] for k in CUTOFFS},
        "session_all": {str(k): row.measures.session_all[k] for k in CUTOFFS},
        "mrr": row.measures.reciprocal_rank,
        f"ndcg@{NDCG_CUTOFF}": row.measures.ndcg,
    }
