"""How good retrieval and refusal are: measured over HTTP against the running services (`zhiwen eval`).

Metrics are the field's: recall@k counts a question as found when one of its passages is among the first k; MRR@10 and
nDCG@10 as in Järvelin & Kekäläinen 2002 with binary relevance; AUROC is the probability that an answerable question
scores above an unanswerable one (Hanley & McNeil 1982). Everything but `evaluate` is pure.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from zhiwen.cli.values import Json, Usage
from zhiwen.client import Client, LocalFile

DEPTH = 10
HITS = 50
"""Hits asked for: a passage may have several chunks, and only its best counts."""
BATCH = 100
MODES = ("hybrid", "dense", "full_text")

Row = Mapping[str, Any]
"""A line of a JSON Lines file."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the passages that answer it; none when it cannot be answered."""

    text: str
    passages: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search gave: the rank of the first right passage (from 1, None beyond 10), and the best score."""

    answerable: bool
    rank: int | None
    gain: float
    score: float
    refused: bool
    milliseconds: float


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """Retrieval figures of one mode over the answerable questions, and latencies over all, in milliseconds."""

    questions: int
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mrr_at_10: float
    ndcg_at_10: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class RefusalFigures:
    """How well hybrid scores tell answerable from unanswerable questions; None where one kind is missing."""

    answerable: int
    unanswerable: int
    rightly_refused: float | None
    wrongly_refused: float | None
    auroc: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of an evaluation; `scores` are hybrid's best scores, for the plots."""

    passages: int
    modes: Mapping[str, ModeFigures]
    refusal: RefusalFigures
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the figures without the single scores."""
        figures = asdict(self)
        del figures["scores"]
        return figures


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file. Raises `Usage` naming the line that is not an object."""
    rows = []
    # Not `splitlines`: JSON may hold line separators of other kinds.
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
    """Passages of which no two have the same text, white space aside; `same` maps every id to the one that is kept.

    A search shows a text once, wherever it stands: two passages of one text could not both be found.
    """

    rows: tuple[Row, ...]
    same: Mapping[str, str]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        """Keep the first passage of each text. Raises `Usage` for two passages of one id, and for one without text."""
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
        """Return the rows that are none of these passages, each text once."""
        own = {"", *map(_text, self.rows)}
        return list({text: row for row in rows if (text := _text(row)) not in own}.values())

    def without(self, share: float, seed: int) -> Self:
        """Return the passages without a random share of them, whose questions then have no answer."""
        shuffled = list(self.rows)
        random.Random(seed).shuffle(shuffled)  # noqa: S311 (a seeded choice, no secret)
        kept = tuple(shuffled[: len(shuffled) - round(len(shuffled) * share)])
        loaded = {str(row["id"]) for row in kept}
        return replace(self, rows=kept, same={id: same for id, same in self.same.items() if same in loaded})

    def questions(self, rows: Iterable[Row]) -> list[Question]:
        """Return the questions; one whose passages are not among these counts as unanswerable."""
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


def judge(question: Question, found: Sequence[str], score: float, *, refused: bool, milliseconds: float) -> Outcome:
    """Judge the distinct passages that were found, best first."""
    ranks = [rank for rank, passage in enumerate(found[:DEPTH], 1) if passage in question.passages]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(question.passages), DEPTH) + 1))
    gain = sum(1 / math.log2(rank + 1) for rank in ranks) / ideal if ideal else 0.0
    rank = ranks[0] if ranks else None
    return Outcome(bool(question.passages), rank, gain, score, refused, milliseconds)


def figures_of(outcomes: Sequence[Outcome]) -> ModeFigures:
    """Sum up the outcomes of one mode."""
    answerable = [outcome for outcome in outcomes if outcome.answerable]
    latencies = sorted(outcome.milliseconds for outcome in outcomes)
    return ModeFigures(
        questions=len(outcomes),
        recall_at_1=_share(answerable, lambda o: o.rank is not None and o.rank <= 1),
        recall_at_5=_share(answerable, lambda o: o.rank is not None and o.rank <= 5),
        recall_at_10=_share(answerable, lambda o: o.rank is not None),
        mrr_at_10=_mean([1 / outcome.rank if outcome.rank else 0.0 for outcome in answerable]),
        ndcg_at_10=_mean([outcome.gain for outcome in answerable]),
        p50_ms=_percentile(latencies, 0.5),
        p99_ms=_percentile(latencies, 0.99),
    )


