"""Rejects unknown and repeated query parameters.

Ignoring a misspelled filter would return results the client did not request; of a repeated
parameter, a proxy may have validated the other value.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from luma_memory.domain.errors import Invalid


def query_names(dependant: Dependant) -> frozenset[str]:
    """The query parameters of a route and its dependencies."""
    return frozenset(
        field.alias for field in get_flat_params(dependant) if isinstance(field.field_info, Query)
    )


def check_query(query: bytes, known: Collection[str]) -> None:
    """Raises Invalid for an unknown or repeated name."""
    seen: set[str] = set()
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise Invalid(
                f"This route has no such parameter; its parameters are: {names}",
                code="parameter_unknown",
                field=name[:64],
            )
        if name in seen:
            raise Invalid("Send this parameter only once", code="parameter_repeated", field=name)
        seen.add(name)
