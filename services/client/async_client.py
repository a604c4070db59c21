"""The asynchronous client: the methods of `Client` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self, Unpack

import httpx

from zhiwen.client import calls
from zhiwen.client.addresses import Service
from zhiwen.client.connection import ClientOptions, Connection
from zhiwen.client.errors import ApiError
from zhiwen.client.files import File, Meter, OnBytes, ignore, named_source, sources, written_whole
from zhiwen.client.following import SILENT, DocumentEvent, Following, Watcher, events_in_tasks, follow_document_async
from zhiwen.client.options import AskOptions, KnowledgeBaseOptions, OnDuplicate, SearchOptions
from zhiwen.client.streaming import AnswerEvent, answer_event, document_state
from zhiwen.client.uploading import AddedDocument, Adding
from zhiwen.client.wire import AsyncWire
from zhiwen.common.api.documents import ChunkOut, DocumentOut, UploadItem
from zhiwen.common.api.fsck import FsckReport
from zhiwen.common.api.knowledge_bases import KnowledgeBaseOut
from zhiwen.common.api.operations import Health, Readiness
from zhiwen.common.api.questions import Answer, SearchOut
from zhiwen.common.api.recall import RecallOut


class AsyncClient:
    """A client of Zhiwen's REST API for asyncio: the methods, the arguments and the errors of `Client`.

    What `Client` returns is awaited here, and what it yields is read with `async for`:

    >>> import asyncio
    >>> from zhiwen import AsyncClient
    >>> async def main() -> None:
    ...     async with AsyncClient() as zhiwen:
    ...         await zhiwen.create_knowledge_base("制度")
    ...         await zhiwen.add_documents("制度", [("病假.txt", "病假需要医院开具的证明。".encode())])
    ...         print((await zhiwen.ask("制度", "病假需要什么证明?")).answer)
    ...         async for document in zhiwen.list_documents("制度"):
    ...             print(document.name, document.status)
    >>> asyncio.run(main())
    病假需要医院开具的证明。[1]
    病假.txt ready

    Use `contextlib.aclosing` to close a stream that you leave before its end. Use `asyncio.timeout` in place of the
    argument `timeout`. Files are read in the event loop, a piece at a time.
    """

    def __init__(
        self,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._wire = AsyncWire(Connection.of(**options), transport, sleep)

    @property
    def urls(self) -> Mapping[Service, str]:
        """The address of each service."""
        return self._wire.connection.urls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    # Knowledge bases

    async def create_knowledge_base(self, name: str, **options: Unpack[KnowledgeBaseOptions]) -> KnowledgeBaseOut:
        """Create a knowledge base.

        `options` are those of `KnowledgeBaseOptions`: its model, index, chunking and prompt. Raises `ConflictError`
        (`knowledge-base-exists`) when the name is taken.
        """
        return await self._wire.do(calls.create_knowledge_base(name, options))

    def list_knowledge_bases(self) -> AsyncIterator[KnowledgeBaseOut]:
        """Yield every knowledge base, in order of name."""
        return self._wire.items(calls.list_knowledge_bases)

    async def get_knowledge_base(self, name: str) -> KnowledgeBaseOut:
        """Return one knowledge base, with how many of its documents are in which status."""
        return await self._wire.do(calls.get_knowledge_base(name))

    async def update_knowledge_base(self, name: str, **changes: Unpack[KnowledgeBaseOptions]) -> KnowledgeBaseOut:
        """Change the given fields; None resets a field to its default.

        Another embedding model, index or chunking starts a rebuild. The old index answers until the new one is
        complete.
        """
        return await self._wire.do(calls.update_knowledge_base(name, changes))

    async def cancel_rebuild(self, name: str) -> KnowledgeBaseOut:
        """Cancel the running rebuild; the present index goes on answering."""
        return await self._wire.do(calls.cancel_rebuild(name))

    async def delete_knowledge_base(self, name: str) -> None:
        """Hide a knowledge base at once; its documents and chunks are removed soon after."""
        await self._wire.do(calls.delete_knowledge_base(name))

    # Documents

    async def add_documents(
        self,
        kb: str,
        files: Iterable[File],
        *,
        metadata: Mapping[str, Any] | None = None,
        on_duplicate: OnDuplicate = "keep",
        wait: bool = True,
        watcher: Watcher = SILENT,
    ) -> list[AddedDocument]:
        """Upload any number of files, wait until their documents are settled, and return the outcome of each.

        `kb`, `files`, `metadata`, `on_duplicate`, `wait` and `watcher` are the arguments of `Client.add_documents`. The
        errors are the same, too.
        """
        adding = Adding(kb, sources(files), watcher, metadata=metadata, on_duplicate=on_duplicate)
        while (upload := adding.next_upload()) is not None:
            try:
                adding.accepted(await self._wire.do(upload))
            except (ApiError, OSError) as exc:
                await self._wire.sleep(adding.refused(exc))
        if wait:
            unsettled, unchanged = adding.unsettled(), adding.unchanged()
            watcher.following(len(unsettled))
            async for event in self.follow_documents(kb, unsettled, watcher=watcher):
                adding.note(event)
            for id in unchanged:
                adding.note(DocumentEvent.of(await self.get_document(kb, id)))
        return adding.results

    async def upload_documents(
        self,
        kb: str,
        files: Iterable[File],
        *,
        metadata: Mapping[str, Any] | None = None,
        on_duplicate: OnDuplicate = "keep",
        on_bytes: OnBytes = ignore,
    ) -> list[UploadItem]:
        """Upload files in one request, and return the outcome of each when all bytes are stored.

        `kb`, `files`, `metadata`, `on_duplicate` and `on_bytes` are the arguments of `Client.upload_documents`. The
        errors are the same, too.
        """
        meter = Meter(on_bytes)
        return await self._wire.do(
            calls.upload_documents(kb, sources(files), metadata=metadata, on_duplicate=on_duplicate, meter=meter)
        )

    async def put_document(
        self,
        kb: str,
        name: str,
        content: bytes | Path,
        *,
        metadata: Mapping[str, Any] | None = None,
        on_duplicate: OnDuplicate = "keep",
        on_bytes: OnBytes = ignore,
    ) -> UploadItem:
        """Upload one file as the document of this name.

        `kb` is the knowledge base, and `content` the file's bytes or its path. `metadata`, `on_duplicate` and
        `on_bytes` are those of `upload_documents`.
        """
        source = named_source(name, content)
        meter = Meter(on_bytes)
        return await self._wire.do(
            calls.put_document(kb, source, metadata=metadata, on_duplicate=on_duplicate, meter=meter)
        )

    def list_documents(
        self, kb: str, *, status: str | None = None, name: str | None = None
    ) -> AsyncIterator[DocumentOut]:
        """Yield the documents in order of arrival.

        `status` and `name` limit them. `name` is exact, or a prefix followed by `*`.
        """
        return self._wire.items(lambda cursor: calls.list_documents(kb, cursor, status=status, name=name))

    async def get_document(self, kb: str, id: str) -> DocumentOut:
        """Return one document."""
        return await self._wire.do(calls.get_document(kb, id))

    def document_events(self, kb: str, id: str) -> AsyncIterator[DocumentOut]:
        """Yield a document as it is now and after each change, until it is settled or the stream breaks off.

        `follow_documents` goes on when a stream breaks off.
        """
        return self._wire.events(calls.document_events(kb, id), document_state)

    async def follow_documents(
        self, kb: str, ids: Iterable[str], *, watcher: Watcher = SILENT
    ) -> AsyncIterator[DocumentEvent]:
        """Yield the events of many documents at a time, until all documents are settled.

        When a stream breaks off, its document is polled. `watcher` is told about every event, and when no document
        makes progress. Raises `ApiError` when the API does not come back.
        """
        wanted = list(dict.fromkeys(ids))
        following = Following.of(wanted, watcher, now=self._wire.clock())
        async with aclosing(events_in_tasks(wanted, lambda id: follow_document_async(self._wire, kb, id))) as events:
            async for event in events:
                following.note(event, self._wire.clock())
                if event is not None:
                    yield event

    async def wait_for_document(self, kb: str, id: str) -> DocumentOut:
        """Return a document once it is settled. Raises `NotFoundError`."""
        last: DocumentOut | None = None
        async for event in self.follow_documents(kb, [id]):
            last = event.document
        return last or await self.get_document(kb, id)

    async def get_content(self, kb: str, id: str) -> bytes:
        """Return the original bytes of the newest version."""
        return await self._wire.do(calls.get_content(kb, id))

    async def save_content(self, kb: str, id: str, path: Path) -> None:
        """Write the original bytes of the newest version to a file. They need not fit in memory."""
        call = calls.get_content(kb, id)
        with written_whole(path) as file:
            async with self._wire.stream(call) as response:
                async for piece in response.aiter_bytes():
                    file.write(piece)

    def list_chunks(self, kb: str, id: str) -> AsyncIterator[ChunkOut]:
        """Yield the chunks of the live version in order; none when no version is live."""
        return self._wire.items(lambda cursor: calls.list_chunks(kb, id, cursor))

    async def retry_document(self, kb: str, id: str) -> DocumentOut:
        """Index a failed or cancelled document again."""
        return await self._wire.do(calls.retry_document(kb, id))

    async def cancel_document(self, kb: str, id: str) -> DocumentOut:
        """Stop the indexing of a document; an older version that is live stays live."""
        return await self._wire.do(calls.cancel_document(kb, id))

    async def delete_document(self, kb: str, id: str) -> DocumentOut:
        """Hide a document from search at once; its chunks and its original are removed soon after."""
        return await self._wire.do(calls.delete_document(kb, id))

    # Questions

    async def search(self, kb: str, query: str, **options: Unpack[SearchOptions]) -> SearchOut:
        """Find the chunks that fit a question best.

        `options` are those of `SearchOptions`: how many (`top_k`), how (`mode`, `fusion`, `rerank`, `cross_language`,
        `params`), among which (`filter`, `min_score`), and with what around them (`neighbours`).
        """
        return await self._wire.do(calls.search(kb, query, options))

    async def ask(self, kb: str, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Answer a question from a knowledge base, with numbered sources, or refuse when the answer is not there.

        `outcome` says how it ended: `answered`, `refused`, or `closest` when the built-in answerer is not sure.
        Passages that did not answer are in `closest` and not in `sources`. `citations` are the marks [n] of the answer,
        checked.

        `options` are those of `AskOptions`: the turns so far (`history`), what is searched (`top_k`, `mode`, `fusion`,
        `rerank`, `cross_language`, `filter`, `min_score`), and how the answer is written (`model`, `temperature`,
        `max_tokens`).
        """
        return await self._wire.do(calls.ask(kb, question, options))

    async def ask_stream(self, kb: str, question: str, **options: Unpack[AskOptions]) -> AsyncIterator[AnswerEvent]:
        """Yield an answer as it is written: the passages that it may cite, its pieces, and at the end the `Answer`.

        Only the `Answer` says whether the passages answered, and which marks they support.
        Raises `ApiError` when the stream breaks off.
        """
        call = calls.ask_stream(kb, question, options)
        reading: AsyncGenerator[AnswerEvent, None] = self._wire.events(call, answer_event)
        async with aclosing(reading) as events:
            async for event in events:
                yield event
                if isinstance(event, Answer):
                    return
        raise self._wire.connection.ended_early(call)

    async def recall(
        self, kb: str, *, queries: int = 100, k: int = 10, params: Mapping[str, int] | str | None = None
    ) -> RecallOut:
        """Compare the live index with an exact search: which share of the `k` nearest chunks it finds, and how fast.

        `queries` is how many stored chunks to search with. `params` are search parameters to try, or their JSON.
        """
        return await self._wire.do(calls.recall(kb, queries=queries, k=k, params=params))

    # Operations

    async def fsck(self, *, repair: bool = False) -> FsckReport:
        """Compare ledger, originals and Milvus; with `repair`, mend the differences."""
        return await self._wire.do(calls.fsck(repair=repair))

    async def health(self, service: Service) -> Health:
        """Return the health of a service that runs. Raises `ApiError` when the service does not answer."""
        return await self._wire.do(calls.health(service))

    async def readiness(self, service: Service) -> Readiness:
        """Return whether a service is ready, and which of its dependencies answer. Not ready is no error."""
        return await self._wire.do(calls.readiness(service))
