"""The passages and questions of an evaluation, read from JSON Lines files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from zhiwen.cli.values import Usage

Row = Mapping[str, Any]
"""A line of a JSON Lines file."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the passages that answer it, without any when it cannot be answered."""

    text: str
    passages: frozenset[str]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file. Raises `Usage` with the number of a line that is not an object."""
    rows = []
    # Not `splitlines`: a JSON text may hold other line separators.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as exc:
                raise Usage(f"Line {number} of {path} is not JSON.") from exc
            if not isinstance(row, dict):
                raise Usage(f"Line {number} of {path} is not a JSON object.")
            rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class Passages:
    """Passages that all have different texts; white space does not count. `same` maps every id to the kept one.

    A search shows each text once, so it could not find two passages with one text.
    """

    rows: tuple[Row, ...]
    same: Mapping[str, str]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        """Keep the first passage of each text. Raises `Usage` for a repeated id, and for a passage without text."""
        first: dict[str, Row] = {}
        same: dict[str, str] = {}
        for row in rows:
            id = str(_field(row, "id"))
            if id in same:
                raise Usage(f"There are two passages with the id {id}.")
            if not _text(row):
                raise Usage(f"The passage {id} has no text.")
            same[id] = str(first.setdefault(_text(row), row)["id"])
        return cls(tuple(first.values()), same)

    def others(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows whose texts are not among these passages, each text once."""
        own = {"", *map(_text, self.rows)}
        return list({text: row for row in rows if (text := _text(row)) not in own}.values())

    def without(self, share: float, seed: int) -> Self:
        """Return the passages without a random share, 0..1, of them. Their questions then have no answer."""
        shuffled = list(self.rows)
        random.Random(seed).shuffle(shuffled)  # noqa: S311 (a seeded choice, no secret)
        kept = tuple(shuffled[: len(shuffled) - round(len(shuffled) * share)])
        loaded = {str(row["id"]) for row in kept}
        return replace(self, rows=kept, same={id: same for id, same in self.same.items() if same in loaded})

    def questions(self, rows: Iterable[Row]) -> list[Question]:
        """Return the questions. One without a passage among these counts as unanswerable."""
        return [Question(str(_field(row, "question")), self._answering(row)) for row in rows]

    def _answering(self, row: Row) -> frozenset[str]:
        ids = row.get("passage_id") or []
        if not isinstance(ids, list):
            raise Usage(f"passage_id must be a list of ids: {json.dumps(row, ensure_ascii=False)[:200]}")
        return frozenset(self.same[str(id)] for id in ids if str(id) in self.same and row.get("answerable", True))


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise Usage(f"There is no {name} in {json.dumps(row, ensure_ascii=False)[:200]}")
    return row[name]


def _text(row: Row) -> str:
    return "".join(str(_field(row, "text")).split())
