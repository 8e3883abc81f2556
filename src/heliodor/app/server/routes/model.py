"""Endpoints of the model in use: training, candidates, and questions to the user."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliodor.app.server.comparison import MAX_MICROGRAPHS
from heliodor.app.server.endpoints import (
    LATER,
    MICROGRAPH_PATH,
    NOW,
    SOON,
    Endpoints,
)
from heliodor.app.server.models import list_models
from heliodor.app.server.request_parsing import (
    Body,
    check_range,
    parse_query_whole,
    read_body,
)

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_ITEMS, _MAX_QUESTIONS = 500, 100


class _FocusBody(Body):
    id: int


_ModelNumber = Annotated[int, Field(ge=0, le=10**6)]


class _ModelBody(Body):
    number: _ModelNumber


class _ComparisonBody(Body):
    models: list[_ModelNumber] = Field(min_length=2, max_length=2)
    ids: list[int] = Field(min_length=1, max_length=MAX_MICROGRAPHS)


class ModelRoutes(Endpoints):
    """The model in use: training, candidates, and questions to the user."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = MICROGRAPH_PATH
        return [
            Route(one + "/picks", self.picks),
            Route("/api/focus", self.focus, methods=["POST"]),
            Route("/api/models", self.models),
            Route("/api/model", self.use_model, methods=["POST"]),
            Route("/api/comparison", self.comparison, methods=["GET"]),
            Route("/api/comparison", self.compare, methods=["POST"]),
            Route("/api/comparison/cancel", self.cancel_comparison, methods=["POST"]),
            Route("/api/train", self.train, methods=["POST"]),
            Route("/api/train/cancel", self.cancel_training, methods=["POST"]),
            Route("/api/train/thorough", self.train_thoroughly, methods=["POST"]),
            Route("/api/train/thorough/cancel", self.cancel_thorough, methods=["POST"]),
            Route("/api/histogram", self.histogram),
            Route("/api/gallery", self.gallery),
            Route("/api/questions", self.questions),
            Route("/api/inspection", self.inspection),
        ]

    async def picks(self, request: Request) -> Response:
        """GET /api/micrographs/{id}/picks: the candidates of a micrograph."""
        number = self.context.micrograph_number(request)
        state = self.context.state

        def find() -> dict[str, Any]:
            state.check_replaced(number)
            return state.picks(number)

        return JSONResponse(await self.context.run_in_pool(find, NOW))

    async def focus(self, request: Request) -> Response:
        """POST /api/focus: which micrograph is on the screen."""
        number = (await read_body(request, _FocusBody)).id
        check_range(number, "id", 0, len(self.context.state.sources) - 1)
        await asyncio.to_thread(self.context.state.focus, number)
        return JSONResponse({})

    async def models(self, request: Request) -> Response:
        """GET /api/models: the general model, and that of each training."""
        project = self.context.state.project
        models = await self.context.run_in_pool(lambda: list_models(project), SOON)
        return JSONResponse({"models": models})

    async def use_model(self, request: Request) -> Response:
        """POST /api/model: use another model, which scores the micrographs again."""
        number = (await read_body(request, _ModelBody)).number
        await asyncio.to_thread(self.context.state.engine.use_model, number)
        return JSONResponse(self.context.state.settings())

    async def comparison(self, request: Request) -> Response:
        """GET /api/comparison: the state and the result of the comparison of two models."""
        return JSONResponse(self.context.state.comparison.state())

    async def compare(self, request: Request) -> Response:
        """POST /api/comparison: compare two models on some micrographs."""
        body = await read_body(request, _ComparisonBody)
        state = self.context.state
        for number in body.ids:
            check_range(number, "id", 0, len(state.sources) - 1)
        models = (body.models[0], body.models[1])
        await asyncio.to_thread(state.comparison.start, models, sorted({*body.ids}))
        return JSONResponse(state.comparison.state(), 202)

    async def cancel_comparison(self, request: Request) -> Response:
        """POST /api/comparison/cancel: stop comparing."""
        await read_body(request, Body)
        await asyncio.to_thread(self.context.state.comparison.cancel)
        return JSONResponse({})

    async def train(self, request: Request) -> Response:
        """POST /api/train: start a training."""
        await read_body(request, Body)
        await asyncio.to_thread(self.context.state.engine.train)
        return JSONResponse(dict(self.context.state.engine.training.status), 202)

    async def cancel_training(self, request: Request) -> Response:
        """POST /api/train/cancel: cancel the training."""
        await read_body(request, Body)
        await asyncio.to_thread(self.context.state.engine.cancel)
        return JSONResponse({})

    async def train_thoroughly(self, request: Request) -> Response:
        """POST /api/train/thorough: start a thorough training, which goes on in the background."""
        await read_body(request, Body)
        training = self.context.state.thorough_training
        await asyncio.to_thread(training.start)
        return JSONResponse(training.state(), 202)

    async def cancel_thorough(self, request: Request) -> Response:
        """POST /api/train/thorough/cancel: stop the thorough training."""
        await read_body(request, Body)
        await asyncio.to_thread(self.context.state.thorough_training.cancel)
        return JSONResponse({})

    async def histogram(self, request: Request) -> Response:
        """GET /api/histogram: the scores, and estimates for other thresholds."""
        return JSONResponse(await self.context.run_in_pool(self.context.state.histogram, NOW))

    async def gallery(self, request: Request) -> Response:
        """GET /api/gallery: candidates by descending score."""
        start = parse_query_whole(request, "start", 0, 10**9)
        count = parse_query_whole(request, "count", 60, _MAX_ITEMS)
        return JSONResponse(
            await self.context.run_in_pool(lambda: self.context.state.gallery(start, count), SOON)
        )

    async def inspection(self, request: Request) -> Response:
        """GET /api/inspection: averages of picks, and groups of picks that look alike."""
        seed = parse_query_whole(request, "seed", 0, 10**6)
        return JSONResponse(
            await self.context.run_in_pool(lambda: self.context.state.inspect_picks(seed), LATER)
        )

    async def questions(self, request: Request) -> Response:
        """GET /api/questions: candidates to ask the user about."""
        count = parse_query_whole(request, "count", 10, _MAX_QUESTIONS)
        return JSONResponse(
            await self.context.run_in_pool(lambda: self.context.state.questions(count), SOON)
        )
