"""Runs an evaluation: loads documents into its own knowledge base, and asks every question in every mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from zhiwen.cli.evaluation.answers import AnswerOutcome, answer_figures_of, is_right_passage, judge_answer
from zhiwen.cli.evaluation.figures import Report
from zhiwen.cli.evaluation.metrics import Outcome, figures_of, judge, refusal_of
from zhiwen.cli.evaluation.passages import Question, Row, document_of
from zhiwen.cli.values import Usage
from zhiwen.client import BytesFile, Client, HitOut, LocalFile

T = TypeVar("T")
Tell = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""

HITS = 50
"""Hits to ask for: more than needed, because a passage may have several chunks and only its best one counts."""
BATCH_FILES = 100
BATCH_BYTES = 8 * 1024 * 1024
MODES = ("hybrid", "dense", "full_text")


def passage_files(passages: Sequence[Row], distractors: Sequence[Row]) -> list[BytesFile | LocalFile]:
    """Return each passage as a file that is named by its id."""
    own = [BytesFile(document_of(str(row["id"])), str(row["text"]).encode()) for row in passages]
    return [*own, *(BytesFile(f"d/{n}.txt", str(row["text"]).encode()) for n, row in enumerate(distractors))]


def batches_of(files: Iterable[BytesFile | LocalFile]) -> list[list[BytesFile | LocalFile]]:
    """Return the files in batches for one request each: at most 100 files and, of more than one, 8 MiB."""
    batches: list[list[BytesFile | LocalFile]] = []
    room = 0
    for file in files:
        if not batches or len(batches[-1]) == BATCH_FILES or file.size > room:
            batches.append([])
            room = BATCH_BYTES
        batches[-1].append(file)
        room -= file.size
    return batches


def asked_at_once(
    clients: int, what: str, questions: Sequence[Question], ask: Callable[[Question], T], tell: Tell
) -> list[T]:
    """Return what `ask` returns for each question, in order.

    `clients` questions are asked at the same time. `tell` is called with `what` is asked, at every fiftieth question
    and at the last.
    """
    found: list[T] = []
    with ThreadPoolExecutor(clients) as pool:
        for result in pool.map(ask, questions):
            found.append(result)
            if len(found) % 50 == 0 or len(found) == len(questions):
                tell(what, len(found), len(questions))
    return found


def right_hits(question: Question, hits: Sequence[HitOut]) -> list[bool]:
    """Return of each distinct passage among the hits, best first, whether it is a right one.

    A passage is a chunk where the question has a gold text, and else a document with all of its chunks.
    """
    best: dict[str, HitOut] = {}
    for hit in hits:
        best.setdefault(hit.chunk_id if question.gold_text else hit.source, hit)
    return [is_right_passage(question, hit) for hit in best.values()]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation in one knowledge base."""

    client: Client
    base: str
    clients: int = 1
    fusion: str | None = None
    tell: Tell = lambda what, done, total: None

    def load(self, files: Sequence[BytesFile | LocalFile]) -> None:
        """Upload the files, and wait until all are indexed. Raises `Usage` when one is not accepted or indexed."""
        sent = 0
        for batch in batches_of(files):
            for item in self.client.upload_documents(self.base, batch):
                if item.outcome == "rejected":
                    raise Usage(f"{item.name} was not accepted: {item.error.detail if item.error else ''}")
            sent += len(batch)
            self.tell("uploaded", sent, len(files))
        self._wait(len(files))

    def check(self, files: Sequence[BytesFile | LocalFile]) -> None:
        """Wait until an existing knowledge base is indexed. Raises `Usage` when it holds other documents."""
        held = {document.name for document in self.client.list_documents(self.base)}
        if held != {file.name for file in files}:
            raise Usage(f"{self.base} holds other passages than these; delete it, or name another with --kb.")
        self._wait(len(held))

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

    def search(self, questions: Sequence[Question], mode: str) -> list[Outcome]:
        """Search for every question in one mode, and return the outcomes."""
        return asked_at_once(self.clients, mode, questions, lambda question: self._search(question, mode), self.tell)

    def _search(self, question: Question, mode: str) -> Outcome:
        started = time.perf_counter()
        found = self.client.search(self.base, question.text, mode=mode, top_k=HITS, fusion=self.fusion)
        milliseconds = (time.perf_counter() - started) * 1000
        # The best score is not always the first's: see `fusion` and reranking.
        score = max((hit.score for hit in found.hits), default=0.0)
        right = right_hits(question, found.hits)
        return judge(question, right, score, refused=not found.answerable, milliseconds=milliseconds)

    def ask(self, questions: Sequence[Question]) -> list[AnswerOutcome]:
        """Ask for the answer to every question, and return how each ended."""
        return asked_at_once(self.clients, "answers", questions, self._ask, self.tell)

    def _ask(self, question: Question) -> AnswerOutcome:
        return judge_answer(question, self.client.ask(self.base, question.text, fusion=self.fusion))

    def run(
        self, passages: int, questions: Sequence[Question], modes: Sequence[str] = MODES, *, answers: bool = True
    ) -> Report:
        """Search for all questions in all modes, ask for the answers, and return the figures.

        `passages` is how many passages or documents are searched. Without `answers`, `/ask` is not asked.
        """
        outcomes = {mode: self.search(questions, mode) for mode in modes}
        judged = outcomes.get("hybrid") or next(iter(outcomes.values()))
        return Report(
            passages=passages,
            modes={mode: figures_of(found) for mode, found in outcomes.items()},
            refusal=refusal_of(judged),
            answers=answer_figures_of(self.ask(questions)) if answers else None,
            scores={
                "answerable": [outcome.score for outcome in judged if outcome.answerable],
                "unanswerable": [outcome.score for outcome in judged if not outcome.answerable],
            },
        )
