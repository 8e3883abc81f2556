"""Endpoints of the annotations, of reviewed micrographs, and of the settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server.annotations import MAX_PER_MICROGRAPH, VALID_ID, Annotation
from heliodor.app.server.authorship import MAX_NAME
from heliodor.app.server.endpoints import MICROGRAPH_PATH, Endpoints
from heliodor.app.server.project import MAX_DISTANCE, MAX_LOG_ODDS
from heliodor.app.server.request_parsing import Body, check_range, read_body
from heliodor.app.server.user_masks import MAX_PIXELS
from heliodor.data.micrographs.working_images import DIAMETER_RANGE
from heliodor.errors import BadInput, escape_controls

if TYPE_CHECKING:
    from starlette.requests import Request

#: Longest path of a folder.
_MAX_PATH = 4096

_Id = Annotated[str, Field(pattern=f"^{VALID_ID.pattern}$")]


class _NewAnnotation(Body):
    id: _Id
    x: float
    y: float
    kind: Literal["particle", "negative"]


class _AnnotationsBody(Body):
    add: list[_NewAnnotation] = Field(default=[], max_length=MAX_PER_MICROGRAPH)
    remove: list[_Id] = Field(default=[], max_length=MAX_PER_MICROGRAPH)
    #: Who does it, if they gave a name.
    by: str = Field(default="", max_length=MAX_NAME)


class _DoneBody(Body):
    done: bool


class _ExcludedBody(Body):
    excluded: bool


class _Mask(Body):
    rows: int = Field(ge=1, le=MAX_PIXELS)
    columns: int = Field(ge=1, le=MAX_PIXELS)
    step: float = Field(gt=0.0, le=1e4)
    bits: str


class _ContaminationBody(Body):
    ignore: bool
    #: None: what the model detects; absent: as it is.
    mask: _Mask | None = None


class _OffsetBody(Body):
    offset: float = Field(ge=-MAX_LOG_ODDS, le=MAX_LOG_ODDS)


_Distance = Annotated[float, Field(ge=0.0, le=MAX_DISTANCE)]


class _SettingsBody(Body):
    diameter: float = Field(default=0.0, ge=DIAMETER_RANGE[0], le=DIAMETER_RANGE[1])
    threshold: Annotated[float, Field(ge=-MAX_LOG_ODDS, le=MAX_LOG_ODDS)] | None = None
    relion_project: Annotated[str, Field(max_length=_MAX_PATH)] | None = None
    max_fdr: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    exclusion_radius: _Distance | None = None
    edge_margin: _Distance | None = None


class AnnotationRoutes(Endpoints):
    """The annotations, the reviewed micrographs, and the settings."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = MICROGRAPH_PATH
        return [
            Route(one + "/labels", self.labels, methods=["GET"]),
            Route(one + "/labels", self.annotate, methods=["POST"]),
            Route("/api/history", self.history, methods=["GET"]),
            Route(one + "/done", self.done, methods=["POST"]),
            Route(one + "/excluded", self.excluded, methods=["POST"]),
            Route(one + "/contamination", self.contamination, methods=["POST"]),
            Route(one + "/offset", self.offset, methods=["POST"]),
            Route("/api/settings", self.settings, methods=["POST"]),
        ]

    async def labels(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/labels: the annotations of a micrograph."""
        number = self.context.micrograph_number(request)
        state = self.context.state
        revision = state.revision
        annotations = state.annotations.of_micrograph(state.name(number))
        authors = [state.authorship.of(key) for key in annotations]
        return JSONResponse(
            {
                "revision": revision,
                "id": list(annotations),
                "x": [annotation.x for annotation in annotations.values()],
                "y": [annotation.y for annotation in annotations.values()],
                "kind": [annotation.kind for annotation in annotations.values()],
                "by": [None if author is None else author.name for author in authors],
                "at": [None if author is None else author.at for author in authors],
            }
        )

    async def history(self, request: Request) -> Response:
        """GET /api/history: the latest labels and rejections of those who gave a name."""
        return JSONResponse({"entries": self.context.state.authorship.list_entries()})

    async def annotate(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/labels: change the annotations of a micrograph."""
        number = self.context.micrograph_number(request)
        body = await read_body(request, _AnnotationsBody)
        state = self.context.state
        height, width = (await asyncio.to_thread(state.tiles.header, number)).shape
        add = {
            new.id: Annotation(
                check_range(new.x, "x", -0.5, width - 0.5),
                check_range(new.y, "y", -0.5, height - 0.5),
                new.kind,
            )
            for new in body.add
        }
        by = " ".join(escape_controls(body.by).split())
        revision, saved = state.annotate(number, add, body.remove, by)
        try:
            await asyncio.shield(asyncio.wrap_future(saved))
        except BadInput:
            state.show_saved(number)  # the change was undone
            raise
        return JSONResponse({"revision": revision})

    async def done(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/done: mark a micrograph as reviewed, or not."""
        number = self.context.micrograph_number(request)
        body = await read_body(request, _DoneBody)
        revision = await asyncio.to_thread(self.context.state.set_done, number, body.done)
        return JSONResponse({"revision": revision})

    async def excluded(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/excluded: leave a micrograph out, or not."""
        number = self.context.micrograph_number(request)
        body = await read_body(request, _ExcludedBody)
        revision = await asyncio.to_thread(
            self.context.state.set_excluded, [number], body.excluded
        )
        return JSONResponse({"revision": revision})

    async def contamination(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/contamination: edit it on a micrograph, or ignore it."""
        number = self.context.micrograph_number(request)
        body = await read_body(request, _ContaminationBody)
        state = self.context.state

        def change() -> int:
            if "mask" in body.model_fields_set:
                state.set_mask(number, None if body.mask is None else body.mask.model_dump())
            return state.set_ignore_contamination(number, body.ignore)

        return JSONResponse({"revision": await asyncio.to_thread(change)})

    async def offset(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/offset: set by how much its threshold is higher."""
        number = self.context.micrograph_number(request)
        offset = (await read_body(request, _OffsetBody)).offset
        state = self.context.state
        revision = await asyncio.to_thread(state.set_threshold_offset, number, offset)
        return JSONResponse({"revision": revision})

    async def settings(self, request: Request) -> Response:
        """POST /api/settings: change the diameter, the threshold, or the RELION project."""
        body = await read_body(request, _SettingsBody)
        changes = body.model_dump(exclude_unset=True)
        await asyncio.to_thread(self.context.state.change_settings, changes)
        return JSONResponse(self.context.state.settings())
