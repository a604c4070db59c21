"""What can go wrong for a client, as one exception that carries problem+json (RFC 9457)."""

from __future__ import annotations

from typing import Any

import httpx

Json = dict[str, Any]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_ALLOWED = 4
EXIT_NOT_FOUND = 5
EXIT_CONFLICT = 6
_EXIT_CODES = {401: EXIT_NOT_ALLOWED, 403: EXIT_NOT_ALLOWED, 404: EXIT_NOT_FOUND, 409: EXIT_CONFLICT}


class ApiError(Exception):
    """A request that did not go through.

    `problem` is the service's own problem+json, or one made here when no service answered; the latter has no
    `status`. `retry_after` is in seconds.
    """

    def __init__(self, problem: Json, *, retry_after: float | None = None) -> None:
        super().__init__(str(problem.get("detail", "")))
        self.problem = problem
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status, 0 when there was no answer."""
        return int(self.problem.get("status", 0))

    @property
    def code(self) -> str:
        return str(self.problem.get("code", ""))

    @property
    def detail(self) -> str:
        return str(self.problem.get("detail", ""))

    @property
    def exit_code(self) -> int:
        """What a command that met this ends with."""
        return _EXIT_CODES.get(self.status, EXIT_FAILED) if self.status else EXIT_UNREACHABLE


class Usage(Exception):
    """The command was not given what it needs; the text is one sentence for the person at the keyboard."""


def problem(code: str, title: str, detail: str, *, status: int | None = None, instance: str = "") -> Json:
    """Return a problem made on this side."""
    made: Json = {"type": "about:blank", "title": title, "detail": detail, "code": code, "instance": instance}
    if status is not None:
        made["status"] = status
    return made


def error_of_response(response: httpx.Response, *, what: str) -> ApiError:
    """Turn an error response, already read, into an `ApiError`; `what` names the service (the ingest API)."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "code" in body and "detail" in body:
        return ApiError(body, retry_after=_seconds(response.headers.get("retry-after")))
    return unexpected_answer(response, what=what)


def unexpected_answer(response: httpx.Response, *, what: str) -> ApiError:
    """The error for an answer that Zhiwen's services do not give."""
    url = str(response.request.url.copy_with(path="/", query=None)).rstrip("/")
    detail = f"What answers at {url} does not speak like {what} of Zhiwen (HTTP {response.status_code})."
    made = problem(
        "unexpected-answer",
        "Unexpected answer",
        detail,
        status=response.status_code,
        instance=response.request.url.path,
    )
    return ApiError(made)


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header else None
    except ValueError:
        return None
