"""Builds a FastAPI application: error rendering, middlewares, and the documentation page."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import Lifespan

from zhiwen import __version__
from zhiwen.common.errors import ServiceError
from zhiwen.common.web.middlewares import BodyLimit, CatchAll, RequestContext
from zhiwen.common.web.problems import Problem, render_problem


def new_app(title: str, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """Return an application with its documentation at `/docs`, which also describes the errors.

    `lifespan` yields the state that each request gets as `request.state`.
    """
    responses: dict[int | str, dict[str, Any]] = {422: {"model": Problem}}
    app = FastAPI(
        title=title, version=__version__, lifespan=lifespan, responses=responses, docs_url=None, redoc_url=None
    )
    add_docs(app)
    return app


def add_docs(app: FastAPI) -> None:
    """Add `/docs`. The application serves the files of Swagger UI itself; FastAPI's own page loads them from a CDN."""
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
    render: Callable[[Request, Exception], Awaitable[Response]] = render_problem,
    unlimited_paths: re.Pattern[str] | None = None,
) -> None:
    """Add error rendering, request ids, metrics, and a limit on the size of bodies to `app`.

    `service` is its name in metrics. `render` returns the response to an error; by default it is problem+json.
    `unlimited_paths` matches the paths whose routes have their own limit.
    """
    for kind in (ServiceError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, render)
    app.add_middleware(BodyLimit, unlimited_paths=unlimited_paths)
    app.add_middleware(CatchAll, render=render)
    app.add_middleware(RequestContext, service=service)
