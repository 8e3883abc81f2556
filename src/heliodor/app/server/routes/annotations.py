"""Addresses: what the user says: marks, what is done, the settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server import request_parsing
from heliodor.app.server.annotations import (
    GOOD_ID,
    KINDS,
    MOST_A_MICROGRAPH,
    Mark,
)
from heliodor.app.server.endpoints import ONE, Answers
from heliodor.app.server.project import MOST_LOG_ODDS
from heliodor.data.micrographs.working_images import DIAMETER_RANGE

if TYPE_CHECKING:
    from starlette.requests import Request


class MarkRoutes(Answers):
    """What the user says: marks, what is done, the settings."""

    def routes(self) -> list[Route]:
        """Return the addresses."""
        one = ONE
        return [
            Route(one + "/labels", self.labels, methods=["GET"]),
            Route(one + "/labels", self.mark, methods=["POST"]),
            Route(one + "/done", self.done, methods=["POST"]),
            Route("/api/settings", self.settings, methods=["POST"]),
        ]

    async def labels(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/labels: the marks of one."""
        number = self.desk.number(request)
        revision = self.desk.room.revision
        own = self.desk.room.marks.on(self.desk.room.name(number))
        return JSONResponse(
            {
                "revision": revision,
                "id": list(own),
                "x": [mark.x for mark in own.values()],
                "y": [mark.y for mark in own.values()],
                "kind": [mark.kind for mark in own.values()],
            }
        )

    async def mark(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/labels: change the marks of one."""
        number = self.desk.number(request)
        body = await request_parsing.json_body(request, ["add", "remove"])
        shape = (await asyncio.to_thread(self.desk.room.pictures.header, number)).shape
        add: dict[str, Mark] = {}
        for one in request_parsing.listed(body.get("add", []), "add", MOST_A_MICROGRAPH):
            if not isinstance(one, dict) or one.keys() != {"id", "x", "y", "kind"}:
                raise request_parsing.refuse("each mark has an id, x, y and a kind")
            x = request_parsing.number(one["x"], "x", -0.5, shape[1] - 0.5)
            y = request_parsing.number(one["y"], "y", -0.5, shape[0] - 0.5)
            add[_mark_id(one["id"])] = Mark(
                x, y, request_parsing.one_of(one["kind"], "kind", [*KINDS])
            )
        remove = request_parsing.listed(body.get("remove", []), "remove", MOST_A_MICROGRAPH)
        revision, saved = self.desk.room.mark(number, add, [_mark_id(one) for one in remove])
        await asyncio.shield(asyncio.wrap_future(saved))
        return JSONResponse({"revision": revision})

    async def done(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/done."""
        number = self.desk.number(request)
        done = (await request_parsing.json_body(request, ["done"])).get("done")
        if not isinstance(done, bool):
            raise request_parsing.refuse("done must be true or false")
        revision = await asyncio.to_thread(self.desk.room.set_done, number, done)
        return JSONResponse({"revision": revision})

    async def settings(self, request: Request) -> Response:
        """POST /api/settings: another diameter or threshold."""
        body = await request_parsing.json_body(request, ["diameter", "threshold"])
        if body.get("threshold") is not None:
            request_parsing.number(body["threshold"], "threshold", -MOST_LOG_ODDS, MOST_LOG_ODDS)
        if "diameter" in body:
            request_parsing.number(body["diameter"], "diameter", *DIAMETER_RANGE)
        await asyncio.to_thread(self.desk.room.change_settings, body)
        return JSONResponse(self.desk.room.settings())


def _mark_id(value: Any) -> str:
    if not isinstance(value, str) or not GOOD_ID.fullmatch(value):
        raise request_parsing.refuse(
            "an id has 1 to 64 letters, digits, dashes, colons or underscores"
        )
    return value
