"""What the page does, over the REST API only; no gradio here. Every method blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from zhiwen.cli.client import Client, LocalFile
from zhiwen.cli.problems import ApiError, Json
from zhiwen.common.models import SETTLED
from zhiwen.webui.views import Row, document_rows, status_label, upload_rows

SHOWN_DOCUMENTS = 500
FOLLOWED_AT_ONCE = 50
POLL_SECONDS = 0.5
HISTORY_TURNS = 6


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what has been answered so far."""

    question: str
    answer: str = ""
    sources: tuple[Json, ...] = ()
    model: str | None = None
    refused: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Actions:
    """The page's doings with one client. `sleep` is in seconds."""

    client: Client
    sleep: Callable[[float], None] = field(default=time.sleep)

    def base_names(self) -> list[str]:
        return [base["name"] for base in self.client.bases()]

    def create_base(self, name: str) -> str:
        """Create a knowledge base and return its name. Raises `ApiError`."""
        return str(self.client.create_base(name.strip())["name"])

    def documents(self, kb: str | None) -> list[Json]:
        """Return the first documents of a knowledge base."""
        return list(islice(self.client.documents(kb), SHOWN_DOCUMENTS)) if kb else []

    def table(self, kb: str | None) -> list[Row]:
        return document_rows(self.documents(kb))

    def delete(self, kb: str, ids: Sequence[str]) -> None:
        """Hide documents at once; they are gone soon after. Raises `ApiError`."""
        for id in ids:
            self.client.delete_document(kb, id)

    def upload(self, kb: str, paths: Sequence[Path]) -> Iterator[list[Row]]:
        """Upload files one by one and yield the status table whenever it changes, until every document is settled.

        The local copies are removed as soon as they are sent.
        """
        items: list[Json] = []
        for path in paths:
            waiting = [_not_sent(other) for other in paths[len(items) :]] if len(items) < len(paths) else []
            yield upload_rows([*items, *waiting], {})
            try:
                items += self._upload_one(kb, path)
            finally:
                path.unlink(missing_ok=True)
        latest: dict[str, Json] = {}
        shown: list[Row] = []
        while True:
            rows = upload_rows(items, latest)
            if rows != shown:
                yield rows
                shown = rows
            pending = [id for id in _followed(items) if latest.get(id, {}).get("status") not in SETTLED]
            if not pending:
                return
            self.sleep(POLL_SECONDS)
            latest |= {id: self._document(kb, id) for id in pending[:FOLLOWED_AT_ONCE]}

    def _upload_one(self, kb: str, path: Path) -> list[Json]:
        try:
            return self.client.upload(kb, [LocalFile.at(path)])
        except ApiError as exc:
            return [_refused(path.name, exc)]

    def _document(self, kb: str, id: str) -> Json:
        try:
            return self.client.document(kb, id)
        except ApiError as exc:
            if exc.status == 404:
                return {"id": id, "status": "deleted"}
            raise

    def ask(self, kb: str, question: str, turns: Sequence[Turn]) -> Iterator[Turn]:
        """Yield the growing answer; what goes wrong ends up in its `error`."""
        turn = Turn(question)
        yield turn
        try:
            for event, data in self.client.ask_events(kb, {"question": question, "history": history(turns)}):
                match event:
                    case "sources":
                        turn = replace(turn, sources=tuple(data["sources"]))
                    case "token":
                        turn = replace(turn, answer=turn.answer + data["text"])
                    case "done":
                        turn = replace(
                            turn,
                            answer=data["answer"],
                            sources=tuple(data["sources"]),
                            model=data["model"],
                            refused=data["refused"],
                        )
                yield turn
        except ApiError as exc:
            yield replace(turn, error=exc.detail)


def history(turns: Sequence[Turn]) -> list[Json]:
    """Return the last answered turns as the messages that `ask` takes."""
    answered = [turn for turn in turns if turn.answer and not turn.error][-HISTORY_TURNS:]
    return [
        message
        for turn in answered
        for message in ({"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer})
    ]


def choices(documents: Sequence[Json]) -> list[tuple[str, str]]:
    """Return what a list offers for choosing documents: a label and the id."""
    return [(f"{d['name']} ({status_label(d)})", str(d["id"])) for d in documents if d["status"] != "deleting"]


def _followed(items: Sequence[Json]) -> list[str]:
    return [str(item["id"]) for item in items if item["outcome"] not in {"rejected", "duplicate"}]


def _not_sent(path: Path) -> Json:
    return {"id": None, "name": path.name, "outcome": "", "status": "上传中 / uploading"}


def _refused(name: str, exc: ApiError) -> Json:
    error = {"code": exc.code, "detail": exc.detail}
    return {"id": None, "name": name, "outcome": "rejected", "status": "rejected", "error": error}
