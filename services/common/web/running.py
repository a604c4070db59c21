"""How a service runs as a process: under uvicorn, and ended by one sentence when it is not configured right."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from zhiwen.common.errors import ConfigurationError


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
