"""Endpoints of the list of micrographs and of their images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server.endpoints import (
    LATER,
    MICROGRAPH_PATH,
    NOW,
    SOON,
    Endpoints,
)
from heliodor.app.server.request_parsing import (
    Body,
    check_range,
    parse_path_number,
    parse_query_number,
    read_body,
    refuse,
)
from heliodor.app.server.sprites import render_sprite
from heliodor.app.server.tiles import TILE_PX, count_levels
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from starlette.requests import Request

#: Strongest low-pass in angstrom.
_MAX_LOW_PASS = 1000.0
#: Seconds that a browser may keep an image that it requests with the server's `boot` and the
#: version of the micrograph's file.
_CACHE_SECONDS = 86400
_MAX_CROPS = 100


_Coordinate = Annotated[float, Field(ge=-1e5, le=1e6)]


class _CropsBody(Body):
    #: The micrograph's number, and x and y in pixels of its file.
    at: list[tuple[int, _Coordinate, _Coordinate]] = Field(max_length=_MAX_CROPS)


class ImageRoutes(Endpoints):
    """The list of micrographs, their tiles and thumbnails, and crops."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = MICROGRAPH_PATH
        return [
            Route("/api/micrographs", self.micrographs),
            Route(one, self.micrograph),
            Route(one + "/tiles/{level}/{column}/{row}.jpg", self.tile),
            Route(one + "/thumbnail.jpg", self.thumbnail),
            Route("/api/crops", self.crops, methods=["POST"]),
        ]

    async def micrographs(self, request: Request) -> Response:
        """GET /api/micrographs: the list."""
        return JSONResponse(await self.context.run_in_pool(self.context.state.columns, NOW))

    async def micrograph(self, request: Request) -> Response:
        """GET /api/micrographs/{id}: the size and pixel size of a micrograph."""
        number = self.context.micrograph_number(request)
        return JSONResponse(await self.context.run_in_pool(lambda: self._described(number), NOW))

    def _described(self, number: int) -> dict[str, Any]:
        state = self.context.state
        details: dict[str, Any] = dict.fromkeys(("width", "height", "pixel_size", "levels"))
        try:
            shape = state.tiles.header(number).shape
            details |= {"width": shape[1], "height": shape[0], "levels": count_levels(shape)}
            details["pixel_size"] = state.tiles.pixel_size(number)
            state.set_read_error(number, None)
        except BadInput as error:
            state.set_read_error(number, str(error))
        return {
            "id": number,
            "name": state.name(number),
            **details,
            "tile": TILE_PX,
            "failed": state.failure_of(number),
            "version": state.tiles.version(number),
        }

    async def tile(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/tiles/{level}/{column}/{row}.jpg: a part of the image."""
        number = self.context.micrograph_number(request)
        level, column, row = (
            parse_path_number(request, name) for name in ("level", "column", "row")
        )
        low_pass = parse_query_number(request, "low_pass", 0.0, 0.0, _MAX_LOW_PASS)

        def make() -> bytes:
            return self.context.state.tiles.tile(number, level, column, row, low_pass)

        return self._image_response(request, number, await self._make_image(number, make, NOW))

    async def thumbnail(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/thumbnail.jpg: a small image."""
        number = self.context.micrograph_number(request)

        def make() -> bytes:
            return self.context.state.tiles.thumbnail(number, self.context.state.preview(number))

        return self._image_response(request, number, await self._make_image(number, make, LATER))

    async def _make_image(self, number: int, make: Callable[[], bytes], urgency: int) -> bytes:
        """Make an image of a micrograph, and record whether the micrograph could be read."""
        try:
            made = await self.context.run_in_pool(make, urgency)
        except BadInput as error:
            self.context.state.set_read_error(number, str(error))
            raise
        except LookupError as error:
            raise refuse(str(error.args[0]), 404) from error
        if urgency == NOW:  # a thumbnail may be older
            self.context.state.set_read_error(number, None)
        return made

    def _image_response(self, request: Request, number: int, content: bytes) -> Response:
        state = self.context.state
        lasting = request.query_params.get("v") == f"{state.boot}-{state.tiles.version(number)}"
        keep = f"private, max-age={_CACHE_SECONDS}, immutable" if lasting else "no-store"
        return Response(content, media_type="image/jpeg", headers={"cache-control": keep})

    async def crops(self, request: Request) -> Response:
        """POST /api/crops: crops around positions, in one image."""
        state = self.context.state
        body = await read_body(request, _CropsBody)
        for number, _, _ in body.at:
            check_range(number, "id", 0, len(state.sources) - 1)
        diameter = state.project.settings.diameter_angstrom
        if diameter is None:
            raise refuse("set the particle's diameter first", 409)

        def make() -> bytes:
            return render_sprite(body.at, state.tiles, state.preview, diameter)

        return Response(await self.context.run_in_pool(make, SOON), media_type="image/jpeg")
