"""Usage and cost of the model providers."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.errors import Invalid
from luma_memory.domain.usage import UsageFilter
from luma_memory.protocol.usage import UsageBody
from luma_memory.protocol.validation import Name

router = APIRouter(prefix="/usage", tags=["usage"], route_class=ProtectedRoute)


@router.get("", responses=RESPONSES, **permission("read"))
async def usage(
    service: ServiceDep,
    caller: CallerDep,
    user_id: Annotated[Name | None, Query(description="One user; all users if omitted.")] = None,
    since: Annotated[date | None, Query(description="First day (UTC); 30 days by default.")] = None,
    until: Annotated[
        date | None, Query(description="Last day, inclusive; today by default.")
    ] = None,
) -> UsageBody:
    """Calls, tokens and estimated cost by day, operation and model, and cost per block."""
    first, last = service.usage.period(since, until)
    if first > last:
        raise Invalid("`since` is after `until`", code="period_reversed", field="since")
    user = caller.narrowed(user_id)
    which = UsageFilter(project_id=caller.project_id, user_id=user, since=first, until=last)
    report = await service.usage.report(which)
    pending = await service.backfill.pending_counts(project_id=caller.project_id, user_id=user)
    return UsageBody.of(report, pending, since=first, until=last)
