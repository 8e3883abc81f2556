"""The addresses of the server, and what each answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from heliodor.app import checked
from heliodor.app.crops import sprite
from heliodor.app.handover import WHAT, export, file_to_fetch
from heliodor.app.marks import GOOD_ID, KINDS, MOST_A_MICROGRAPH, Mark
from heliodor.app.pictures import TILE_PX, levels_of
from heliodor.app.project import MOST_LOG_ODDS
from heliodor.app.served import file_below
from heliodor.app.workers import Full, Workers
from heliodor.errors import BadInput
from heliodor.output import FORMATS
from heliodor.preparation import DIAMETER_RANGE

if TYPE_CHECKING:
    from starlette.requests import Request

    from heliodor.app.room import Room

T = TypeVar("T")

STATIC = Path(__file__).with_name("static")
#: Threads for pictures and tables, and how much may wait for them.
_WORKERS, _WAITING = 2, 128
#: What is looked at now comes before what may be looked at.
_NOW, _SOON, _LATER = 2, 1, 0
#: Strongest low-pass in angstrom.
_MOST_LOW_PASS = 1000.0
#: Seconds that a picture may be kept by a browser that asks for it with the server's `boot`.
_KEEP = 86400
_MOST_ITEMS, _MOST_CROPS, _MOST_QUESTIONS = 500, 100, 100
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
#: A report has its styles in it, and nothing that runs.
_REPORT_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox;"
    " frame-ancestors 'none'"
)


class Handlers:
    """What is answered, one method an address.

    Parameters
    ----------
    room
        The project.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.workers = Workers(_WORKERS, _WAITING)
        self._exporting = threading.Lock()

    def routes(self) -> list[Route]:
        """Return all addresses."""
        one = "/api/micrographs/{id}"
        return [
            Route("/", self.page),
            Route("/static/{path:path}", self.static),
            Route("/api/project", self.project),
            Route("/api/micrographs", self.micrographs),
            Route("/api/changes", self.changes),
            Route(one, self.micrograph),
            Route(one + "/done", self.done, methods=["POST"]),
            Route(one + "/tiles/{level}/{column}/{row}.jpg", self.tile),
            Route(one + "/thumbnail.jpg", self.thumbnail),
            Route(one + "/labels", self.labels, methods=["GET"]),
            Route(one + "/labels", self.mark, methods=["POST"]),
            Route(one + "/picks", self.picks),
            Route("/api/settings", self.settings, methods=["POST"]),
            Route("/api/focus", self.focus, methods=["POST"]),
            Route("/api/train", self.train, methods=["POST"]),
            Route("/api/train/cancel", self.cancel_training, methods=["POST"]),
            Route("/api/histogram", self.histogram),
            Route("/api/gallery", self.gallery),
            Route("/api/crops", self.crops, methods=["POST"]),
            Route("/api/questions", self.questions),
            Route("/api/export", self.export, methods=["POST"]),
            Route("/api/exports/{name}", self.exported),
            Route("/api/run", self.run, methods=["POST"]),
            Route("/api/run/cancel", self.cancel_run, methods=["POST"]),
            Route("/report/{path:path}", self.report),
        ]

    async def _heavy(self, work: Callable[[], T], urgency: int) -> T:
        return await self.workers.do(work, urgency)

    def _number(self, request: Request) -> int:
        number = checked.whole_in_path(request, "id")
        if number >= len(self.room.sources):
            raise checked.refuse("there is no such micrograph", 404)
        return number

    async def page(self, request: Request) -> Response:
        """GET /: the page."""
        return self._shown(file_below(STATIC, "index.html", _KINDS))

    async def static(self, request: Request) -> Response:
        """GET /static/...: what the page is made of."""
        return self._shown(file_below(STATIC, request.path_params["path"], _KINDS))

    def _shown(
        self, found: tuple[Path, str] | None, headers: Mapping[str, str] | None = None
    ) -> Response:
        if found is None:
            raise checked.refuse("there is nothing at this address", 404)
        return FileResponse(found[0], media_type=found[1], headers=headers)

    async def project(self, request: Request) -> Response:
        """GET /api/project: what there is."""
        room = self.room
        return JSONResponse(
            {
                "boot": room.boot,
                "revision": room.revision,
                "version": _version(),
                "folder": str(room.project.folder.absolute()),
                "settings": room.settings(),
                "count": len(room.sources),
                "formats": [{"name": one.name, "says": one.says} for one in FORMATS.values()],
                **room.processes(),
            }
        )

    async def micrographs(self, request: Request) -> Response:
        """GET /api/micrographs: the whole list."""
        return JSONResponse(await self._heavy(self.room.columns, _NOW))

    async def changes(self, request: Request) -> Response:
        """GET /api/changes: what is new."""
        since = checked.whole_in_query(request, "since", 0, 10**9)
        return JSONResponse(self.room.news(since))

    async def micrograph(self, request: Request) -> Response:
        """GET /api/micrographs/{id}: size and sampling of one."""
        number = self._number(request)
        return JSONResponse(await self._heavy(lambda: self._described(number), _NOW))

    def _described(self, number: int) -> dict[str, Any]:
        room = self.room
        own: dict[str, Any] = dict.fromkeys(("width", "height", "pixel_size", "levels"))
        try:
            shape = room.pictures.header(number).shape
            own |= {"width": shape[1], "height": shape[0], "levels": levels_of(shape)}
            own["pixel_size"] = room.pictures.pixel_size(number)
            room.read(number, None)
        except BadInput as error:
            room.read(number, str(error))
        return {
            "id": number,
            "name": room.name(number),
            **own,
            "tile": TILE_PX,
            "failed": room.failed(number),
        }

    async def done(self, request: Request) -> Response:
        """POST /api/micrographs/{id}/done."""
        number = self._number(request)
        done = (await checked.json_body(request, ["done"])).get("done")
        if not isinstance(done, bool):
            raise checked.refuse("done must be true or false")
        revision = await asyncio.to_thread(self.room.set_done, number, done)
        return JSONResponse({"revision": revision})

    async def tile(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/tiles/{level}/{column}/{row}.jpg: a part of a picture."""
        number = self._number(request)
        level, column, row = (
            checked.whole_in_path(request, name) for name in ("level", "column", "row")
        )
        low_pass = checked.number_in_query(request, "low_pass", 0.0, 0.0, _MOST_LOW_PASS)

        def make() -> bytes:
            return self.room.pictures.tile(number, level, column, row, low_pass)

        return self._picture(request, await self._seen(number, make, _NOW))

    async def thumbnail(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/thumbnail.jpg: a small picture."""
        number = self._number(request)

        def make() -> bytes:
            return self.room.pictures.thumbnail(number, self.room.preview(number))

        return self._picture(request, await self._seen(number, make, _LATER))

    async def _seen(self, number: int, make: Callable[[], bytes], urgency: int) -> bytes:
        """Make a picture of a micrograph, and note whether that could be."""
        try:
            made = await self._heavy(make, urgency)
        except BadInput as error:
            self.room.read(number, str(error))
            raise
        except LookupError as error:
            raise checked.refuse(str(error.args[0]), 404) from error
        if urgency == _NOW:  # a thumbnail may be from before
            self.room.read(number, None)
        return made

    def _picture(self, request: Request, content: bytes) -> Response:
        lasting = request.query_params.get("v") == self.room.boot
        keep = f"private, max-age={_KEEP}, immutable" if lasting else "no-store"
        return Response(content, media_type="image/jpeg", headers={"cache-control": keep})

    async def labels(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/labels: the marks of one."""
        number = self._number(request)
        revision = self.room.revision
        own = self.room.marks.on(self.room.name(number))
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
        number = self._number(request)
        body = await checked.json_body(request, ["add", "remove"])
        shape = (await asyncio.to_thread(self.room.pictures.header, number)).shape
        add: dict[str, Mark] = {}
        for one in checked.listed(body.get("add", []), "add", MOST_A_MICROGRAPH):
            if not isinstance(one, dict) or one.keys() != {"id", "x", "y", "kind"}:
                raise checked.refuse("each mark has an id, x, y and a kind")
            x = checked.number(one["x"], "x", -0.5, shape[1] - 0.5)
            y = checked.number(one["y"], "y", -0.5, shape[0] - 0.5)
            add[_mark_id(one["id"])] = Mark(x, y, checked.one_of(one["kind"], "kind", [*KINDS]))
        remove = checked.listed(body.get("remove", []), "remove", MOST_A_MICROGRAPH)
        revision, saved = self.room.mark(number, add, [_mark_id(one) for one in remove])
        await asyncio.shield(asyncio.wrap_future(saved))
        return JSONResponse({"revision": revision})

    async def settings(self, request: Request) -> Response:
        """POST /api/settings: another diameter or threshold."""
        body = await checked.json_body(request, ["diameter", "threshold"])
        if body.get("threshold") is not None:
            checked.number(body["threshold"], "threshold", -MOST_LOG_ODDS, MOST_LOG_ODDS)
        if "diameter" in body:
            checked.number(body["diameter"], "diameter", *DIAMETER_RANGE)
        await asyncio.to_thread(self.room.change_settings, body)
        return JSONResponse(self.room.settings())

    async def picks(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/picks: the candidates of one."""
        number = self._number(request)
        return JSONResponse(await self._heavy(lambda: self.room.picks(number), _NOW))

    async def focus(self, request: Request) -> Response:
        """POST /api/focus: which micrograph is on the screen."""
        body = await checked.json_body(request, ["id"])
        number = checked.whole(body.get("id"), "id", len(self.room.sources) - 1)
        await asyncio.to_thread(self.room.live.focus, number)
        return JSONResponse({})

    async def train(self, request: Request) -> Response:
        """POST /api/train: begin a training."""
        await checked.json_body(request, [])
        await asyncio.to_thread(self.room.live.train)
        return JSONResponse(dict(self.room.live.training), 202)

    async def cancel_training(self, request: Request) -> Response:
        """POST /api/train/cancel: end the training."""
        await checked.json_body(request, [])
        await asyncio.to_thread(self.room.live.cancel)
        return JSONResponse({})

    async def histogram(self, request: Request) -> Response:
        """GET /api/histogram: scores, and what thresholds would give."""
        return JSONResponse(await self._heavy(self.room.histogram, _NOW))

    async def gallery(self, request: Request) -> Response:
        """GET /api/gallery: candidates by falling score."""
        start = checked.whole_in_query(request, "start", 0, 10**9)
        count = checked.whole_in_query(request, "count", 60, _MOST_ITEMS)
        return JSONResponse(await self._heavy(lambda: self.room.gallery(start, count), _SOON))

    async def crops(self, request: Request) -> Response:
        """POST /api/crops: small pictures around places, as one picture."""
        room = self.room
        body = await checked.json_body(request, ["at"])
        places = []
        for one in checked.listed(body.get("at"), "at", _MOST_CROPS):
            if not isinstance(one, list) or len(one) != 3:
                raise checked.refuse("each place is [id, x, y]")
            number = checked.whole(one[0], "id", len(room.sources) - 1)
            x, y = (checked.number(value, "x and y", -1e5, 1e6) for value in one[1:])
            places.append((number, x, y))
        diameter = room.project.settings.diameter_angstrom
        if diameter is None:
            raise checked.refuse("set the particle's diameter first", 409)

        def make() -> bytes:
            return sprite(places, room.pictures, room.preview, diameter)

        return Response(await self._heavy(make, _SOON), media_type="image/jpeg")

    async def questions(self, request: Request) -> Response:
        """GET /api/questions: what to ask the user."""
        count = checked.whole_in_query(request, "count", 10, _MOST_QUESTIONS)
        return JSONResponse(await self._heavy(lambda: self.room.questions(count), _SOON))

    async def export(self, request: Request) -> Response:
        """POST /api/export: write picks or labels in a format."""
        room = self.room
        body = await checked.json_body(request, ["what", "format"])
        what = checked.one_of(body.get("what"), "what", WHAT)
        name = checked.one_of(body.get("format"), "format", [*FORMATS])

        def make() -> str:
            with self._exporting:
                return export(what, name, room.project, room.marks, room.found, room.pictures)

        return JSONResponse({"files": [await self._heavy(make, _SOON)]})

    async def exported(self, request: Request) -> Response:
        """GET /api/exports/{name}: fetch what was written."""
        name = request.path_params["name"]
        path = file_to_fetch(self.room.project, name)
        if path is None:
            raise checked.refuse("there is no such export", 404)
        return FileResponse(path, media_type="application/octet-stream", filename=name)

    async def run(self, request: Request) -> Response:
        """POST /api/run: pick on everything."""
        await checked.json_body(request, [])
        await asyncio.to_thread(self.room.run.start)
        return JSONResponse(self.room.run.state(), 202)

    async def cancel_run(self, request: Request) -> Response:
        """POST /api/run/cancel: stop picking on everything."""
        await checked.json_body(request, [])
        await asyncio.to_thread(self.room.run.cancel)
        return JSONResponse({})

    async def report(self, request: Request) -> Response:
        """GET /report/...: what the whole run shows."""
        found = self.room.run.shown(request.path_params["path"])
        return self._shown(found, {"content-security-policy": _REPORT_POLICY})


def _mark_id(value: Any) -> str:
    if not isinstance(value, str) or not GOOD_ID.fullmatch(value):
        raise checked.refuse("an id has 1 to 64 letters, digits, dashes, colons or underscores")
    return value


def _version() -> str:
    from heliodor import __version__

    return __version__


_ROUTERS = {404: "there is nothing at this address", 405: "this is not the way to ask"}


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {"connection": "close"} if error.status_code in (408, 413) else {}
    sentence = str(error.detail)
    if sentence == HTTPStatus(error.status_code).phrase:  # the router's own
        sentence = {
            404: "there is nothing at this address",
            405: "this is not the way to ask",
        }.get(error.status_code, sentence)
    return JSONResponse({"error": sentence}, error.status_code, headers)


def _bad_input(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


def _full(request: Request, error: Exception) -> Response:
    sentence = "too much is waiting to be done; try again"
    return JSONResponse({"error": sentence}, 503, {"retry-after": "1"})


def _broken(request: Request, error: Exception) -> Response:
    sentence = f"the server stumbled ({type(error).__name__}); see what it printed"
    return JSONResponse({"error": sentence}, 500)


def application(handlers: Handlers) -> Starlette:
    """Return the application behind the gate."""
    return Starlette(
        routes=handlers.routes(),
        middleware=[Middleware(GZipMiddleware, minimum_size=2048, compresslevel=3)],
        exception_handlers={
            HTTPException: _refused,
            BadInput: _bad_input,
            Full: _full,
            Exception: _broken,
        },
    )
