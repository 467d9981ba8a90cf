"""Rejects unknown and repeated query parameters.

Ignoring a misspelled filter would return results the client did not request; of a repeated
parameter, a proxy may have validated the other value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args, get_origin
from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from luma_memory.domain.errors import Invalid


def query_names(dependant: Dependant) -> Mapping[str, bool]:
    """The query parameters of a route and its dependencies; whether each takes several values."""
    return {
        field.alias: _is_list(field.field_info.annotation)
        for field in get_flat_params(dependant)
        if isinstance(field.field_info, Query)
    }


def check_query(query: bytes, known: Mapping[str, bool]) -> None:
    """Raises Invalid for an unknown name, and for a repeated one that takes one value."""
    seen: set[str] = set()
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise Invalid(
                f"This route has no such parameter; its parameters are: {names}",
                code="parameter_unknown",
                field=name[:64],
            )
        if name in seen and not known[name]:
            raise Invalid("Send this parameter only once", code="parameter_repeated", field=name)
        seen.add(name)


def _is_list(annotation: object) -> bool:
    return any(get_origin(part) is list for part in (annotation, *get_args(annotation)))
