"""Follows many documents at a time until they are settled, by the events of the ingest API."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from zhiwen.client import calls
from zhiwen.client.errors import ApiError, NoAnswerError, NotFoundError, UnavailableError
from zhiwen.client.streaming import document_state
from zhiwen.client.wire import AsyncWire, Wire
from zhiwen.common.api.documents import DocumentOut
from zhiwen.common.models import SETTLED, DocumentStatus

FOLLOWED_AT_ONCE = 16
POLL_SECONDS = 0.5
"""Seconds between two requests for a document whose event stream broke off."""
PATIENCE_SECONDS = 60.0
"""Longest time without an answer of the API, in seconds, while documents are polled."""
STALL_SECONDS = 30.0
IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DocumentEvent:
    """A document was seen for the first time, or changed. `document` is None if it is gone."""

    id: str
    status: DocumentStatus
    document: DocumentOut | None = None

    @classmethod
    def of(cls, document: DocumentOut) -> DocumentEvent:
        """Return the event for a document in its present state."""
        return cls(document.id, document.status, document)

    @classmethod
    def gone(cls, id: str) -> DocumentEvent:
        """Return the event for a document that no longer exists."""
        return cls(id, DocumentStatus.DELETED)

    @property
    def is_settled(self) -> bool:
        """True when the document will not change unless somebody asks for it."""
        return self.status in SETTLED


class Watcher:
    """Is told about the progress of adding documents. All methods do nothing; override those that you need."""

    def uploading(self, total_bytes: int) -> None:
        """The upload begins."""

    def uploaded(self, more_bytes: int) -> None:
        """More bytes were read for the upload. The number is negative when an attempt failed: they are read again."""

    def waiting(self, reason: str, seconds: float) -> None:
        """The service accepts no files now. The client tries again after `seconds`; `reason` is the service's."""

    def following(self, documents: int) -> None:
        """The upload is done. From now on so many documents are followed."""

    def changed(self, event: DocumentEvent) -> None:
        """A followed document changed."""

    def stalled(self, seconds: float) -> None:
        """No document has made progress for `seconds`. This is called once."""


SILENT = Watcher()


@dataclass(slots=True)
class Following:
    """The documents that are not settled yet, and when one last made progress. Times are in seconds of one clock."""

    watcher: Watcher
    since: float
    deadline: float | None = None
    pending: dict[str, DocumentStatus | None] = field(default_factory=dict)
    told: bool = False

    @classmethod
    def of(cls, ids: Iterable[str], watcher: Watcher, *, now: float, timeout: float | None = None) -> Following:
        """Start following documents, for at most `timeout` seconds if it is given. `now` is the present time."""
        return cls(watcher, now, None if timeout is None else now + timeout, dict.fromkeys(ids))

    def note(self, event: DocumentEvent | None, now: float) -> None:
        """Handle an event, or None when there was none for a while. Raises `TimeoutError` after the deadline."""
        if event is not None:
            self._take(event, now)
        if self.pending and self.deadline is not None and now > self.deadline:
            raise TimeoutError(f"{len(self.pending)} documents are not settled yet.")
        if {status for status in self.pending.values() if status} != {DocumentStatus.QUEUED}:
            self.since = now
        elif not self.told and now - self.since > STALL_SECONDS:
            self.told = True
            self.watcher.stalled(STALL_SECONDS)

    def _take(self, event: DocumentEvent, now: float) -> None:
        if self.pending.get(event.id) != event.status:
            self.since = now
        if event.is_settled:
            self.pending.pop(event.id, None)
        else:
            self.pending[event.id] = event.status
        self.watcher.changed(event)


@dataclass(slots=True)
class Patience:
    """Decides how long to poll an API that does not answer: `PATIENCE_SECONDS` after its last answer."""

    answered: float

    def state(self, event: DocumentEvent, now: float) -> DocumentEvent | None:
        """Return the state that the API sent, and note when it came."""
        self.answered = now
        return event

    def state_after(self, error: ApiError, id: str, now: float) -> DocumentEvent | None:
        """Return the state that an error means, or None when the API may come back. Raises any other error."""
        if isinstance(error, NotFoundError):
            return DocumentEvent.gone(id)
        if isinstance(error, NoAnswerError | UnavailableError) and now - self.answered <= PATIENCE_SECONDS:
            return None
        raise error


