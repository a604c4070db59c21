"""Following documents until they are settled, many at a time, by the events of the ingest API."""

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
"""Between two looks at a document whose events broke off."""
PATIENCE_SECONDS = 60.0
"""For so long an API may be away while a document is looked at."""
STALL_SECONDS = 30.0
IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DocumentEvent:
    """A document changed, or was seen for the first time. `document` is None where it was gone already."""

    id: str
    status: DocumentStatus
    document: DocumentOut | None = None

    @classmethod
    def of(cls, document: DocumentOut) -> DocumentEvent:
        """Return the event that a document is as it is."""
        return cls(document.id, document.status, document)

    @classmethod
    def gone(cls, id: str) -> DocumentEvent:
        """Return the event that there is no such document any more."""
        return cls(id, DocumentStatus.DELETED)

    @property
    def is_settled(self) -> bool:
        """True when nothing more will happen unless somebody asks for it."""
        return self.status in SETTLED


class Watcher:
    """Hears how adding documents goes. Every method does nothing; override those that you want to hear of."""

    def uploading(self, total_bytes: int) -> None:
        """The upload begins."""

    def uploaded(self, more_bytes: int) -> None:
        """More bytes were read for the upload; negative when a try failed and they will be read again."""

    def waiting(self, reason: str, seconds: float) -> None:
        """The service takes no more for now, and is asked again after so many seconds."""

    def following(self, documents: int) -> None:
        """The upload is done; so many documents are followed from here on."""

    def changed(self, event: DocumentEvent) -> None:
        """A followed document changed."""

    def stalled(self, seconds: float) -> None:
        """For so long no document has been taken up. Told once."""


SILENT = Watcher()


@dataclass(slots=True)
class Following:
    """Which documents are not yet settled, and whether anything moves. Times are in seconds of one clock."""

    watcher: Watcher
    since: float
    deadline: float | None = None
    pending: dict[str, DocumentStatus | None] = field(default_factory=dict)
    told: bool = False

    @classmethod
    def of(cls, ids: Iterable[str], watcher: Watcher, *, now: float, timeout: float | None = None) -> Following:
        """Begin to follow documents, for at most `timeout` seconds where one is given."""
        return cls(watcher, now, None if timeout is None else now + timeout, dict.fromkeys(ids))

    def note(self, event: DocumentEvent | None, now: float) -> None:
        """Take in an event, or that there was none for a while. Raises `TimeoutError` past the deadline."""
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
    """How long an API may be away while a document is looked at: `PATIENCE_SECONDS` after its last answer."""

    answered: float

    def state(self, event: DocumentEvent, now: float) -> DocumentEvent | None:
        """Return the state that the API answered with."""
        self.answered = now
        return event

    def state_after(self, error: ApiError, id: str, now: float) -> DocumentEvent | None:
        """Return the state that an error means; None where the API is away for a moment. Raises any other error."""
        if isinstance(error, NotFoundError):
            return DocumentEvent.gone(id)
        if isinstance(error, NoAnswerError | UnavailableError) and now - self.answered <= PATIENCE_SECONDS:
            return None
        raise error


def follow_document(wire: Wire, kb: str, id: str, wanted: Callable[[], bool]) -> Iterator[DocumentEvent]:
    """Yield the events of one document until it is settled, its states where the stream breaks off.

    It ends soon after they are not `wanted` any more. Raises `ApiError` when the API stays away.
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
    """Do what `follow_document` does, in the running loop."""
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


def heard_in_threads(
    ids: Iterable[str], follow: Callable[[str, Callable[[], bool]], Iterator[DocumentEvent]]
) -> Iterator[DocumentEvent | None]:
    """Yield the events of documents as they come, `FOLLOWED_AT_ONCE` at a time, and None whenever none came for
    `IDLE_SECONDS`.

    `follow` gets an id and a function that says whether its events are still wanted. Raises what it raises.
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
        except Exception as exc:
            heard.put(exc)
        finally:
            heard.put(None)

    running = min(len(waiting), FOLLOWED_AT_ONCE)
    for _ in range(running):
        # Daemons: one that waits for an event ends with the process, whatever the service does.
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


async def heard_in_tasks(
    ids: Iterable[str], follow: Callable[[str], AsyncIterator[DocumentEvent]]
) -> AsyncGenerator[DocumentEvent | None, None]:
    """Do what `heard_in_threads` does, in tasks of the running loop."""
    waiting = deque(ids)
    heard: asyncio.Queue[DocumentEvent | Exception | None] = asyncio.Queue()

    async def run() -> None:
        try:
            while (id := _next(waiting)) is not None:
                async for event in follow(id):
                    heard.put_nowait(event)
        except Exception as exc:
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
