"""Logs and metrics: one line of JSON for each request and each job, and Prometheus metrics without ids as labels.

Document text and API keys are never logged.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from typing import Any

import orjson
import structlog
from prometheus_client import Counter, Histogram

REQUEST_ID_HEADER = "X-Request-ID"
NOISY = ("httpx", "httpcore", "pymilvus", "urllib3", "botocore", "sentence_transformers", "uvicorn.access")
"""Loggers whose debug and info lines repeat our own lines."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

REQUESTS = Counter("zhiwen_http_requests", "HTTP requests", ["service", "method", "route", "status"])
REQUEST_SECONDS = Histogram("zhiwen_http_request_seconds", "Seconds to the last byte", ["service", "method", "route"])
JOBS = Counter("zhiwen_jobs", "Jobs that ended", ["kind", "outcome"])
JOB_SECONDS = Histogram(
    "zhiwen_job_seconds", "Seconds a job took", ["kind"], buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
)
CHUNKS = Counter("zhiwen_chunks_indexed", "Chunks embedded and written")


def configure_logging(service: str, level: str, fmt: str) -> None:
    """Send the log lines of structlog and of the standard library to stderr, in one format.

    `service` is the name in every line. `level` is the least severe level shown. `fmt` is `json` or `console`.
    """
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
    ]
    structlog.configure(
        processors=[*processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _renderer(fmt),
            ],
        )
    )
    # No line shows these fields, so logging does not collect them: https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel("WARNING")


def _renderer(fmt: str) -> structlog.typing.Processor:
    if fmt == "console":
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer(_json)


def _json(event: structlog.typing.EventDict, **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=repr).decode()
    except TypeError:  # half of a surrogate pair, or a number of more than 64 bits
        return json.dumps(event, default=repr, skipkeys=True)


def _add_service(service: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add


def request_id_from(header: str | None) -> str:
    """Return the request id in a header. If it is missing or not safe to log, return a new one of 16 hex digits."""
    if header and _REQUEST_ID.fullmatch(header):
        return header
    return secrets.token_hex(8)


def current_request_id() -> str | None:
    """Return the id of the current request. In a worker it is the request that queued the current job."""
    value = structlog.contextvars.get_contextvars().get("request_id")
    return str(value) if value is not None else None
