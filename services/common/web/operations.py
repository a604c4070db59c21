"""The routes for operators: liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from zhiwen.common.errors import ServiceError

log = structlog.get_logger(__package__)

Check = Callable[[], Coroutine[Any, Any, None]]
"""A readiness check. It returns when the dependency answers, and raises when it does not."""

CHECK_SECONDS = 3.0


def add_operations_routes(app: FastAPI, checks: Callable[[Request], Mapping[str, Check]]) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`. `checks` returns the readiness checks by the names of dependencies."""

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
    async def readyz(request: Request) -> Response:
        named = checks(request)
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
    except Exception as exc:  # whatever the library of a dependency raises
        log.warning("readiness_check_failed", exc_info=exc)
        return f"failed ({type(exc).__name__})"
    return "ok"


def in_thread(function: Callable[[], object]) -> Check:
    """Return a readiness check that calls a blocking function in its own thread.

    A function that hangs does not delay other checks. A check that starts while the function runs waits for that run.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readiness")
    running: asyncio.Future[object] | None = None

    async def check() -> None:
        nonlocal running
        loop = asyncio.get_running_loop()
        if running is None or running.done() or running.get_loop() is not loop:
            running = loop.run_in_executor(pool, function)
            running.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # mark an exception as seen, even if no check waits
        await asyncio.shield(running)

    return check
