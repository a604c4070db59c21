"""Errors as problem+json (RFC 9457): the schema of the body, and the conversion of exceptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from zhiwen.common.errors import InvalidRequest, NotFound, ServiceError
from zhiwen.common.telemetry import current_request_id

log = structlog.get_logger(__package__)


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
    """Return the OpenAPI `responses` for the given error statuses and for 401, 403, 413 and 422."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({401, 403, 413, 422, *statuses})
    }


class _ProblemResponse(JSONResponse):
    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        # The detail may quote the request, and the request may hold half of a surrogate pair.
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
    """Return the `ServiceError` for an exception of ours, of FastAPI or of Starlette, or for an unexpected one.

    The text of an unexpected exception goes to the log only.
    """
    match exc:
        case ServiceError():
            return exc
        case RequestValidationError():
            fields = [{"field": ".".join(map(str, e["loc"])), "message": _message(e)} for e in exc.errors()]
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
                f"An unexpected error occurred. It is logged under request id {current_request_id()}.",
            )


def _message(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a field, without pydantic's own words for a typing mistake and for our checks."""
    if error["type"] == "extra_forbidden":
        return "There is no such field"
    return str(error["msg"]).removeprefix("Value error, ")


async def render_problem(request: Request, exc: Exception) -> Response:
    """Render any exception as problem+json."""
    return problem_response(request, service_error_of(exc))
