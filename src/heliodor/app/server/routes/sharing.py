"""The read-only address for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server.endpoints import Endpoints
from heliodor.app.server.request_parsing import Body, read_body

if TYPE_CHECKING:
    from starlette.requests import Request


class _ShareBody(Body):
    action: Literal["show", "renew", "stop"]


class SharingRoutes(Endpoints):
    """The read-only address, which only the owner of the project can ask for."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/api/share", self.share, methods=["POST"])]

    async def share(self, request: Request) -> Response:
        """POST /api/share: show, renew or remove the token of the read-only address."""
        action = (await read_body(request, _ShareBody)).action
        keys = self.context.keys
        if action == "stop":
            keys.stop_sharing()
            return JSONResponse({"token": None})
        return JSONResponse({"token": keys.share(renew=action == "renew")})