def follow_document(wire: Wire, kb: str, id: str, wanted: Callable[[], bool]) -> Iterator[DocumentEvent]:
    """Yield the events of one document until it is settled. When the stream breaks off, poll the document.

    It ends soon after `wanted` says that nobody wants the events any more. Raises `ApiError` when the API does not come
    back.
    """
    try:
        for document in wire.events(calls.document_events(kb, id), document_state, wanted=wanted):
            yield (event := DocumentEvent.of(document))
            if event.is_settled:
                return
    except NotFoundError:
        yield DocumentEvent.gone(id)
        return
    except ApiError:
        pass
    patience = Patience(wire.clock())
    while wanted():
        try:
            state = patience.state(DocumentEvent.of(wire.do(calls.get_document(kb, id))), wire.clock())
        except ApiError as exc:
            state = patience.state_after(exc, id, wire.clock())
        if state is not None:
            yield state
            if state.is_settled:
                return
        wire.sleep(POLL_SECONDS)


async def follow_document_async(wire: AsyncWire, kb: str, id: str) -> AsyncIterator[DocumentEvent]:
    """Do what `follow_document` does, for asyncio."""
    try:
        async with aclosing(wire.events(calls.document_events(kb, id), document_state)) as documents:
            async for document in documents:
                yield (event := DocumentEvent.of(document))
                if event.is_settled:
                    return
    except NotFoundError:
        yield DocumentEvent.gone(id)
        return
    except ApiError:
        pass
    patience = Patience(wire.clock())
    while True:
        try:
            state = patience.state(DocumentEvent.of(await wire.do(calls.get_document(kb, id))), wire.clock())
        except ApiError as exc:
            state = patience.state_after(exc, id, wire.clock())
        if state is not None:
            yield state
            if state.is_settled:
                return
        await wire.sleep(POLL_SECONDS)


def events_in_threads(
    ids: Iterable[str], follow: Callable[[str, Callable[[], bool]], Iterator[DocumentEvent]]
) -> Iterator[DocumentEvent | None]:
    """Yield the events of documents as they come, and None whenever no event came for `IDLE_SECONDS`.

    `FOLLOWED_AT_ONCE` documents are followed at a time, each in a thread that runs `follow`. It gets an id and a
    function that says whether the events are still wanted. Raises what `follow` raises.
    """
    waiting = deque(ids)
    heard: queue.SimpleQueue[DocumentEvent | Exception | None] = queue.SimpleQueue()
    abandoned = threading.Event()

    def run() -> None:
        try:
            while (id := _next(waiting)) is not None:
                for event in follow(id, lambda: not abandoned.is_set()):
                    heard.put(event)
                    if abandoned.is_set():
                        return
        except Exception as exc:  # whatever it is, the caller raises it
            heard.put(exc)
        finally:
            heard.put(None)

    running = min(len(waiting), FOLLOWED_AT_ONCE)
    for _ in range(running):
        # Daemon threads, so that one that waits for an event does not keep the process alive.
        threading.Thread(target=run, name="zhiwen-follow", daemon=True).start()
    try:
        while running:
            try:
                event = heard.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                yield None
                continue
            if isinstance(event, Exception):
                raise event
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        abandoned.set()
        waiting.clear()


async def events_in_tasks(
    ids: Iterable[str], follow: Callable[[str], AsyncIterator[DocumentEvent]]
) -> AsyncGenerator[DocumentEvent | None, None]:
    """Do what `events_in_threads` does, in tasks of the running event loop."""
    waiting = deque(ids)
    heard: asyncio.Queue[DocumentEvent | Exception | None] = asyncio.Queue()

    async def run() -> None:
        try:
            while (id := _next(waiting)) is not None:
                async for event in follow(id):
                    heard.put_nowait(event)
        except Exception as exc:  # whatever it is, the caller raises it
            heard.put_nowait(exc)
        finally:
            heard.put_nowait(None)

    tasks = [asyncio.create_task(run()) for _ in range(min(len(waiting), FOLLOWED_AT_ONCE))]
    running = len(tasks)
    try:
        while running:
            try:
                event = await asyncio.wait_for(heard.get(), IDLE_SECONDS)
            except TimeoutError:
                yield None
                continue
            if isinstance(event, Exception):
                raise event
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _next(waiting: deque[str]) -> str | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None
