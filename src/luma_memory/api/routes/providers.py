"""State of the model providers."""

from __future__ import annotations

from fastapi import APIRouter

from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.circuit import CircuitReport
from luma_memory.protocol.providers import ProviderBody, ProviderListBody

router = APIRouter(prefix="/providers", tags=["health"], route_class=ProtectedRoute)


@router.get("", responses=RESPONSES, **permission("read"))
async def list_providers(service: ServiceDep, caller: CallerDep) -> ProviderListBody:
    """Providers called over a network: whether they are called, since when, and the last failure.

    Those of this configuration first, then others that are not called or failed within a day.
    """
    caller.check_sees_installation()
    names = list(dict.fromkeys(service.circuit_names))
    found = {report.name: report for report in await service.circuits.reports(names)}
    ours = [found.pop(name, CircuitReport(name, "closed", None, 0, None)) for name in names]
    return ProviderListBody(
        providers=[
            *(ProviderBody.of(report, configured=True) for report in ours),
            *(ProviderBody.of(report, configured=False) for report in found.values()),
        ]
    )
