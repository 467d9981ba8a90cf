"""What the routes work with; made by bootstrap, handed to the app."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from luma_memory.bootstrap.service import Service


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
