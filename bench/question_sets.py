"""The question sets of `make eval` and of the test that holds their floors, read from ../shared/data.

A set is what `zhiwen eval` takes: passages or a folder of documents, and questions. Some sets are made of others here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from zhiwen.common.lexical.analysis import traditional_to_simplified

Row = dict[str, Any]

PROJECT = Path(__file__).resolve().parents[1]
DATA = PROJECT.parent / "shared" / "data"
RETRIEVAL, EVERYDAY = DATA / "retrieval", DATA / "everyday"
EXAMPLES = PROJECT / "examples" / "documents"
NAMES = ("zh_cmrc2018", "zh_xquad", "en_xquad", "en_squad2_third")
ALL_MODES = ("hybrid", "dense", "full_text")


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A question set. `documents` is a folder that takes the place of `passages`.

    `distractors` are passages that answer nothing. `hold_out` is the share of the passages, 0..1, to leave out. `modes`
    are the search modes to measure: all three where hybrid search is compared with its halves.
    """

    name: str
    questions: Sequence[Row]
    passages: Sequence[Row] = ()
    documents: Path | None = None
    distractors: Sequence[Row] = ()
    hold_out: float = 0.0
    modes: Sequence[str] = ALL_MODES

    def write(self, folder: Path) -> list[str]:
        """Write the files of the set to a folder, and return the options of `zhiwen eval` that name them."""
        options = ["--questions", _written(folder / "questions.jsonl", self.questions), "--modes", ",".join(self.modes)]
        if self.documents is not None:
            return [*options, "--documents", str(self.documents)]
        options += ["--passages", _written(folder / "passages.jsonl", self.passages)]
        if self.distractors:
            options += ["--distractors", _written(folder / "distractors.jsonl", self.distractors)]
        return [*options, "--hold-out", str(self.hold_out)] if self.hold_out else options

    def sampled(self, questions: int, passages: int) -> QuestionSet:
        """Return the set with about `questions` questions from all over it, and the passages that answer them.

        Other passages are added, from all over the set, until there are about `passages`.
        """
        asked = self.questions[:: max(1, len(self.questions) // questions)]
        needed = {id for row in asked for id in row.get("passage_id") or []}
        others = [row for row in self.passages if row["id"] not in needed]
        wanted = max(1, passages - len(needed))
        kept = {row["id"] for row in others[:: max(1, len(others) // wanted)]} | needed
        return replace(self, questions=asked, passages=[row for row in self.passages if row["id"] in kept])


@dataclass(frozen=True, slots=True)
class Files:
    """Reads each file of the data folder once."""

    _read: dict[Path, list[Row]] = field(default_factory=dict)

    def rows(self, path: Path) -> list[Row]:
        """Return the rows of a JSON Lines file."""
        if path not in self._read:
            with path.open(encoding="utf-8") as lines:
                self._read[path] = [json.loads(line) for line in lines]
        return self._read[path]

    def of(self, folder: Path) -> QuestionSet:
        """Return the set in a folder, named like it."""
        return QuestionSet(folder.name, self.rows(folder / "questions.jsonl"), self.rows(folder / "passages.jsonl"))


def _set(name: str) -> Callable[[Files], QuestionSet]:
    return lambda files: files.of(RETRIEVAL / name)


def _everyday(name: str) -> Callable[[Files], QuestionSet]:
    return lambda files: files.of(EVERYDAY / name)


def _crossed(name: str, asked: str, held: str, *, distracted: bool = False) -> Callable[[Files], QuestionSet]:
    """Return what makes the set `name`: the questions of the set `asked` over the passages of the set `held`.

    The sets are translations of each other, with passages in the same order and questions of the same ids. An answer
    may hold the gold of either language: the built-in answerer quotes, and a language model translates. With
    `distracted`, the passages of all other sets are there, too, also those in the language of the question.
    """

    def make(files: Files) -> QuestionSet:
        own, other = files.of(RETRIEVAL / asked), files.of(RETRIEVAL / held)
        passage = {a["id"]: b["id"] for a, b in zip(own.passages, other.passages, strict=True)}
        answers = {row["id"]: row["answers"] for row in other.questions}
        questions = [
            {
                **row,
                "passage_id": [passage[id] for id in row["passage_id"]],
                "answers": [*row["answers"], *answers[row["id"]]],
            }
            for row in own.questions
        ]
        made = QuestionSet(name, questions, other.passages)
        if not distracted:
            return made
        others = [row for each in NAMES if each != held for row in files.of(RETRIEVAL / each).passages]
        return replace(made, distractors=others, modes=("hybrid",))

    return make


def traditional(text: str) -> str:
    """Return a Simplified text in Traditional characters, as far as a character has only one Traditional form.

    Characters with several (发: 發, 髮) stay Simplified, so the text is mixed; nobody writes exactly so.
    """
    return text.translate(_traditional_forms())


@cache
def _traditional_forms() -> Mapping[int, int]:
    forms: dict[int, list[int]] = {}
    for old, new in traditional_to_simplified().items():
        forms.setdefault(new, []).append(old)
    return {simplified: old[0] for simplified, old in forms.items() if len(old) == 1}


def _in_traditional(files: Files) -> QuestionSet:
    of = files.of(RETRIEVAL / "zh_xquad")
    passages = [{**row, "text": traditional(row["text"])} for row in of.passages]
    questions = [
        {**row, "question": traditional(row["question"]), "answers": list(map(traditional, row["answers"]))}
        for row in of.questions
    ]
    return QuestionSet("zh_xquad traditional", questions, passages, modes=("hybrid",))


def _half_held_out(files: Files) -> QuestionSet:
    return replace(files.of(RETRIEVAL / "zh_cmrc2018"), name="zh_cmrc2018 half", hold_out=0.5, modes=("hybrid",))


def _office(files: Files) -> QuestionSet:
    return QuestionSet("office", files.rows(EVERYDAY / "office" / "questions.jsonl"), documents=EXAMPLES)


SETS: Mapping[str, Callable[[Files], QuestionSet]] = {
    **{name: _set(name) for name in NAMES},
    "zh_xquad traditional": _in_traditional,
    "zh to en": _crossed("zh to en", "zh_xquad", "en_xquad"),
    "zh to en, distractors": _crossed("zh to en, distractors", "zh_xquad", "en_xquad", distracted=True),
    "en to zh": _crossed("en to zh", "en_xquad", "zh_xquad"),
    "en to zh, distractors": _crossed("en to zh, distractors", "en_xquad", "zh_xquad", distracted=True),
    "zh_cmrc2018 half": _half_held_out,
    "zh_faq": _everyday("zh_faq"),
    "en_faq": _everyday("en_faq"),
    "office": _office,
}
"""What makes each set, by its name, in the order of the README's table."""


def _written(path: Path, rows: Sequence[Row]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)
