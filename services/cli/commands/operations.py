"""`zhiwen up`, `zhiwen status` and `zhiwen fsck`: run Zhiwen on this machine, and check its state."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from zhiwen.cli.commands.bases import documents_of
from zhiwen.cli.ledgers import opened_ledger
from zhiwen.cli.output import Output
from zhiwen.cli.problems import EXIT_FAILED, problem_of
from zhiwen.cli.session import DATA, Session, command
from zhiwen.cli.values import Json
from zhiwen.client import ApiError, Client, KnowledgeBaseOut, Service
from zhiwen.common.telemetry import configure_logging

if TYPE_CHECKING:
    from zhiwen.common.ledger import Ledger

DEFAULT_PORT_BASE = 8000
FINDINGS = (
    "missing",
    "orphaned",
    "duplicated",
    "missing_collections",
    "unknown_collections",
    "missing_originals",
    "orphaned_originals",
)
LITE_CHUNKS = 100_000
"""Up to this many chunks a search in Milvus Lite is fast. It is an exact search."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def register(root: typer.Typer) -> None:
    """Register `up`, `status` and `fsck`."""
    command(root, "up", options=DATA)(up)
    command(root, "status")(status)
    command(root, "fsck")(fsck)


def up(
    session: Session,
    port_base: Annotated[int, typer.Option(min=1024, max=65000, help="Ports are this plus 1, 2, 3, 4, 80.")] = (
        DEFAULT_PORT_BASE
    ),
    webui: Annotated[bool, typer.Option("--webui/--no-webui", help="Serve the page, too.")] = True,
) -> None:
    """Run everything on this machine until Ctrl-C."""
    from zhiwen.cli.stack import Stack

    output, folder = session.output, session.settings.data_dir
    configure_logging("launcher", session.settings.log_level, "console")
    stack = Stack(folder, port_base, webui=webui)
    with signals_interrupt():
        try:
            with output.waiting("Starting") as ready:
                stack.start(on_ready=ready)
            _show_addresses(output, stack.addresses, str(folder), port_base)
            with opened_ledger(session.settings) as ledger:
                warn_of_size(output, ledger)
            stack.wait()
        except KeyboardInterrupt:
            output.say("Stopping …")
        finally:
            ignore_signals()
            stack.stop()
    if output.as_json:
        output.line({"event": "stopped"})
    else:
        output.say("Everything has stopped.")


def _show_addresses(output: Output, addresses: Mapping[str, str], folder: str, port_base: int) -> None:
    if output.as_json:
        output.line({"event": "ready", "addresses": dict(addresses), "data_dir": folder})
        return
    output.table(("service", "address"), list(addresses.items()))
    if port_base != DEFAULT_PORT_BASE:
        for service in get_args(Service):
            output.show(f"export ZHIWEN_{service.upper()}_URL={addresses[service]}")
    output.say(f"Ready. Data is kept in {folder}. Ctrl-C stops everything.")


def warn_of_size(output: Output, ledger: Ledger) -> None:
    """Name the knowledge bases that have become too large for Milvus Lite, whose search reads every chunk."""
    for base in ledger.bases.all():
        if (chunks := ledger.documents.count(base.id)["chunks"]) > LITE_CHUNKS:
            output.say(
                f"{base.name} holds {chunks:,} chunks. With more than {LITE_CHUNKS:,} chunks a Milvus server is faster "
                "than Milvus Lite: see deploy/README.md."
            )


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Within the block, SIGTERM and a closed terminal act like Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore these signals until `signals_interrupt` ends, so that nothing interrupts the stopping."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def status(session: Session) -> None:
    """Show whether the services answer and what the knowledge bases hold. The exit code is 1 for any error."""
    services = {service: _state(session.client, service) for service in get_args(Service)}
    bases, error = _bases(session.client)
    if session.output.as_json:
        session.output.data({"services": services, "knowledge_bases": bases, "error": error})
    else:
        _show_status(session.output, services, bases, error)
    if error or any(state["status"] != "ready" for state in services.values()):
        raise typer.Exit(EXIT_FAILED)


def _state(client: Client, service: Service) -> Json:
    state: dict[str, Any] = {"address": client.urls[service], "status": "unreachable", "checks": {}}
    try:
        client.health(service)
        return {**state, **client.readiness(service).model_dump()}
    except ApiError as exc:
        return {**state, "error": problem_of(exc)["detail"]}


def _bases(client: Client) -> tuple[list[KnowledgeBaseOut], Json | None]:
    try:
        return list(client.list_knowledge_bases()), None
    except ApiError as exc:
        return [], problem_of(exc)


def _show_status(
    output: Output, services: Mapping[str, Json], bases: list[KnowledgeBaseOut], error: Json | None
) -> None:
    rows = [(name, s["address"], s["status"], _checks(s)) for name, s in services.items()]
    output.table(("service", "address", "status", "depends on"), rows)
    if error:
        output.error(error)
        return
    counted = [(base.name, documents_of(base), base.chunks) for base in bases]
    output.table(("knowledge base", "documents", "chunks"), counted, right=("chunks",))


def _checks(state: Json) -> str:
    if "error" in state:
        return str(state["error"])
    return ", ".join(f"{name} {outcome}" for name, outcome in state["checks"].items())


def fsck(
    session: Session,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs.")] = False,
) -> None:
    """Compare ledger, originals and Milvus: list orphaned, missing and duplicated chunks."""
    report = session.client.fsck(repair=repair)
    if session.output.as_json:
        session.output.data(report)
    else:
        for kind in FINDINGS:
            for entry in getattr(report, kind):
                text = entry if isinstance(entry, str) else ", ".join(f"{k} {v}" for k, v in entry.items())
                session.output.show(f"{kind.replace('_', ' ')}: {text}")
        verdict = "all agree" if report.clean else "differences are being mended" if repair else "they differ"
        checked = f"{report.checked_chunks} chunks and {report.checked_originals} originals"
        session.output.show(f"Ledger, originals and Milvus: {verdict} ({checked}).")
    if not report.clean and not repair:
        raise typer.Exit(EXIT_FAILED)
