"""The programs that an installation puts on the PATH. One without its extra says in a sentence what to install."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module


def command_line() -> None:
    """Run `zhiwen`."""
    _run("zhiwen.cli.main", extra="cli")


def ingest() -> None:
    """Run `zhiwen-ingest`."""
    _run("zhiwen.ingest.api.app", extra="ingest")


def worker() -> None:
    """Run `zhiwen-worker`."""
    _run("zhiwen.ingest.worker.main", extra="worker")


def query() -> None:
    """Run `zhiwen-query`."""
    _run("zhiwen.query.api.app", extra="query")


def gateway() -> None:
    """Run `zhiwen-gateway`."""
    _run("zhiwen.llm_gateway.app", extra="gateway")


def webui() -> None:
    """Run `zhiwen-webui`."""
    _run("zhiwen.webui.app", extra="webui")


def _run(module: str, *, extra: str) -> None:
    """Import a module and run its `main`. Ends with exit code 2 where a package that it needs is not installed."""
    try:
        main: Callable[[], None] = import_module(module).main
        main()
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "zhiwen":
            raise
        print(
            f"zhiwen: the package {exc.name} is missing. Install it with: pip install 'zhiwen[{extra}]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from exc
