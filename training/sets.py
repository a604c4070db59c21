"""Question sets for choosing and for testing: one shape for all of them, and a split of each into two halves.

A choice is made on the `choose` half of the questions and reported on the `test` half. The halves share no passage with
an answer.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from bench.question_sets import traditional as in_traditional
from training.pairs import is_held_out, read_pairs
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.reading import read_document

Half = Literal["choose", "test"]

SHARED: Final = ("zh_cmrc2018", "zh_xquad", "en_xquad", "en_squad2_third")
EVERYDAY: Final = ("zh_faq", "en_faq")
ACROSS: Final = (("zh_xquad", "en_xquad"), ("en_xquad", "zh_xquad"))
EXAMPLES: Final = Path("examples/documents")
_PAIR_KINDS: Final = frozenset({"faq-answer", "problem-solution", "qa-title", "qa-forum", "symptom-solution"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a set.

    `right` holds the numbers of the passages that answer it. `gold` is a text that the right chunk holds, when the
    passages are whole documents; then `right` is the document. `answers` are the answers that people marked. A question
    without `right` cannot be answered.
    """

    text: str
    right: frozenset[int]
    answers: tuple[str, ...] = ()
    gold: str = ""
    drawn_from: Half | None = None

    @property
    def half(self) -> Half:
        """The half of the set that this question belongs to: by its passage, or else by its own text.

        A question that was drawn from a half of another set stays in it.
        """
        if self.drawn_from:
            return self.drawn_from
        key = f"{min(self.right)}:{self.gold}" if self.right else self.text
        return "choose" if zlib.crc32(f"half:{key}".encode()) % 2 == 0 else "test"


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A named collection with questions. A passage is the list of blocks that the chunker gets."""

    name: str
    passages: tuple[tuple[Block, ...], ...]
    questions: tuple[Asked, ...]

    def only(self, half: Half) -> QuestionSet:
        """Return the set with the questions of one half. The passages stay."""
        return replace(self, questions=tuple(q for q in self.questions if q.half == half))

    def every(self, step: int) -> QuestionSet:
        """Return the set with every `step`-th question."""
        return replace(self, questions=self.questions[::step])


def read_set(folder: Path) -> QuestionSet:
    """Read a folder with `passages.jsonl` and `questions.jsonl`."""
    passages = list(_lines(folder / "passages.jsonl"))
    number = {row["id"]: place for place, row in enumerate(passages)}
    questions = [
        Asked(
            row["question"],
            frozenset(number[id] for id in row["passage_id"]) if row.get("answerable", True) else frozenset(),
            tuple(row.get("answers") or ()),
        )
        for row in _lines(folder / "questions.jsonl")
    ]
    return QuestionSet(folder.name, tuple((Block(row["text"]),) for row in passages), tuple(questions))


def read_office(folder: Path, documents: Path = EXAMPLES) -> QuestionSet:
    """Read the everyday questions about the project's own example documents."""
    names = sorted(path.name for path in documents.iterdir())
    number = {name: place for place, name in enumerate(names)}
    questions = [
        Asked(
            row["question"],
            frozenset({number[row["document"]]}) if row["answerable"] else frozenset(),
            (row["answer"],) if row["answerable"] else (),
            row.get("gold_text") or "",
        )
        for row in _lines(folder / "questions.jsonl")
    ]
    parsed = tuple(tuple(read_document(documents / name, name)) for name in names)
    return QuestionSet(folder.name, parsed, tuple(questions))


def across(asked: QuestionSet, held: QuestionSet) -> QuestionSet:
    """Return the questions of one set over the passages of another: translations of each other, in the same order.

    The marked answers are those of the other set, because quotes are in the language of the passages.
    """
    pairs = zip(asked.questions, held.questions, strict=True)
    questions = tuple(replace(question, answers=translated.answers) for question, translated in pairs)
    return QuestionSet(f"{asked.name} -> {held.name}", held.passages, questions)


def traditional(of: QuestionSet) -> QuestionSet:
    """Return a Chinese set in Traditional characters, as far as a character has only one Traditional form."""
    passages = tuple(tuple(replace(b, text=in_traditional(b.text)) for b in blocks) for blocks in of.passages)
    questions = tuple(
        replace(q, text=in_traditional(q.text), answers=tuple(map(in_traditional, q.answers))) for q in of.questions
    )
    return QuestionSet(f"{of.name} traditional", passages, questions)


def pair_set(folder: Path, language: str, *, limit: int, held_out: bool = True) -> QuestionSet:
    """Return questions and answers of the training pairs as a set.

    `language` is `zh` or `en`, and `limit` the number of pairs. With `held_out`, no table was trained on the pairs.
    """
    texts: dict[str, int] = {}
    questions: list[Asked] = []
    for pair in read_pairs(folder, ("question",)):
        if (
            pair.group == f"question:{language}-{language}"
            and pair.kind in _PAIR_KINDS
            and is_held_out(pair) == held_out
        ):
            place = texts.setdefault(pair.positive, len(texts))
            questions.append(Asked(pair.anchor, frozenset({place})))
        if len(questions) == limit:
            break
    return QuestionSet(f"pairs {language}", tuple((Block(text),) for text in texts), tuple(questions))


def pooled(first: QuestionSet, second: QuestionSet) -> QuestionSet:
    """Return one collection of two sets. Each question stays in its half."""
    offset = len(first.passages)
    kept = (replace(q, drawn_from=q.half) for q in first.questions)
    moved = (replace(q, drawn_from=q.half, right=frozenset(n + offset for n in q.right)) for q in second.questions)
    return QuestionSet(f"{first.name} + {second.name}", first.passages + second.passages, (*kept, *moved))


def small(of: QuestionSet, half: Half, passages: int, draw: int) -> QuestionSet:
    """Return a collection of a few passages of one half, and questions that it cannot answer.

    `draw` says which passages are drawn. Every third question is about another passage of the half.
    """
    asked = [question for question in of.questions if question.right and question.half == half]
    numbers = sorted({min(q.right) for q in asked}, key=lambda n: zlib.crc32(f"{draw}:{n}".encode()))[:passages]
    place = {number: at for at, number in enumerate(numbers)}
    own = [q for q in asked if q.right <= place.keys()]
    strange = sorted(
        (q for q in asked if not q.right & place.keys()), key=lambda q: zlib.crc32(f"{draw}:{q.text}".encode())
    )
    questions = [
        *(replace(q, right=frozenset(place[number] for number in q.right), drawn_from=half) for q in own),
        *(replace(q, right=frozenset(), answers=(), drawn_from=half) for q in strange[: len(own) // 2]),
    ]
    return QuestionSet(f"{of.name} small", tuple(of.passages[number] for number in numbers), tuple(questions))


def all_sets(data: Path) -> Iterator[QuestionSet]:
    """Yield every set below the data folder, and the sets that are made of them."""
    shared = {name: read_set(data / "retrieval" / name) for name in SHARED}
    yield from shared.values()
    for asked, held in ACROSS:
        yield across(shared[asked], shared[held])
    yield traditional(shared["zh_xquad"])
    for name in EVERYDAY:
        yield read_set(data / "everyday" / name)
    yield read_office(data / "everyday" / "office")


def texts_of(passages: Sequence[Sequence[Block]]) -> list[str]:
    """Return the whole text of each passage."""
    return ["\n\n".join(block.text for block in blocks) for blocks in passages]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
