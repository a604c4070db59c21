"""The errors of all services.

They are raised anywhere and rendered in one place: as problem+json (RFC 9457) by `common.web`, and as OpenAI's error
object in the gateway and in every OpenAI-shaped route. `code` is kebab-case, stable, and documented in
`docs/errors.md`.

    ServiceError
    ├── InvalidRequest (422)        bad-filter, bad-template, unknown-index-type, ...
    ├── Unauthorized (401) · Forbidden (403) · NotFound (404) · Conflict (409)
    ├── TooLarge (413) · Unsupported (415) · TooMany (429, with Retry-After)
    ├── Unavailable (503)           a dependency does not answer; retryable
    └── DocumentError (422)         this document cannot be indexed; never retryable: encrypted, no-text, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any


class ServiceError(Exception):
    """An error that a client may read.

    `code` is for programs and never changes. `detail` is a sentence that a person can act on. `retryable` says whether
    the same request may succeed later. `errors` lists invalid fields. `headers` go on the response. `status` replaces
    the HTTP status of the class.
    """

    status: int = 500
    title: str = "Internal error"
    retryable: bool = False

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        if status is not None:
            self.status = status
            self.title = HTTPStatus(status).phrase

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class InvalidRequest(ServiceError):
    """The request cannot be understood or asks for something impossible."""

    status = 422
    title = "Invalid request"


class Unauthorized(ServiceError):
    """The request has no valid API key."""

    status = 401
    title = "Unauthorized"


class Forbidden(ServiceError):
    """The API key does not allow this request."""

    status = 403
    title = "Forbidden"


class NotFound(ServiceError):
    """What the request names does not exist."""

    status = 404
    title = "Not found"


class Conflict(ServiceError):
    """The request does not fit the present state, for example a name that is taken."""

    status = 409
    title = "Conflict"


class TooLarge(ServiceError):
    """The request or a file is larger than a limit."""

    status = 413
    title = "Too large"


class Unsupported(ServiceError):
    """The service does not accept this kind of content."""

    status = 415
    title = "Unsupported media type"


class TooMany(ServiceError):
    """The request is over a limit. `retry_after`, in seconds, becomes the `Retry-After` header."""

    status = 429
    title = "Too many requests"
    retryable = True

    def __init__(self, code: str, detail: str, *, retry_after: int) -> None:
        super().__init__(code, detail, headers={"Retry-After": str(retry_after)})
        self.retry_after = retry_after


class Unavailable(ServiceError):
    """A dependency does not answer. The same request may succeed later."""

    status = 503
    title = "Service unavailable"
    retryable = True


class DocumentError(ServiceError):
    """The document cannot be indexed, and a retry does not help. It ends as `failed`, or as `rejected` at upload."""

    status = 422
    title = "Document cannot be indexed"


class ConfigurationError(Exception):
    """The settings are wrong. The process prints the sentence and does not start."""
