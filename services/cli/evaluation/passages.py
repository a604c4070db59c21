"""The passages and questions of an evaluation, read from JSON Lines files."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from zhiwen.cli.values import Usage

Row = Mapping[str, Any]
"""A line of a JSON Lines file."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what answers it.

    `passages` are the names of the documents that answer it; there are none when it cannot be answered.
    `gold_text` is the text in the document that answers it, where that is known. `answers` are strings of which a right
    answer contains one, and `short_answer` is a right answer in a person's words.
    """

    text: str
    passages: frozenset[str]
    answers: tuple[str, ...] = ()
    gold_text: str = ""
    short_answer: str = ""

    @property
    def answerable(self) -> bool:
        """Whether the question can be answered."""
        return bool(self.passages)

    @property
    def has_gold(self) -> bool:
        """Whether it is known what a right answer says."""
        return bool(self.answers or self.short_answer or self.gold_text)


def document_of(id: str) -> str:
    """Return the name of the document that holds the passage with this id."""
    return f"p/{id}.txt"


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
        return [Question(str(_field(row, "question")), self._answering(row), _answers(row)) for row in rows]

    def _answering(self, row: Row) -> frozenset[str]:
        ids = row.get("passage_id") or []
        if not isinstance(ids, list):
            raise Usage(f"passage_id must be a list of ids: {_shown(row)}")
        known = (self.same[str(id)] for id in ids if str(id) in self.same and row.get("answerable", True))
        return frozenset(map(document_of, known))


def questions_about(documents: Collection[str], rows: Iterable[Row]) -> list[Question]:
    """Return questions whose rows name the document that answers them, in `document` or `source`.

    Raises `Usage` when a question that can be answered names no document, or none of `documents`.
    """
    return [_about(documents, row) for row in rows]


def _about(documents: Collection[str], row: Row) -> Question:
    text = str(_field(row, "question"))
    if not row.get("answerable", True):
        return Question(text, frozenset())
    name = row.get("document") or row.get("source")
    if not isinstance(name, str):
        raise Usage(f'Name the document that answers, or say "answerable": false, in {_shown(row)}')
    if name not in documents:
        raise Usage(f"There is no document named {name}, which answers {text}")
    gold_text, answer = str(row.get("gold_text") or ""), str(row.get("answer") or "")
    return Question(text, frozenset({name}), _answers(row), gold_text, answer)


def _answers(row: Row) -> tuple[str, ...]:
    """Return the gold strings of a question: `answers`, or `answer_contains`."""
    answers = row.get("answers") or row.get("answer_contains") or []
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, list):
        raise Usage(f"answers must be a list of texts: {_shown(row)}")
    return tuple(str(answer) for answer in answers)


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise Usage(f"There is no {name} in {_shown(row)}")
    return row[name]


def _shown(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)[:200]


def _text(row: Row) -> str:
    return "".join(str(_field(row, "text")).split())
