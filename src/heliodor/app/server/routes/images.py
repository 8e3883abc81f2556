"""Addresses: the list, the pictures and the crops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server import request_parsing
from heliodor.app.server.endpoints import (
    LATER,
    MICROGRAPH_PATH,
    NOW,
    SOON,
    Endpoints,
)
from heliodor.app.server.sprites import render_sprite
from heliodor.app.server.tiles import TILE_PX, count_levels
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from starlette.requests import Request

#: Strongest low-pass in angstrom.
_MAX_LOW_PASS = 1000.0
#: Seconds that a picture may be kept by a browser that asks for it with the server's `boot`.
_CACHE_SECONDS = 86400
_MAX_CROPS = 100


class ImageRoutes(Endpoints):
    """The list, the pictures and the crops."""

    def routes(self) -> list[Route]:
        """Return the addresses."""
        one = MICROGRAPH_PATH
        return [
            Route("/api/micrographs", self.micrographs),
            Route(one, self.micrograph),
            Route(one + "/tiles/{level}/{column}/{row}.jpg", self.tile),
            Route(one + "/thumbnail.jpg", self.thumbnail),
            Route("/api/crops", self.crops, methods=["POST"]),
        ]

    async def micrographs(self, request: Request) -> Response:
        """GET /api/micrographs: the whole list."""
        return JSONResponse(await self.context.run_in_pool(self.context.state.columns, NOW))

    async def micrograph(self, request: Request) -> Response:
        """GET /api/micrographs/{id}: size and sampling of one."""
        number = self.context.micrograph_number(request)
        return JSONResponse(await self.context.run_in_pool(lambda: self._described(number), NOW))

    def _described(self, number: int) -> dict[str, Any]:
        state = self.context.state
        own: dict[str, Any] = dict.fromkeys(("width", "height", "pixel_size", "levels"))
        try:
            shape = state.tiles.header(number).shape
            own |= {"width": shape[1], "height": shape[0], "levels": count_levels(shape)}
            own["pixel_size"] = state.tiles.pixel_size(number)
            state.set_read_error(number, None)
        except BadInput as error:
            state.set_read_error(number, str(error))
        return {
            "id": number,
            "name": state.name(number),
            **own,
            "tile": TILE_PX,
            "failed": state.failure_of(number),
        }

    async def tile(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/tiles/{level}/{column}/{row}.jpg: a part of a picture."""
        number = self.context.micrograph_number(request)
        level, column, row = (
            request_parsing.whole_in_path(request, name) for name in ("level", "column", "row")
        )
        low_pass = request_parsing.number_in_query(request, "low_pass", 0.0, 0.0, _MAX_LOW_PASS)

        def make() -> bytes:
            return self.context.state.tiles.tile(number, level, column, row, low_pass)

        return self._picture(request, await self._seen(number, make, NOW))

    async def thumbnail(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/thumbnail.jpg: a small picture."""
        number = self.context.micrograph_number(request)

        def make() -> bytes:
            return self.context.state.tiles.thumbnail(number, self.context.state.preview(number))

        return self._picture(request, await self._seen(number, make, LATER))

    async def _seen(self, number: int, make: Callable[[], bytes], urgency: int) -> bytes:
        """Make a picture of a micrograph, and note whether that could be."""
        try:
            made = await self.context.run_in_pool(make, urgency)
        except BadInput as error:
            self.context.state.set_read_error(number, str(error))
            raise
        except LookupError as error:
            raise request_parsing.refuse(str(error.args[0]), 404) from error
        if urgency == NOW:  # a thumbnail may be from before
            self.context.state.set_read_error(number, None)
        return made

    def _picture(self, request: Request, content: bytes) -> Response:
        lasting = request.query_params.get("v") == self.context.state.boot
        keep = f"private, max-age={_CACHE_SECONDS}, immutable" if lasting else "no-store"
        return Response(content, media_type="image/jpeg", headers={"cache-control": keep})

    async def crops(self, request: Request) -> Response:
        """POST /api/crops: small pictures around places, as one picture."""
        state = self.context.state
        body = await request_parsing.json_body(request, ["at"])
        places = []
        for one in request_parsing.listed(body.get("at"), "at", _MAX_CROPS):
            if not isinstance(one, list) or len(one) != 3:
                raise request_parsing.refuse("each place is [id, x, y]")
            number = request_parsing.whole(one[0], "id", len(state.sources) - 1)
            x, y = (request_parsing.number(value, "x and y", -1e5, 1e6) for value in one[1:])
            places.append((number, x, y))
        diameter = state.project.settings.diameter_angstrom
        if diameter is None:
            raise request_parsing.refuse("set the particle's diameter first", 409)

        def make() -> bytes:
            return render_sprite(places, state.tiles, state.preview, diameter)

        return Response(await self.context.run_in_pool(make, SOON), media_type="image/jpeg")
