"""`zhiwen add` and `zhiwen docs …`: documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiwen.cli.adding import BAD, collect, counts
from zhiwen.cli.output import Output, file_size
from zhiwen.cli.problems import EXIT_FAILED
from zhiwen.cli.session import Kb, Session, command
from zhiwen.cli.values import Usage, json_object
from zhiwen.client import AddedDocument, ApiError, Client, DocumentOut, NotFoundError, OnDuplicate
from zhiwen.client.files import Source
from zhiwen.common.models import DocumentStatus

app = typer.Typer(help="Documents of a knowledge base.", no_args_is_help=True)

Document = Annotated[str, typer.Argument(help="Id or name of the document.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it until it is settled.")]


def register_add(root: typer.Typer) -> None:
    """Register `add` as a command of its own."""
    command(root, "add")(add)


def add(
    session: Session,
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.", show_default=False)],
    kb: Kb = None,
    metadata: Annotated[str | None, typer.Option(help="JSON object kept with every file.")] = None,
    on_duplicate: Annotated[OnDuplicate, typer.Option(help="When another document holds the same bytes.")] = "keep",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the documents until settled.")] = True,
) -> None:
    """Add files and folders (recursively). The exit code is 1 when any file failed."""
    files = collect(paths)
    if not files:
        raise Usage("The given paths hold no files.")
    fields = json_object("--metadata", metadata)
    name = session.base(kb)
    output = session.output
    results = add_files(session.client, output, name, files, metadata=fields, on_duplicate=on_duplicate, wait=wait)
    if output.as_json:
        output.data({"knowledge_base": name, "items": results, "counts": counts(results)})
    else:
        output.results(results)
    if any(result.outcome in BAD for result in results):
        raise typer.Exit(EXIT_FAILED)


def add_files(
    client: Client,
    output: Output,
    kb: str,
    files: Sequence[Source],
    *,
    metadata: Mapping[str, Any] | None = None,
    on_duplicate: OnDuplicate = "keep",
    wait: bool = True,
) -> list[AddedDocument]:
    """Upload files to the knowledge base `kb` with a progress bar for each stage, and return the outcome of each.

    `client` sends the files, and `output` shows the bars. `metadata` and `on_duplicate` are sent with each file. With
    `wait`, the documents are followed until they are settled.
    """
    with output.watcher() as watcher:
        return client.add_documents(kb, files, metadata=metadata, on_duplicate=on_duplicate, wait=wait, watcher=watcher)


@command(app, "list")
def list_(
    session: Session,
    kb: Kb = None,
    status: Annotated[DocumentStatus | None, typer.Option(help="Only those in this status.")] = None,
    name: Annotated[str | None, typer.Option(help="Exact name, or a prefix that ends with *.")] = None,
) -> None:
    """List the documents in order of arrival."""
    wanted = status.value if status else None
    documents = list(session.client.list_documents(session.base(kb), status=wanted, name=name))
    if session.output.as_json:
        session.output.data({"items": documents})
        return
    headers = ("id", "name", "status", "version", "chunks", "size", "note")
    session.output.table(headers, [_row(document) for document in documents], right=("version", "chunks", "size"))


@command(app, "show")
def show(
    session: Session,
    document: Document,
    kb: Kb = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show every change until it is settled.")] = False,
) -> None:
    """Show one document."""
    base = session.base(kb)
    found = find(session.client, base, document)
    if follow:
        for change in session.client.document_events(base, found.id):
            _show_change(session.output, change)
    elif session.output.as_json:
        session.output.data(found)
    else:
        shown = {key: _flat(value) for key, value in found.model_dump(mode="json").items()}
        session.output.table(("field", "value"), [(key, value) for key, value in shown.items() if value])


@command(app, "delete")
def delete(
    session: Session,
    documents: Annotated[list[str], typer.Argument(help="Ids or names of documents.", show_default=False)],
    kb: Kb = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Wait = True,
) -> None:
    """Delete documents. Search hides them at once; they are gone when this command ends."""
    base = session.base(kb)
    found = [find(session.client, base, document) for document in documents]
    session.confirm(f"Delete {', '.join(document.name for document in found)}?", yes=yes)
    for document in found:
        session.client.delete_document(base, document.id)
    _report(session, base, found, wait=wait)


@command(app, "retry")
def retry(session: Session, document: Document, kb: Kb = None, wait: Wait = True) -> None:
    """Index a failed or cancelled document again."""
    base = session.base(kb)
    found = session.client.retry_document(base, find(session.client, base, document).id)
    _report(session, base, [found], wait=wait)


@command(app, "cancel")
def cancel(session: Session, document: Document, kb: Kb = None, wait: Wait = True) -> None:
    """Stop the indexing of a document; an older version that is live stays live."""
    base = session.base(kb)
    found = session.client.cancel_document(base, find(session.client, base, document).id)
    _report(session, base, [found], wait=wait)


def find(client: Client, kb: str, document: str) -> DocumentOut:
    """Return the document with this id, or otherwise with this name. Raises `ApiError` (404)."""
    try:
        return client.get_document(kb, document)
    except ApiError as exc:
        if exc.status not in {404, 422}:
            raise
        named = [] if document.endswith("*") else list(client.list_documents(kb, name=document))
        if not named:
            detail = f"There is no document with the id or the name {document} in {kb}."
            raise NotFoundError({**exc.problem, "status": 404, "code": "document-not-found", "detail": detail}) from exc
        return named[0]


def _report(session: Session, kb: str, documents: Sequence[DocumentOut], *, wait: bool) -> None:
    """Print the final state of documents. The exit code is 1 when one failed."""
    latest = {document.id: document for document in documents}
    if wait:
        with session.output.watcher() as watcher:
            for event in session.client.follow_documents(kb, list(latest), watcher=watcher):
                latest[event.id] = event.document or _deleted(latest[event.id])
    else:
        latest = {id: _now(session.client, kb, document) for id, document in latest.items()}
    ended = [latest[document.id] for document in documents]
    if session.output.as_json:
        session.output.data({"items": ended})
    else:
        session.output.table(("name", "status", "note"), [(d.name, d.status, _note(d)) for d in ended])
    if any(document.status == DocumentStatus.FAILED for document in ended):
        raise typer.Exit(EXIT_FAILED)


def _now(client: Client, kb: str, document: DocumentOut) -> DocumentOut:
    try:
        return client.get_document(kb, document.id)
    except NotFoundError:
        return _deleted(document)


def _deleted(document: DocumentOut) -> DocumentOut:
    return document.model_copy(update={"status": DocumentStatus.DELETED})


def _show_change(output: Output, document: DocumentOut) -> None:
    if output.as_json:
        output.line(document)
    else:
        progress = document.progress
        part = f" {progress.done}/{progress.total}" if progress.total else ""
        output.show(f"{document.status}{part} {_note(document)}".rstrip())


def _row(document: DocumentOut) -> tuple[Any, ...]:
    size = file_size(document.bytes)
    return (document.id, document.name, document.status, document.version, document.chunks, size, _note(document))


def _note(document: DocumentOut) -> str:
    return document.error.detail if document.error else ""


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    return "" if value is None else str(value)
