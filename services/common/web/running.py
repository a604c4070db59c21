"""Runs a service as a process: reads its settings, starts uvicorn, and reports wrong settings in one sentence."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import uvicorn
from fastapi import FastAPI

from zhiwen.common.errors import ConfigurationError
from zhiwen.common.settings import CommonSettings, require_loopback_or_key
from zhiwen.common.telemetry import configure_logging

if TYPE_CHECKING:
    from zhiwen.common.ledger import Ledger

SettingsT = TypeVar("SettingsT", bound=CommonSettings)
LedgerT = TypeVar("LedgerT", bound="Ledger | None")


def run_service(
    name: str,
    read_settings: Callable[[], SettingsT],
    create_app: Callable[[SettingsT, LedgerT], FastAPI],
    *,
    find_ledger: Callable[[SettingsT], LedgerT],
    port: Callable[[SettingsT], int],
) -> None:
    """Run one service as its settings say, until SIGTERM or SIGINT. Every entry point of a service calls this.

    `name` is the service's name in log lines. `read_settings` reads the environment. `find_ledger` opens the ledger and
    migrates it (`migrated_ledger`), or returns None if the service runs without one. `create_app` builds the
    application, which closes the ledger when it ends. `port` returns the service's port from its settings.

    Wrong settings end the process with exit code 2 and one sentence. The same happens when the service would listen
    beyond this machine while no API key exists.
    """
    from zhiwen.common.auth.keyring import KeyRing  # not at the top: the page imports this module without SQLAlchemy

    with configuration_errors_end_the_process():
        settings = read_settings()
        configure_logging(name, settings.log_level, settings.log_format)
        ledger = find_ledger(settings)
        keys = KeyRing(ledger, settings.api_key.get_secret_value())
        require_loopback_or_key(settings.host, has_key=keys.has_key())
        serve(lambda: create_app(settings, ledger), host=settings.host, port=port(settings))


def migrated_ledger(settings: CommonSettings) -> Ledger:
    """Open the ledger that the settings name, and bring its tables to the newest revision."""
    from zhiwen.common.ledger import open_ledger

    ledger = open_ledger(settings.ledger_url)
    ledger.database.migrate()
    return ledger


def serve(create_app: Callable[[], FastAPI], *, host: str, port: int) -> None:
    """Run an application with uvicorn until SIGTERM or SIGINT. Open requests then have 10 s to end."""
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
def configuration_errors_end_the_process() -> Iterator[None]:
    """Print a `ConfigurationError` as one sentence, and exit with code 2 and without a traceback."""
    try:
        yield
    except ConfigurationError as exc:
        print(f"zhiwen: {exc}", file=sys.stderr)
        raise SystemExit(2) from exc
