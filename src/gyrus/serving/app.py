"""The application: routes of the HTTP API, and the page."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gyrus.errors import ConfigError, GyrusError
from gyrus.evaluation.number_external import load_internal_scores
from gyrus.export.bundle import BundleEngine, read_manifest
from gyrus.export.hub import local_bundle
from gyrus.serving.about import describe
from gyrus.serving.errors import RequestError, busy
from gyrus.serving.limits import ServingLimits
from gyrus.serving.metrics import Metrics
from gyrus.serving.pool import Pool
from gyrus.serving.private_folder import private_folder, request_folder
from gyrus.serving.security import Access, Guard
from gyrus.serving.uploads import FIELD, receive_files, require_form
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.verify_bundle import verify_bundle

PAGE_FILES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
}
"""Files of the page that are served, and their type."""

ROUTES = ("/", "/healthz", "/metrics", "/openapi.json", "/v1/classifier", "/v1/predict", "/v1/explain")

_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


class Data(BaseModel):
    """A picture or volume, in base64."""

    format: Literal["png", "nifti"]
    data: str


class _AnyAnswer(BaseModel):
    """What every answer for one scan has."""

    name: str
    p_like_training: float | None
    unlike: bool | None
    most_unlike_in: str | None
    notes: list[str]
    view: Data | None


class Answer(_AnyAnswer):
    """The answer of a classifier for one scan."""

    prediction: str
    probabilities: dict[str, float]
    calibrated_probabilities: dict[str, float] | None
    decision: str | None
    prediction_set: list[str] | None


class Range(BaseModel):
    """A prediction interval."""

    low: float
    high: float


class NumberAnswer(_AnyAnswer):
    """The predicted number for one scan, for bundles that predict a number."""

    prediction: float
    interval: Range | None
    corrected_prediction: float | None
    quantiles: dict[str, float] | None


class Problem(BaseModel):
    """A file or scan without an answer."""

    name: str
    error: str


class Answers(BaseModel):
    """The answers to a request."""

    answers: list[Answer | NumberAnswer]
    problems: list[Problem]
    seconds: float


class Verdict(BaseModel):
    """Whether the heat map marks what the classifier uses; null where that cannot be measured."""

    trusted: bool | None
    words: str


class Explanation(BaseModel):
    """A heat map on the grid of its scan."""

    name: str
    target: str
    method: str
    scan: Data
    heat_map: Data
    verdict: Verdict


class Failure(BaseModel):
    """Why a request was not answered."""

    error: str


_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": words}
    for status, words in {
        400: "The form is damaged",
        401: "A token is needed",
        403: "The request is from another site",
        408: "The upload took too long",
        413: "The upload is too large, or has too many files",
        415: "The body is no form",
        421: "The Host header is not a name of this server",
        422: "There is nothing to answer",
        503: "The server is busy",
        504: "The answer took too long",
    }.items()
}


def create_app(
    bundle: str | Path,
    *,
    limits: ServingLimits | None = None,
    access: Access | None = None,
    engine: BundleEngine = "auto",
    workers: int = 1,
    display: Display = SILENT,
) -> FastAPI:
    """The application that serves a bundle; the workers start with it.

    Args:
        bundle: The folder. It is verified first.
        limits: What is accepted.
        access: Who may use it; by default this machine, without a token.
        engine: As for :meth:`gyrus.export.bundle.Bundle.open`.
        workers: Processes that decode and predict.
        display: Where the verification is shown.

    Raises:
        GyrusError: The bundle cannot be used, takes a table, or failed its verification.
    """
    folder, limits = local_bundle(bundle, display.say)[0].absolute(), limits or ServingLimits()
    verify_bundle(folder, display=display).require_passed()
    manifest = read_manifest(folder)
    if manifest.channels:
        raise ConfigError(
            f"This bundle takes several files of a session as channels ({', '.join(manifest.channels)}), which the "
            "server does not group. Predict with gyrus predict."
        )
    if manifest.table_columns:
        raise ConfigError(
            f"This bundle takes columns of a table ({', '.join(manifest.table_columns)}), which uploads do not carry. "
            "Predict with gyrus predict --table."
        )
    if any(member.subject_model for member in manifest.members):
        raise ConfigError(
            "This bundle answers for all images of a subject together, and the server for each scan alone. Predict "
            "with gyrus predict."
        )
    compares = any(member.unlike_training for member in manifest.members)
    scores = manifest.internal_scores
    internal = load_internal_scores(folder / scores, manifest.target) if scores else None
    metrics = Metrics()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with private_folder() as private:
            pool = Pool(folder, engine, private, limits, metrics, workers)
            app.state.server = server = _Server(limits, metrics, pool, private)
            try:
                await pool.start()
                server.about = describe(
                    manifest,
                    limits,
                    heat_map=not pool.about["heat_map"],
                    compares=compares,
                    evaluation=internal.evaluation if internal else None,
                )
                app.state.on_start()
                yield
            except GyrusError as error:
                app.state.failure = error
                raise
            finally:
                await pool.stop()

    app = FastAPI(
        title="Gyrus",  # what the classifier is may need a token
        summary="Answers of a brain-MRI classifier. For research only.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=life,
    )
    app.state.on_start, app.state.failure = (lambda: None), None
    app.add_middleware(Guard, access=access or Access(), routes=ROUTES, observe=metrics.observe)
    _add_errors(app)
    _add_routes(app)
    return app


class _Server:
    """The state of a running server."""

    def __init__(self, limits: ServingLimits, metrics: Metrics, pool: Pool, folder: Path) -> None:
        self.limits, self.metrics, self.pool, self.folder = limits, metrics, pool, folder
        self.about: dict[str, Any] = {}
        self._requests, self._held = 0, 0

    async def upload(self, request: Request, message: dict[str, Any], *, alone: bool) -> tuple[int, dict[str, Any]]:
        """Receive the files of a request and wait for their answer: status and body.

        Raises:
            RequestError: It is not answered.
        """
        boundary = require_form(
            request.headers.get("content-type", ""), request.headers.get("content-length"), self.limits
        )
        if self._requests >= self.limits.waiting:
            raise busy(f"{self._requests} requests wait already")
        self._requests += 1
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            if self._held + count > self.limits.held_bytes:
                raise busy("it holds too many uploads")
            self._held += count
            held += count

        try:
            with request_folder(self.folder) as folder:
                files = await receive_files(request.stream(), boundary, folder, self.limits, hold)
                named = [[name, path.name] for name, path in files]
                message = {**message, "folder": str(folder), "files": named}
                found = await _unless_gone(request, self.pool.answer(message, alone=alone))
                return int(found["status"]), dict(found["body"])
        finally:
            self._requests -= 1
            self._held -= held


async def _unless_gone(request: Request, answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The answer, unless the client leaves before.

    Raises:
        ClientDisconnect: It has left.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    waiting, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        await asyncio.wait([waiting, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        return waiting.result()
    finally:
        for task in (waiting, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def _add_errors(app: FastAPI) -> None:
    """Every error has the form ``{"error": ...}``."""
    app.add_exception_handler(RequestError, _of_request)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_parameters)
    app.add_exception_handler(ClientDisconnect, lambda _, __: JSONResponse({"error": "The client has left."}, 499))


def _of_request(_: Request, error: Any) -> Response:
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse({"error": str(error)}, error.status, headers)


def _of_http(_: Request, error: Any) -> Response:
    words = {404: "There is nothing at this address.", 405: "This address does not take this method."}
    return JSONResponse({"error": words.get(error.status_code, str(error.detail))}, error.status_code, error.headers)


def _of_parameters(_: Request, error: Any) -> Response:
    where = ", ".join(sorted({str(each["loc"][-1]) for each in error.errors()}))
    return JSONResponse({"error": f"These parameters are not valid: {where}."}, 422)


def _add_routes(app: FastAPI) -> None:
    page = resources.files("gyrus.serving") / "page"

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return _page_file(page, "index.html")

    @app.get("/page/{name:path}", include_in_schema=False)
    async def page_file(name: str) -> Response:
        return _page_file(page, name)

    @app.get("/healthz", summary="Whether the server runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        server: _Server = request.app.state.server
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/classifier", summary="What the classifier is, and how good it is")
    async def classifier(request: Request) -> dict[str, Any]:
        server: _Server = request.app.state.server
        return server.about

    @app.post(
        "/v1/predict",
        summary="Answers for scans",
        response_model=Answers,
        responses=_FAILURES,
        openapi_extra=_UPLOAD,
    )
    async def predict(
        request: Request, view: Annotated[bool, Query(description="add what a viewer shows")] = False
    ) -> Response:
        server: _Server = request.app.state.server
        start = time.perf_counter()
        status, body = await server.upload(request, {"kind": "predict", "view": view}, alone=False)
        if "answers" in body:
            body["seconds"] = time.perf_counter() - start
            server.metrics.scans.inc(len(body["answers"]))
            server.metrics.problems.inc(len(body["problems"]))
            if status != 200:  # nothing could be answered
                body["error"] = "; ".join(f"{each['name']}: {each['error']}" for each in body["problems"][:3]) + "."
        return JSONResponse(_without_nan(body), status)

    @app.post(
        "/v1/explain",
        summary="Heat map of one scan, with a verdict",
        response_model=Explanation,
        responses=_FAILURES,
        openapi_extra=_UPLOAD,
    )
    async def explain(
        request: Request,
        target: Annotated[str | None, Query(description="class; by default the predicted one")] = None,
        name: Annotated[str | None, Query(description="name of the scan, if the files hold several")] = None,
    ) -> Response:
        server: _Server = request.app.state.server
        message = {"kind": "explain", "target": target, "name": name}
        status, body = await server.upload(request, message, alone=True)
        return JSONResponse(body, status)


def _page_file(page: Any, name: str) -> Response:
    kind, parts = PAGE_FILES.get(Path(name).suffix), name.split("/")
    file = page.joinpath(*parts)
    plain = all(part[:1] not in ("", ".") and not {*part} & {"\\", ":", "\0"} for part in parts)
    if kind is None or not plain or not file.is_file():
        return JSONResponse({"error": "There is nothing at this address."}, 404)
    return Response(file.read_bytes(), headers={"content-type": kind})


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
