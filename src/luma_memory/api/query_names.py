"""The query of a request names what its route knows, each once.

A misspelt filter that is passed over answers another question than was asked; of a name that comes
twice, whoever stands in front may have read the other value.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from luma_memory.domain.errors import Invalid


def query_names(dependant: Dependant) -> frozenset[str]:
    """What a route and what it depends on read of a query."""
    return frozenset(
        field.alias for field in get_flat_params(dependant) if isinstance(field.field_info, Query)
    )


def check_query(query: bytes, known: Collection[str]) -> None:
    """Raises Invalid for a name that is not known or comes twice."""
    seen: set[str] = set()
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise Invalid(
                f"This route has no such parameter; it knows: {names}",
                code="parameter_unknown",
                field=name[:64],
            )
        if name in seen:
            raise Invalid("Say it once", code="parameter_repeated", field=name)
        seen.add(name)
