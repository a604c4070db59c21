"""What the page can do, over the REST API only. Every method blocks. Nothing here uses gradio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from zhiwen.client import (
    Answer,
    AnswerEvent,
    ApiError,
    Citation,
    Client,
    DocumentEvent,
    DocumentOut,
    DocumentStatus,
    ErrorOut,
    LocalFile,
    Message,
    Outcome,
    SourceOut,
    SourcesEvent,
    TokenEvent,
    UploadItem,
)
from zhiwen.webui.views import Row, document_rows, is_followed, status_label, upload_rows, waiting_rows

SHOWN_DOCUMENTS = 500
HISTORY_TURNS = 6


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, and its answer so far.

    `passages` are its sources, or what was found and did not answer: `outcome` says which, once the answer is whole.
    """

    question: str
    answer: str = ""
    passages: tuple[SourceOut, ...] = ()
    model: str | None = None
    outcome: Outcome | None = None
    confidence: float = 0.0
    citations: tuple[Citation, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Actions:
    """What visitors can do. One client serves all visitors."""

    client: Client

    def base_names(self) -> list[str]:
        """Return the names of the knowledge bases."""
        return [base.name for base in self.client.list_knowledge_bases()]

    def create_base(self, name: str) -> str:
        """Create a knowledge base and return its name. Raises `ApiError`."""
        return self.client.create_knowledge_base(name.strip()).name

    def documents(self, kb: str | None) -> list[DocumentOut]:
        """Return the first documents of a knowledge base."""
        return list(islice(self.client.list_documents(kb), SHOWN_DOCUMENTS)) if kb else []

    def table(self, kb: str | None) -> list[Row]:
        """Return the first documents of a knowledge base as rows."""
        return document_rows(self.documents(kb))

    def delete(self, kb: str, ids: Sequence[str]) -> None:
        """Hide documents at once; they are removed soon after. Raises `ApiError`."""
        for id in ids:
            self.client.delete_document(kb, id)

    def upload(self, kb: str, paths: Sequence[Path]) -> Iterator[list[Row]]:
        """Upload files one by one and yield the status table whenever it changes, until every document is settled.

        The local copies are deleted as soon as they are sent.
        """
        items: list[UploadItem] = []
        for number, path in enumerate(paths):
            yield [*upload_rows(items, {}), *waiting_rows(waiting.name for waiting in paths[number:])]
            try:
                items += self._upload_one(kb, path)
            finally:
                path.unlink(missing_ok=True)
        latest: dict[str, DocumentEvent] = {}
        shown = upload_rows(items, latest)
        yield shown
        for event in self.client.follow_documents(kb, [item.id for item in items if item.id and is_followed(item)]):
            latest[event.id] = event
            if (rows := upload_rows(items, latest)) != shown:
                shown = rows
                yield shown

    def _upload_one(self, kb: str, path: Path) -> list[UploadItem]:
        try:
            return self.client.upload_documents(kb, [LocalFile.at(path)])
        except ApiError as exc:
            error = ErrorOut(code=exc.code, detail=exc.detail)
            return [
                UploadItem(id=None, name=path.name, status="rejected", version=None, outcome="rejected", error=error)
            ]

    def ask(self, kb: str, question: str, turns: Sequence[Turn]) -> Iterator[Turn]:
        """Yield the growing answer. An error is put into its `error`."""
        turn = Turn(question)
        yield turn
        try:
            for event in self.client.ask_stream(kb, question, history=history(turns)):
                turn = _grown(turn, event)
                yield turn
        except ApiError as exc:
            yield replace(turn, error=exc.detail)


def _grown(turn: Turn, event: AnswerEvent) -> Turn:
    match event:
        case SourcesEvent():
            return replace(turn, passages=tuple(event.sources))
        case TokenEvent():
            return replace(turn, answer=turn.answer + event.text)
        case Answer():
            return replace(
                turn,
                answer=event.answer,
                passages=tuple(event.sources or event.closest),
                model=event.model,
                outcome=event.outcome,
                confidence=event.confidence,
                citations=tuple(event.citations),
            )


def history(turns: Sequence[Turn]) -> list[Message]:
    """Return the last answered turns as messages for `ask`."""
    answered = [turn for turn in turns if turn.answer and not turn.error][-HISTORY_TURNS:]
    return [
        message
        for turn in answered
        for message in (
            Message(role="user", content=turn.question),
            Message(role="assistant", content=turn.answer),
        )
    ]


def choices(documents: Sequence[DocumentOut]) -> list[tuple[str, str]]:
    """Return the choices of a list of documents, each a label and an id."""
    return [
        (f"{document.name} ({status_label(document.status, document.progress)})", document.id)
        for document in documents
        if document.status != DocumentStatus.DELETING
    ]
