"""`zhiwen keys …`: API keys, created directly in the ledger, so that no service has to run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from zhiwen.cli.ledgers import opened_ledger
from zhiwen.cli.session import DATA, Session, command
from zhiwen.common.models import Scope

if TYPE_CHECKING:
    from zhiwen.common.ledger import ApiKey

app = typer.Typer(help="API keys, in the ledger of --data-dir or ZHIWEN_DATABASE_URL.", no_args_is_help=True)


@command(app, "create", options=DATA)
def create(
    session: Session,
    scope: Annotated[Scope, typer.Option(help="What it may do.", show_default=False)],
    name: Annotated[str, typer.Option(help="What it is for; shown in logs.")] = "",
    kb: Annotated[str | None, typer.Option("--kb", help="Only this knowledge base.", show_default=False)] = None,
) -> None:
    """Create a key and print its secret, which is shown only once and stored only as a hash."""
    with opened_ledger(session.settings, create=True) as ledger:
        if kb is not None:
            ledger.bases.get(kb)
        key, secret = ledger.keys.create(name=name or scope, scope=scope, knowledge_base=kb)
    if session.output.as_json:
        session.output.data({**asdict(key), "secret": secret})
        return
    session.output.show(secret)
    session.output.say(f"Key {key.id} ({key.scope}). This is the only time that it is shown.")


@command(app, "list", options=DATA)
def list_(session: Session) -> None:
    """List the keys, revoked ones too."""
    with opened_ledger(session.settings) as ledger:
        keys = ledger.keys.list()
    if session.output.as_json:
        session.output.data({"items": [asdict(key) for key in keys]})
        return
    headers = ("id", "name", "scope", "knowledge base", "created", "state")
    session.output.table(headers, [_row(key) for key in keys])


@command(app, "revoke", options=DATA)
def revoke(session: Session, id: Annotated[str, typer.Argument(help="Id of the key.", show_default=False)]) -> None:
    """Revoke a key. Running services refuse it within seconds."""
    with opened_ledger(session.settings) as ledger:
        key = ledger.keys.revoke(id)
    if session.output.as_json:
        session.output.data(asdict(key))
    else:
        session.output.show(f"Revoked {key.id} ({key.name}).")


def _row(key: ApiKey) -> tuple[str, ...]:
    created = key.created_at.strftime("%Y-%m-%d %H:%M")
    return (key.id, key.name, key.scope, key.knowledge_base or "all", created, "revoked" if key.revoked else "valid")