def refusal_of(outcomes: Sequence[Outcome]) -> RefusalFigures:
    """Sum up how refusal went."""
    answerable = [outcome for outcome in outcomes if outcome.answerable]
    unanswerable = [outcome for outcome in outcomes if not outcome.answerable]
    return RefusalFigures(
        answerable=len(answerable),
        unanswerable=len(unanswerable),
        rightly_refused=_share(unanswerable, lambda o: o.refused) if unanswerable else None,
        wrongly_refused=_share(answerable, lambda o: o.refused) if answerable else None,
        auroc=auroc([o.score for o in answerable], [o.score for o in unanswerable]),
    )


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Return the probability that a positive scores above a negative, ties half; None when either is empty."""
    if not positive or not negative:
        return None
    ranked = sorted([(score, True) for score in positive] + [(score, False) for score in negative])
    rank_sum, index = 0.0, 0
    while index < len(ranked):
        end = index
        while end < len(ranked) and ranked[end][0] == ranked[index][0]:
            end += 1
        middle = (index + 1 + end) / 2  # the mean of the ranks index+1 .. end
        rank_sum += middle * sum(1 for _, is_positive in ranked[index:end] if is_positive)
        index = end
    wins = rank_sum - len(positive) * (len(positive) + 1) / 2
    return wins / (len(positive) * len(negative))


def _share(outcomes: Sequence[Outcome], condition: Callable[[Outcome], bool]) -> float:
    return _mean([1.0 if condition(outcome) else 0.0 for outcome in outcomes])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Loads passages into a knowledge base of its own, asks, and measures."""

    client: Client
    base: str
    clients: int = 1
    fusion: str | None = None
    tell: Callable[[str, int, int], None] = lambda what, done, total: None

    def load(self, passages: Sequence[Row], distractors: Sequence[Row]) -> None:
        """Upload each passage as a document named by its id, and wait until all are indexed."""
        names = self._names(passages, distractors)
        with tempfile.TemporaryDirectory(prefix="zhiwen-eval-") as folder:
            rows = zip(names, [*passages, *distractors], strict=True)
            files = [_written(Path(folder), name, row, number) for number, (name, row) in enumerate(rows)]
            for first in range(0, len(files), BATCH):
                for item in self.client.upload_documents(self.base, files[first : first + BATCH]):
                    if item.outcome == "rejected":
                        raise Usage(f"{item.name} was not taken: {item.error.detail if item.error else ''}")
                self.tell("uploaded", min(first + BATCH, len(files)), len(files))
        self._wait(len(files))

    def check(self, passages: Sequence[Row], distractors: Sequence[Row]) -> None:
        """Wait until a knowledge base that was kept is indexed. Raises `Usage` when it holds something else."""
        held = {document.name for document in self.client.list_documents(self.base)}
        if held != set(self._names(passages, distractors)):
            raise Usage(f"{self.base} holds other passages than these; delete it, or name another with --kb.")
        self._wait(len(held))

    @staticmethod
    def _names(passages: Sequence[Row], distractors: Sequence[Row]) -> list[str]:
        return [f"p/{row['id']}.txt" for row in passages] + [f"d/{number}.txt" for number in range(len(distractors))]

    def _wait(self, expected: int) -> None:
        while True:
            counts = self.client.get_knowledge_base(self.base).documents
            settled = sum(counts.get(status, 0) for status in ("ready", "failed", "cancelled"))
            self.tell("indexed", settled, expected)
            if settled >= expected and (lost := settled - counts.get("ready", 0)):
                failed = next(iter(self.client.list_documents(self.base, status="failed")), None)
                why = f", {failed.name}: {failed.error.detail}" if failed and failed.error else ""
                raise Usage(f"{lost} passages could not be indexed{why}.")
            if settled >= expected:
                return
            time.sleep(0.3)

    def measure(self, questions: Sequence[Question], mode: str) -> list[Outcome]:
        """Ask every question in one mode."""
        outcomes: list[Outcome] = []
        with ThreadPoolExecutor(self.clients) as pool:
            for outcome in pool.map(lambda question: self._ask(question, mode), questions):
                outcomes.append(outcome)
                if len(outcomes) % 50 == 0 or len(outcomes) == len(questions):
                    self.tell(mode, len(outcomes), len(questions))
        return outcomes

    def _ask(self, question: Question, mode: str) -> Outcome:
        started = time.perf_counter()
        answer = self.client.search(self.base, question.text, mode=mode, top_k=HITS, fusion=self.fusion)
        milliseconds = (time.perf_counter() - started) * 1000
        found = list(dict.fromkeys(_passage(hit.source) for hit in answer.hits))
        score = max(
            (hit.score for hit in answer.hits), default=0.0
        )  # not always the first's: see `fusion` and reranking
        return judge(question, found, score, refused=not answer.answerable, milliseconds=milliseconds)

    def run(self, passages: int, questions: Sequence[Question], modes: Sequence[str] = MODES) -> Report:
        """Measure all modes."""
        outcomes = {mode: self.measure(questions, mode) for mode in modes}
        judged = outcomes.get("hybrid") or next(iter(outcomes.values()))
        return Report(
            passages=passages,
            modes={mode: figures_of(found) for mode, found in outcomes.items()},
            refusal=refusal_of(judged),
            scores={
                "answerable": [outcome.score for outcome in judged if outcome.answerable],
                "unanswerable": [outcome.score for outcome in judged if not outcome.answerable],
            },
        )


def _written(folder: Path, name: str, row: Row, number: int) -> LocalFile:
    path = folder / f"{number}.txt"
    path.write_text(str(row["text"]), encoding="utf-8")
    return LocalFile.at(path, name)


def _passage(source: str) -> str:
    kind, _, name = source.partition("/")
    return name.removesuffix(".txt") if kind == "p" else source
