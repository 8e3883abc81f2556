"""Addresses: what the user says: marks, what is done, the settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server import request_parsing
from heliodor.app.server.annotations import (
    KINDS,
    MAX_PER_MICROGRAPH,
    VALID_ID,
    Annotation,
)
from heliodor.app.server.endpoints import MICROGRAPH_PATH, Endpoints
from heliodor.app.server.project import MAX_LOG_ODDS
from heliodor.data.micrographs.working_images import DIAMETER_RANGE

if TYPE_CHECKING:
    from starlette.requests import Request


class AnnotationRoutes(Endpoints):
    """What the user says: marks, what is done, the settings."""

    def routes(self) -> list[Route]:
        """Return the addresses."""
        one = MICROGRAPH_PATH
        return [
            Route(one + "/labels", self.labels, methods=["GET"]),
            Route(one + "/labels", self.annotate, methods=["POST"]),
            Route(one + "/done", self.done, methods=["POST"]),
            Route("/api/settings", self.settings, methods=["POST"]),
        ]

    async def labels(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/labels: the marks of one."""
        number = self.context.micrograph_number(request)
        revision = self.context.state.revision
        own = self.context.state.annotations.of_micrograph(self.context.state.name(number))
        return JSONResponse(
            {
                "revision": revision,
                "id": list(own),
                "x": [mark.x for mark in own.values()],
                "y": [mark.y for mark in own.values()],
                "kind": [mark.kind for mark in own.values()],
            }
        )

    async def annotate(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/labels: change the marks of one."""
        number = self.context.micrograph_number(request)
        body = await request_parsing.json_body(request, ["add", "remove"])
        shape = (await asyncio.to_thread(self.context.state.tiles.header, number)).shape
        add: dict[str, Annotation] = {}
        for one in request_parsing.listed(body.get("add", []), "add", MAX_PER_MICROGRAPH):
            if not isinstance(one, dict) or one.keys() != {"id", "x", "y", "kind"}:
                raise request_parsing.refuse("each mark has an id, x, y and a kind")
            x = request_parsing.number(one["x"], "x", -0.5, shape[1] - 0.5)
            y = request_parsing.number(one["y"], "y", -0.5, shape[0] - 0.5)
            add[_parse_id(one["id"])] = Annotation(
                x, y, request_parsing.one_of(one["kind"], "kind", [*KINDS])
            )
        remove = request_parsing.listed(body.get("remove", []), "remove", MAX_PER_MICROGRAPH)
        revision, saved = self.context.state.annotate(
            number, add, [_parse_id(one) for one in remove]
        )
        await asyncio.shield(asyncio.wrap_future(saved))
        return JSONResponse({"revision": revision})

    async def done(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/done."""
        number = self.context.micrograph_number(request)
        done = (await request_parsing.json_body(request, ["done"])).get("done")
        if not isinstance(done, bool):
            raise request_parsing.refuse("done must be true or false")
        revision = await asyncio.to_thread(self.context.state.set_done, number, done)
        return JSONResponse({"revision": revision})

    async def settings(self, request: Request) -> Response:
        """POST /api/settings: another diameter or threshold."""
        body = await request_parsing.json_body(request, ["diameter", "threshold"])
        if body.get("threshold") is not None:
            request_parsing.number(body["threshold"], "threshold", -MAX_LOG_ODDS, MAX_LOG_ODDS)
        if "diameter" in body:
            request_parsing.number(body["diameter"], "diameter", *DIAMETER_RANGE)
        await asyncio.to_thread(self.context.state.change_settings, body)
        return JSONResponse(self.context.state.settings())


def _parse_id(value: Any) -> str:
    if not isinstance(value, str) or not VALID_ID.fullmatch(value):
        raise request_parsing.refuse(
            "an id has 1 to 64 letters, digits, dashes, colons or underscores"
        )
    return value
