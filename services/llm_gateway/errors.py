"""The gateway's errors as OpenAI's error object, and the errors of model servers translated into it.

Known formats: OpenAI's `{"error":{...}}`; FastChat's flat `{"object":"error","message","code":40303}`,
which always comes with status 400 (fastchat/constants.py, `ErrorCode`); the flat object of older vLLM, with an HTTP
status in `code`; FastAPI's `{"detail": ...}` (transformers serve); `{"error":"text"}` of Ollama and TGI.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import Response

from zhiwen.common.errors import InvalidRequest, ServiceError
from zhiwen.common.web import service_error_of

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 504: "timeout_error"}
_FASTCHAT = {40001: 400, 40101: 401, 40102: 401, 40103: 403, 40301: 404, 40302: 400, 40303: 400, 42901: 429}
_FASTCHAT |= {42902: 429, 42903: 429, 50001: 502, 50002: 503, 50003: 502, 50004: 502, 50005: 503, 50006: 504}
_FASTCHAT_NAMES = {40301: "model-not-found", 40303: "context_length_exceeded"}


class FailureKind(StrEnum):
    """Where a call to a model server went wrong."""

    CONNECT = "connect"  # no connection: refused, no such host, TLS
    DISCONNECT = "disconnect"  # closed before the first byte of an answer
    TIMEOUT = "timeout"  # no first byte in time
    STATUS = "status"  # an HTTP error
    EMPTY = "empty"  # status 200 without an answer
    GARBAGE = "garbage"  # an answer that breaks the protocol
    DIED = "died"  # broke off in the middle of the answer
    IDLE = "idle"  # silent for too long in the middle of the answer


class UpstreamFailure(Exception):
    """A call to a model server failed. `upstreams.failures` decides what to do; the client never sees this exception.

    `kind` says where the call failed. `detail` continues a sentence that begins with the server's name. `status` and
    `body` are those of an HTTP error. `retry_after` is in seconds.
    """

    def __init__(
        self, kind: FailureKind, detail: str, *, status: int = 0, retry_after: float | None = None, body: bytes = b""
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
        self.body = body


class UpstreamError(ServiceError):
    """The error that the client sees when a model server failed or refused.

    `code`, `detail`, `status` and `headers` are those of `ServiceError`. `body` is the server's own error object in
    OpenAI's format, which is passed on unchanged. `param` is the field that the server refused.
    """

    status = 502
    title = "Model server error"

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int = 502,
        body: bytes | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, detail, status=status, headers=headers)
        self.body = body
        self.param = param
        self.retryable = status in {429, 502, 503, 504}


def invalid_field(field: str, detail: str, *, code: str = "invalid-request") -> InvalidRequest:
    """Return the error 400 for a field with a wrong value."""
    return InvalidRequest(code, detail, status=400, errors=[{"field": field, "message": detail}])


def error_type(status: int) -> str:
    """Return OpenAI's `type` of an error with this status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def error_object(error: ServiceError) -> dict[str, Any]:
    """Return `{"error": {"message", "type", "param", "code"}}`."""
    param = getattr(error, "param", None) or (error.errors[0].get("field") if error.errors else None)
    if param:
        param = param.removeprefix("body.")
    return {
        "error": {"message": error.detail, "type": error_type(error.status), "param": param, "code": error.code},
    }


def error_body(error: ServiceError) -> bytes:
    """Return the error object as bytes: the model server's own, if it sent one."""
    if isinstance(error, UpstreamError) and error.body is not None:
        return error.body
    return orjson.dumps(error_object(error))


def error_event(error: ServiceError) -> bytes:
    """Return the event that ends a stream with an error."""
    body = error_body(error).strip().replace(b"\n", b" ").replace(b"\r", b" ")  # in JSON they are only white space
    return b"data: " + body + b"\n\n"


async def render(_request: Request, exc: Exception) -> Response:
    """Render any exception. The text of an unexpected one goes to the log, not to the client."""
    error = service_error_of(exc)
    return Response(error_body(error), error.status, error.headers, "application/json")


def translate(status: int, body: bytes, *, upstream: str) -> UpstreamError:
    """Translate the error that a model server sent as `status` and `body`.

    401 and 403 become 502, because the server refused the gateway's key and not the client's. Text that is not JSON is
    left out. `upstream` is the server's name.
    """
    payload = json_object(body)
    if status in (401, 403):
        return UpstreamError(
            "upstream-refused-key", f"The model server {upstream} refused the gateway's key ({status})."
        )
    if payload is not None and (found := error_in(payload, status)) is not None:
        if _is_openai(payload):
            found.body = body.strip()
        return found
    shown = status if 400 <= status < 600 else 502
    return UpstreamError("upstream-error", f"The model server {upstream} answered {status}.", status=_outward(shown))


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `body` holds, or None when it holds none."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None


def error_in(payload: Mapping[str, Any], status: int = 502) -> UpstreamError | None:
    """Return the error in a JSON answer or event, in one of the known formats, or None."""
    match payload:
        case {"error": {"message": str(message)} as inner}:
            code = inner.get("code")
            return UpstreamError(
                str(_plain(code) or _plain(inner.get("type")) or "upstream-error"),
                message,
                status=_status_of(code, status),
                param=_text(inner.get("param")),
            )
        case {"error": str(message)}:
            return UpstreamError("upstream-error", message, status=_outward(status))
        case {"object": "error", "message": str(message)}:
            code = payload.get("code")
            name = _FASTCHAT_NAMES.get(code, "upstream-error") if isinstance(code, int) else "upstream-error"
            return UpstreamError(name, message, status=_status_of(code, status), param=_text(payload.get("param")))
        case {"error_code": int(code), "text": str(message)} if code:
            return UpstreamError("upstream-error", message, status=_status_of(code, status))
        case {"detail": str(message)}:
            return UpstreamError("upstream-error", message, status=_outward(status))
        case {"detail": [*items]} if items:
            return UpstreamError("upstream-error", _validation_text(items), status=_outward(status))
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _plain(value: object) -> str | int | None:
    """Return a string or a number, otherwise None: another value may be nested too deeply to serialize."""
    return value if isinstance(value, str | int) else None


def _status_of(code: object, status: int) -> int:
    if isinstance(code, int) and not isinstance(code, bool):
        if code in _FASTCHAT:
            return _outward(_FASTCHAT[code])
        if 400 <= code < 600:
            return _outward(code)
    return _outward(status)


def _outward(status: int) -> int:
    """Return the status that the client sees: 502 in place of 500, and of 401 and 403, which are about our key."""
    if status in (401, 403, 500) or not 400 <= status < 600:
        return 502
    return status


def _is_openai(payload: Mapping[str, Any]) -> bool:
    inner = payload.get("error")
    return isinstance(inner, Mapping) and {"message", "type"} <= inner.keys()


def _validation_text(items: list[Any]) -> str:
    texts = []
    for item in items[:3]:
        if isinstance(item, Mapping) and isinstance(item.get("msg"), str):
            loc = item.get("loc")
            place = ".".join(str(part) for part in loc if isinstance(part, str | int)) if isinstance(loc, list) else ""
            texts.append(f"{place}: {item['msg']}" if place else item["msg"])
    return "; ".join(texts) or "The model server refused the request."
