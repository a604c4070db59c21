"""Runs an evaluation: loads passages into its own knowledge base, and asks every question in every mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from zhiwen.cli.evaluation.metrics import Outcome, Report, figures_of, judge, refusal_of
from zhiwen.cli.evaluation.passages import Question, Row
from zhiwen.cli.values import Usage
from zhiwen.client import Client

HITS = 50
"""Hits to ask for: more than needed, because a passage may have several chunks and only its best one counts."""
BATCH = 100
MODES = ("hybrid", "dense", "full_text")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation in one knowledge base."""

    client: Client
    base: str
    clients: int = 1
    fusion: str | None = None
    tell: Callable[[str, int, int], None] = lambda what, done, total: None

    def load(self, passages: Sequence[Row], distractors: Sequence[Row]) -> None:
        """Upload each passage as a document that is named by its id, and wait until all are indexed."""
        rows = zip(self._names(passages, distractors), [*passages, *distractors], strict=True)
        files = [(name, str(row["text"]).encode()) for name, row in rows]
        for first in range(0, len(files), BATCH):
            for item in self.client.upload_documents(self.base, files[first : first + BATCH]):
                if item.outcome == "rejected":
                    raise Usage(f"{item.name} was not accepted: {item.error.detail if item.error else ''}")
            self.tell("uploaded", min(first + BATCH, len(files)), len(files))
        self._wait(len(files))

    def check(self, passages: Sequence[Row], distractors: Sequence[Row]) -> None:
        """Wait until an existing knowledge base is indexed. Raises `Usage` when it holds other passages."""
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
        """Ask every question in one mode, and return the outcomes."""
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
        """Ask all questions in all modes, and return the figures."""
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


def _passage(source: str) -> str:
    kind, _, name = source.partition("/")
    return name.removesuffix(".txt") if kind == "p" else source
