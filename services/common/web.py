"""What every FastAPI service is built on: errors, request ids, health, metrics, and the uvicorn runner."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services import __version__
from services.common.errors import ConfigurationError, InvalidRequest, NotFound, ServiceError, TooLarge
from services.common.telemetry import (
    REQUEST_ID_HEADER,
    REQUEST_SECONDS,
    REQUESTS,
    current_request_id,
    request_id_from,
)

log = structlog.get_logger(__name__)

Check = Callable[[], Coroutine[Any, Any, None]]
"""A readiness check: returns when the dependency answers, raises when it does not."""

CHECK_SECONDS = 3.0
MAX_BODY_BYTES = 2**20
"""Of a request whose route does not count for itself: FastAPI parses JSON before it asks for the key."""


class Problem(BaseModel):
    """problem+json (RFC 9457), the body of every error."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no knowledge base named 手册."])
    code: str = Field(description="Stable name of the error, for programs.", examples=["knowledge-base-not-found"])
    instance: str = Field(examples=["/v1/knowledge-bases/手册"])
    errors: list[dict[str, Any]] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` for the given error statuses, in addition to 401, 403, 413 and 422."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({401, 403, 413, 422, *statuses})
    }


class RequestContext:
    """ASGI middleware: gives each request its id, logs one line, counts it, and lets nothing unknown leak.

    Plain ASGI and not `BaseHTTPMiddleware`, which buffers streams and breaks disconnects.
    """

    def __init__(self, app: ASGIApp, service: str) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = request_id_from(headers.get(REQUEST_ID_HEADER.lower().encode(), b"").decode("latin-1"))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER.encode(), request_id.encode())]
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"]
        counter, histogram = _metrics_of(self.service, method, route, status)
        counter.inc()
        histogram.observe(seconds)
        if route not in {"/healthz", "/readyz", "/metrics"}:
            log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


@lru_cache(maxsize=1024)
def _metrics_of(service: str, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return the counter and the histogram of these labels; prometheus_client looks them up more slowly."""
    return REQUESTS.labels(service, method, route, str(status)), REQUEST_SECONDS.labels(service, method, route)


class _ProblemResponse(JSONResponse):
    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        # An error may quote what was sent, and that may hold half of a surrogate pair.
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def problem_response(request: Request, error: ServiceError) -> JSONResponse:
    """Render a `ServiceError` as problem+json."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "instance": request.url.path,
    }
    if error.errors is not None:
        body["errors"] = error.errors
    return _ProblemResponse(body, status_code=error.status, headers=error.headers)


def service_error_of(exc: Exception) -> ServiceError:
    """Translate what FastAPI, Starlette or a defect raised into the family; the text of a defect stays in the log."""
    match exc:
        case ServiceError():
            return exc
        case RequestValidationError():
            fields = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in exc.errors()]
            bad_json = any(e["type"] == "json_invalid" for e in exc.errors())
            code = "invalid-json" if bad_json else "invalid-request"
            detail = (
                "The body is not valid JSON."
                if bad_json
                else "; ".join(f"{f['field']}: {f['message']}" for f in fields[:3])
            )
            return InvalidRequest(code, detail, errors=fields)
        case HTTPException(status_code=400, detail="There was an error parsing the body"):  # FastAPI: not even UTF-8
            return InvalidRequest("invalid-json", "The body is not valid JSON.")
        case HTTPException(status_code=404):
            return NotFound("route-not-found", "There is no such route; see /docs.")
        case HTTPException():
            error = ServiceError(
                HTTPStatus(exc.status_code).phrase.lower().replace(" ", "-"),
                str(exc.detail),
                status=exc.status_code,
                headers=exc.headers,
            )
            error.title = HTTPStatus(exc.status_code).phrase
            return error
        case _:
            log.error("unexpected_error", exc_info=exc)
            return ServiceError(
                "internal-error",
                f"Something went wrong here. It is logged under request id {current_request_id()}.",
            )


async def _render(request: Request, exc: Exception) -> Response:
    return problem_response(request, service_error_of(exc))


class CatchAll:
    """ASGI middleware inside `RequestContext`: a defect becomes a rendered 500 while its request id is still bound."""

    def __init__(self, app: ASGIApp, render: Callable[[Request, Exception], Awaitable[Response]]) -> None:
        self.app = app
        self.render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:  # no database takes it, so nothing has it
                raise InvalidRequest("invalid-request", "An address cannot hold the character NUL.")
            await self.app(scope, receive, note_start)
        except Exception as exc:
            response = await self.render(Request(scope, receive), exc)
            if started:
                raise
            await response(scope, receive, send)


class BodyLimit:
    """ASGI middleware inside `CatchAll`: refuses what is larger than `MAX_BODY_BYTES` before anybody looks into it.

    `uncounted` matches the paths whose routes have limits of their own. Not FastAPI's `max_body_size`, whose answer is
    plain text without a request id.
    """

    def __init__(self, app: ASGIApp, uncounted: re.Pattern[str] | None = None) -> None:
        self.app = app
        self.uncounted = uncounted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (self.uncounted and self.uncounted.fullmatch(scope["path"])):
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            raise _body_too_large()
        received: Message | None = await _whole_body(receive)

        async def receive_again() -> Message:
            nonlocal received
            message, received = received, None
            return await receive() if message is None else message

        await self.app(scope, receive_again, send)


async def _whole_body(receive: Receive) -> Message:
    """Return the body as one message, or the news that the client left. Raises `TooLarge`."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise _body_too_large()
        if not message.get("more_body", False):
            return {"type": "http.request", "body": b"".join(parts), "more_body": False}


def _body_too_large() -> TooLarge:
    return TooLarge("request-too-large", f"The body of this request may be {MAX_BODY_BYTES} bytes long.")


def new_app(title: str, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """Return an application that documents its errors, and itself at `/docs`."""
    responses: dict[int | str, dict[str, Any]] = {422: {"model": Problem}}
    app = FastAPI(
        title=title, version=__version__, lifespan=lifespan, responses=responses, docs_url=None, redoc_url=None
    )
    add_docs(app)
    return app


def add_docs(app: FastAPI) -> None:
    """Add `/docs`, with the files of Swagger UI served from here: FastAPI's own page fetches them from a CDN."""
    files = StaticFiles(directory=str(importlib.resources.files("fastapi_offline") / "static"))
    app.mount("/docs/files", files, name="docs-files")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}/docs/files/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/files/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/files/favicon.png",
        )


def install(
    app: FastAPI,
    service: str,
    *,
    render: Callable[[Request, Exception], Awaitable[Response]] = _render,
    uncounted: re.Pattern[str] | None = None,
) -> None:
    """Give `app` the error rendering (problem+json unless `render` says otherwise), request ids, and a limit of bodies
    but for the paths that `uncounted` matches."""
    for kind in (ServiceError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, render)
    app.add_middleware(BodyLimit, uncounted=uncounted)
    app.add_middleware(CatchAll, render=render)
    app.add_middleware(RequestContext, service=service)


def add_operations_routes(app: FastAPI, checks: Callable[[], Mapping[str, Check]]) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`. `checks` names each dependency and is asked at every call."""

    @app.get("/healthz", tags=["operations"], summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operations"],
        summary="The dependencies answer",
        responses={
            200: {"content": {"application/json": {"example": {"status": "ready", "checks": {"ledger": "ok"}}}}},
            503: {"description": "At least one dependency does not answer"},
        },
    )
    async def readyz() -> Response:
        named = checks()
        outcomes = await asyncio.gather(*(_outcome(check) for check in named.values()))
        ready = all(outcome == "ok" for outcome in outcomes)
        body = {
            "status": "ready" if ready else "not-ready",
            "checks": dict(zip(named, outcomes, strict=True)),
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _outcome(check: Check) -> str:
    try:
        await asyncio.wait_for(check(), CHECK_SECONDS)
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except ServiceError as exc:
        return exc.detail
    except Exception as exc:
        log.warning("readiness_check_failed", exc_info=exc)
        return f"failed ({type(exc).__name__})"
    return "ok"


def in_thread(function: Callable[[], object]) -> Check:
    """Make a readiness check of a blocking function, in a thread of its own.

    One that hangs holds up nothing else, and whoever asks meanwhile waits for the same answer.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readiness")
    running: asyncio.Future[object] | None = None

    async def check() -> None:
        nonlocal running
        loop = asyncio.get_running_loop()
        if running is None or running.done() or running.get_loop() is not loop:
            running = loop.run_in_executor(pool, function)
            running.add_done_callback(lambda done: done.cancelled() or done.exception())  # also if nobody waits
        await asyncio.shield(running)

    return check


def serve(create_app: Callable[[], FastAPI], *, host: str, port: int) -> None:
    """Run one service with uvicorn until SIGTERM or SIGINT; open requests get 10 s to end."""
    uvicorn.run(
        create_app(),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        server_header=False,
    )


@contextlib.contextmanager
def configuration_errors_end_the_process() -> Any:
    """Print a `ConfigurationError` as one sentence and exit with 2, no traceback."""
    try:
        yield
    except ConfigurationError as exc:
        print(f"zhiwen: {exc}", file=sys.stderr)
        raise SystemExit(2) from exc
