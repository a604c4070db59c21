"""`zhiwen usage`: how many tokens each key used of each model, read directly from the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from zhiwen.cli.ledgers import opened_ledger
from zhiwen.cli.session import DATA, Session, command
from zhiwen.cli.values import Usage
from zhiwen.common.models import UsageRow

HEADERS = ("key", "model", "requests", "unmetered", "prompt tokens", "completion tokens")


def register(root: typer.Typer) -> None:
    """Register `usage`."""
    command(root, "usage", options=DATA)(usage)


def usage(
    session: Session,
    since: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="First day (UTC); default: the first of this month.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="Last day (UTC), included; default: today.")] = "",
    key: Annotated[str | None, typer.Option(help="Only the key of this name.", show_default=False)] = None,
) -> None:
    """Show the requests and tokens of each key and model that went through the gateway.

    Unmetered requests are those whose model server reported no tokens. The sums of tokens leave them out.
    """
    today = datetime.now(UTC).date()
    first, last = _day(since) or today.replace(day=1).isoformat(), _day(until) or today.isoformat()
    if first > last:
        raise Usage(f"--since {first} is after --until {last}.")
    with opened_ledger(session.settings, migrate=True) as ledger:
        rows = summed(ledger.usage.report(first, last, key))
    if session.output.as_json:
        items = [_shown(row) for row in rows]
        session.output.data({"since": first, "until": last, "items": items, "total": _total(rows)})
        return
    session.output.show(f"Usage from {first} to {last} (UTC)")
    lines = [tuple(_shown(row).values()) for row in rows]
    session.output.table(HEADERS, [*lines, ("total", "", *_total(rows).values())], right=HEADERS[2:])


def _day(text: str) -> str:
    """Check a day such as `2026-01-31`; the empty text is allowed. Raises `Usage`."""
    if not text:
        return ""
    try:
        return datetime.strptime(text, "%Y-%m-%d").date().isoformat()
    except ValueError as exc:
        raise Usage(f"{text} is not a date: write it like 2026-01-31.") from exc


def summed(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """Sum up the days of each key and model, ordered by key and model. The sums have an empty `day`."""
    sums: dict[tuple[str, str], UsageRow] = {}
    for row in rows:
        place = (row.key, row.model)
        sums[place] = _added(sums[place], row) if place in sums else replace(row, day="")
    return [sums[place] for place in sorted(sums)]


def _added(one: UsageRow, other: UsageRow) -> UsageRow:
    return replace(
        one,
        requests=one.requests + other.requests,
        unmetered=one.unmetered + other.unmetered,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
    )


def _shown(row: UsageRow) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name != "day"}


def _total(rows: Sequence[UsageRow]) -> dict[str, int]:
    return {
        "requests": sum(row.requests for row in rows),
        "unmetered": sum(row.unmetered for row in rows),
        "prompt_tokens": sum(row.prompt_tokens for row in rows),
        "completion_tokens": sum(row.completion_tokens for row in rows),
    }
