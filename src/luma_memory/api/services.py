"""The service that the routes use; opened by bootstrap, passed to the app."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from luma_memory.bootstrap.service import Service


def service_of(request: Request) -> Service:
    """The open service of the request's app."""
    service: Service = request.app.state.service
    return service


async def _service(request: Request) -> Service:
    return service_of(request)


ServiceDep = Annotated[Service, Depends(_service)]
