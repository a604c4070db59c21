"""The exceptions of the clients. Each carries problem+json (RFC 9457).

ApiError
├── NoAnswerError                  no service answered: `status` is 0
│   ├── UnreachableError           nothing was sent
│   └── ConnectionLostError        the service may have done what was asked
├── UnexpectedAnswerError          what answered is not the service that was asked
├── InvalidRequestError            400, 422 and every 4xx without a class of its own
│   ├── UnauthorizedError (401) · ForbiddenError (403) · NotFoundError (404) · ConflictError (409)
│   └── TooLargeError (413) · UnsupportedError (415) · TooManyRequestsError (429)
└── ServiceFailedError             5xx
    └── UnavailableError (503)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from zhiwen.client.addresses import DEFAULT_URLS, TITLES, Service, is_address
from zhiwen.common.http_retry import retry_after


class ApiError(Exception):
    """A request failed.

    `problem` is the service's own problem+json, or one made here when no service answered. `retry_after` is how many
    seconds the service asks to wait. `request_id` names the request in the service's log. Both are None when the
    service did not send them.
    """

    def __init__(
        self, problem: Mapping[str, Any], *, retry_after: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(problem)
        self.problem = dict(problem)
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        return self.detail

    @property
    def status(self) -> int:
        """The HTTP status; 0 when there was no answer."""
        return int(self.problem.get("status", 0))

    @property
    def code(self) -> str:
        """The stable name of the error, for programs. docs/errors.md lists all names."""
        return str(self.problem.get("code", ""))

    @property
    def title(self) -> str:
        """The kind of error, for people."""
        return str(self.problem.get("title", ""))

    @property
    def detail(self) -> str:
        """A sentence that tells a person what to do."""
        return str(self.problem.get("detail", ""))

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The fields that were wrong, each with `field` and `message`."""
        errors = self.problem.get("errors")
        return list(errors) if isinstance(errors, list) else []


class NoAnswerError(ApiError):
    """No service answered; `service` is the one that was asked."""

    def __init__(self, problem: Mapping[str, Any], *, service: Service = "ingest") -> None:
        super().__init__(problem)
        self.service: Service = service


class UnreachableError(NoAnswerError):
    """Nothing listens at the address of the service, so nothing was sent."""


class ConnectionLostError(NoAnswerError):
    """The connection broke off, or the answer took too long. The service may have handled the request."""


class UnexpectedAnswerError(ApiError):
    """The answer is not one of this service: something else listens at its address."""


class InvalidRequestError(ApiError):
    """The request is wrong; the same request will not succeed later."""


class UnauthorizedError(InvalidRequestError):
    """The key is missing or not known."""


class ForbiddenError(InvalidRequestError):
    """The key may not do this."""


class NotFoundError(InvalidRequestError):
    """There is no such knowledge base or document."""


class ConflictError(InvalidRequestError):
    """The request conflicts with what already exists."""


class TooLargeError(InvalidRequestError):
    """A file or the request is too large."""


class UnsupportedError(InvalidRequestError):
    """A file of this kind cannot be read."""


class TooManyRequestsError(InvalidRequestError):
    """A limit is reached. The same request may succeed after `retry_after` seconds."""


class ServiceFailedError(ApiError):
    """The service failed."""


class UnavailableError(ServiceFailedError):
    """Something that the service depends on does not answer; the same request may succeed later."""


_CLASSES: Final[Mapping[int, type[ApiError]]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    415: UnsupportedError,
    429: TooManyRequestsError,
    503: UnavailableError,
}


OTHER_SERVICE: Final = "route-not-found"
"""The code with which a service of Zhiwen answers that is not the one that was asked, or is older."""


def problem(code: str, title: str, detail: str, *, status: int | None = None, instance: str = "") -> dict[str, Any]:
    """Return a problem that the client itself makes.

    `code`, `title`, `detail`, `status` and `instance` (the address it is about) are those of problem+json.
    """
    made: dict[str, Any] = {"type": "about:blank", "title": title, "detail": detail, "code": code, "instance": instance}
    if status is not None:
        made["status"] = status
    return made


def error_of_problem(
    body: Mapping[str, Any], *, retry_after: float | None = None, request_id: str | None = None
) -> ApiError:
    """Return the exception for a service's problem. The class depends on the status.

    Raises `ValueError` when `body` is no problem.
    """
    status = body.get("status", 0)
    if not isinstance(status, int):
        raise ValueError("the status of a problem is a number")
    found = _CLASSES.get(status, ServiceFailedError if status >= 500 else InvalidRequestError)
    return found(body, retry_after=retry_after, request_id=request_id)


def error_of_response(response: httpx.Response, service: Service) -> ApiError:
    """Return the exception for an error response whose body was read."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "code" in body and "detail" in body and body["code"] != OTHER_SERVICE:
        body = {**body, "status": response.status_code}  # RFC 9457: the one in the body is only advisory
        request_id = response.headers.get("x-request-id")
        return error_of_problem(body, retry_after=retry_after(response), request_id=request_id)
    return unexpected_answer(response, service)


def unexpected_answer(response: httpx.Response, service: Service) -> UnexpectedAnswerError:
    """Return the exception for an answer that the service does not give."""
    url = str(response.request.url.copy_with(path="/", query=None)).rstrip("/")
    detail = f"What answers at {url} is not {TITLES[service]} of Zhiwen (HTTP {response.status_code})."
    made = problem(
        "unexpected-answer",
        "Unexpected answer",
        detail,
        status=response.status_code,
        instance=response.request.url.path,
    )
    return UnexpectedAnswerError(made, request_id=response.headers.get("x-request-id"))


def unreachable(service: Service, url: str) -> UnreachableError:
    """Return the exception for a service that does not answer at its address, or whose address is none."""
    title = TITLES[service]
    if is_address(url):
        detail = (
            f"{title[0].upper()}{title[1:]} does not answer at {url}: start it with `zhiwen up` (or zhiwen-{service}), "
            f"or set ZHIWEN_{service.upper()}_URL to its address."
        )
    else:
        detail = f"{url} is no address of {title}: an address is like {DEFAULT_URLS[service]}."
    made = problem("service-unreachable", "Service unreachable", detail, instance=url)
    return UnreachableError(made, service=service)


def connection_lost(service: Service, url: str, why: str) -> ConnectionLostError:
    """Return the exception for a connection that broke off. `why` ends the sentence of its detail."""
    detail = f"The connection to {TITLES[service]} at {url} was lost: {why}."
    made = problem("connection-lost", "Connection lost", detail, instance=url)
    return ConnectionLostError(made, service=service)


def error_of_exception(exc: Exception, service: Service, url: str) -> ApiError:
    """Return the exception for one that httpx raised."""
    match exc:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return unreachable(service, url)
        case httpx.TimeoutException():
            return connection_lost(service, url, "it took too long")
        case _:
            return connection_lost(service, url, str(exc) or type(exc).__name__)
