"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, Unpack

import httpx

from zhiwen.client import calls
from zhiwen.client.addresses import Service
from zhiwen.client.connection import ClientOptions, Connection
from zhiwen.client.errors import ApiError
from zhiwen.client.files import File, Meter, OnBytes, ignore, named_source, sources, written_whole
from zhiwen.client.following import SILENT, DocumentEvent, Following, Watcher, follow_document, heard_in_threads
from zhiwen.client.options import AskOptions, KnowledgeBaseOptions, OnDuplicate, SearchOptions
from zhiwen.client.streaming import AnswerEvent, answer_event, document_state
from zhiwen.client.uploading import AddedDocument, Adding
from zhiwen.client.wire import Wire
from zhiwen.common.api.documents import ChunkOut, DocumentOut, UploadItem
from zhiwen.common.api.fsck import FsckReport
from zhiwen.common.api.knowledge_bases import KnowledgeBaseOut
from zhiwen.common.api.operations import Health, Readiness
from zhiwen.common.api.questions import Answer, SearchOut
from zhiwen.common.api.recall import RecallOut


class Client:
    """A client of Zhiwen's REST API. Every method blocks; `AsyncClient` has the same methods to be awaited.

    >>> from zhiwen import Client
    >>> with Client() as zhiwen:
    ...     _ = zhiwen.create_knowledge_base("手册")
    ...     [added] = zhiwen.add_documents("手册", [("年假.txt", "入职满一年的员工每年有十天带薪年假。".encode())])
    ...     print(added.name, added.outcome, added.status)
    ...     print(zhiwen.ask("手册", "每年有几天带薪年假?").answer)
    年假.txt created ready
    入职满一年的员工每年有十天带薪年假。[1]

    An answer can be read while it is written, and a search needs no model:

    >>> from zhiwen.client import TokenEvent
    >>> with Client() as zhiwen:
    ...     for event in zhiwen.ask_stream("手册", "每年有几天带薪年假?"):
    ...         if isinstance(event, TokenEvent):
    ...             print(event.text, end="")
    ...     hits = zhiwen.search("手册", "年假", top_k=1).hits
    入职满一年的员工每年有十天带薪年假。[1]
    >>> hits[0].source
    '年假.txt'

    What goes wrong is an `ApiError`; its class says what kind, its `code` what exactly:

    >>> from zhiwen.client import NotFoundError
    >>> with Client() as zhiwen:
    ...     try:
    ...         zhiwen.get_knowledge_base("没有")
    ...     except NotFoundError as error:
    ...         print(error.code)
    knowledge-base-not-found

    A request that may be repeated without harm is sent again when the connection breaks off, and every request when
    nothing was sent or the service said that it is busy (429, 503): at most `retries` times and `retry_seconds`
    after the first, with growing pauses or those that the service asks for. An upload or a question whose answer was
    lost is not sent again; a deletion is, and may then find nothing to delete (`NotFoundError`). A client may be used
    from several threads.

    `ingest_url`, `query_url` and `gateway_url` are the addresses of the services and `api_key` is the key: by default
    those of the environment (`ZHIWEN_INGEST_URL`, …, `ZHIWEN_API_KEY`), else the addresses of `zhiwen up` and no key.
    Timeouts are in seconds: `connect_timeout` for a connection, `timeout` for an answer, `long_timeout` for an upload,
    a download, the answer of a model, `fsck` and `recall`. For tests, `transport` replaces the network, `clock` and
    `sleep` replace time.
    """

    def __init__(
        self,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._wire = Wire(Connection.of(**options), transport, sleep)

    @property
    def urls(self) -> Mapping[Service, str]:
        """The address of each service."""
        return self._wire.connection.urls

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    # Knowledge bases

    def create_knowledge_base(self, name: str, **options: Unpack[KnowledgeBaseOptions]) -> KnowledgeBaseOut:
        """Create a knowledge base.

        `options` are those of `KnowledgeBaseOptions`: its model, index, chunking and prompt. Raises `ConflictError`
        (`knowledge-base-exists`) when the name is taken.
        """
        return self._wire.do(calls.create_knowledge_base(name, options))

    def list_knowledge_bases(self) -> Iterator[KnowledgeBaseOut]:
        """Yield every knowledge base, in order of name."""
        return self._wire.items(calls.list_knowledge_bases)

    def get_knowledge_base(self, name: str) -> KnowledgeBaseOut:
        """Return one knowledge base, with how many of its documents are in which status."""
        return self._wire.do(calls.get_knowledge_base(name))

    def update_knowledge_base(self, name: str, **changes: Unpack[KnowledgeBaseOptions]) -> KnowledgeBaseOut:
        """Change what is given; None resets a field to its default.

        Another embedding model, index or chunking starts a rebuild; the old index answers until the new one is
        complete.
        """
        return self._wire.do(calls.update_knowledge_base(name, changes))

    def cancel_rebuild(self, name: str) -> KnowledgeBaseOut:
        """Give up the rebuild that is running; what answers now goes on answering."""
        return self._wire.do(calls.cancel_rebuild(name))

    def delete_knowledge_base(self, name: str) -> None:
        """Hide a knowledge base at once; all that belongs to it is removed soon after."""
        self._wire.do(calls.delete_knowledge_base(name))

    # Documents

    def add_documents(
        self,
        kb: str,
        files: Iterable[File],
        *,
        metadata: Mapping[str, Any] | None = None,
        on_duplicate: OnDuplicate = "keep",
        wait: bool = True,
        timeout: float | None = None,
        watcher: Watcher = SILENT,
    ) -> list[AddedDocument]:
        """Upload any number of files and wait until their documents are settled; return what became of each.

        `files` are paths of files and folders, or names with their bytes. `metadata` is kept with each of them,
        `on_duplicate` says what becomes of one whose bytes another document holds. Without `wait`, return when all
        bytes are safely kept. `watcher` hears how it goes.

        A file that cannot be taken is `rejected` and fails no other. Raises `ApiError` for what concerns all of them,
        `ValueError` for paths that do not exist or two files of one name, `TimeoutError` when documents are not settled
        `timeout` seconds after the upload.
        """
        adding = Adding(kb, sources(files), watcher, metadata=metadata, on_duplicate=on_duplicate)
        while (upload := adding.next_upload()) is not None:
            try:
                adding.accepted(self._wire.do(upload))
            except (ApiError, OSError) as exc:
                self._wire.sleep(adding.refused(exc))
        if wait:
            unsettled, unchanged = adding.unsettled(), adding.unchanged()
            watcher.following(len(unsettled))
            for event in self.follow_documents(kb, unsettled, timeout=timeout, watcher=watcher):
                adding.note(event)
            for id in unchanged:
                adding.note(DocumentEvent.of(self.get_document(kb, id)))
        return adding.results

    def upload_documents(
        self,
        kb: str,
        files: Iterable[File],
        *,
        metadata: Mapping[str, Any] | None = None,
        on_duplicate: OnDuplicate = "keep",
        on_bytes: OnBytes = ignore,
    ) -> list[UploadItem]:
        """Upload files in one request, and return what became of each when all bytes are safely kept.

        `on_bytes` hears how many more bytes were read; negative when a try failed and they will be read again.
        `add_documents` also takes more files than fit in a request, and waits. Raises `OSError` when a file cannot be
        opened.
        """
        meter = Meter(on_bytes)
        return self._wire.do(
            calls.upload_documents(kb, sources(files), metadata=metadata, on_duplicate=on_duplicate, meter=meter)
        )

    def put_document(
        self,
        kb: str,
        name: str,
        content: bytes | Path,
        *,
        metadata: Mapping[str, Any] | None = None,
        on_duplicate: OnDuplicate = "keep",
        on_bytes: OnBytes = ignore,
    ) -> UploadItem:
        """Upload one file, its bytes or its path, as the document of this name."""
        source = named_source(name, content)
        meter = Meter(on_bytes)
        return self._wire.do(calls.put_document(kb, source, metadata=metadata, on_duplicate=on_duplicate, meter=meter))

    def list_documents(self, kb: str, *, status: str | None = None, name: str | None = None) -> Iterator[DocumentOut]:
        """Yield documents in order of arrival; `name` is exact, or a prefix that ends with *."""
        return self._wire.items(lambda cursor: calls.list_documents(kb, cursor, status=status, name=name))

    def get_document(self, kb: str, id: str) -> DocumentOut:
        """Return one document."""
        return self._wire.do(calls.get_document(kb, id))

    def document_events(self, kb: str, id: str) -> Iterator[DocumentOut]:
        """Yield a document as it is now and at each change, until it is settled or the stream breaks off.

        `follow_documents` goes on where a stream breaks off.
        """
        return self._wire.events(calls.document_events(kb, id), document_state)

    def follow_documents(
        self, kb: str, ids: Iterable[str], *, timeout: float | None = None, watcher: Watcher = SILENT
    ) -> Iterator[DocumentEvent]:
        """Yield the events of documents, many at a time, until all of them are settled.

        Where a stream breaks off, its document is looked at from time to time. Raises `ApiError` when the API stays
        away, `TimeoutError` when a document is not settled after `timeout` seconds. `watcher` hears of every event,
        and when no document is taken up.
        """
        wanted = list(dict.fromkeys(ids))
        following = Following.of(wanted, watcher, now=self._wire.clock(), timeout=timeout)
        for event in heard_in_threads(wanted, lambda id, is_wanted: follow_document(self._wire, kb, id, is_wanted)):
            following.note(event, self._wire.clock())
            if event is not None:
                yield event

    def wait_for_document(self, kb: str, id: str, *, timeout: float | None = None) -> DocumentOut:
        """Return a document once it is settled. Raises `NotFoundError`, and `TimeoutError` after `timeout` seconds."""
        last: DocumentOut | None = None
        for event in self.follow_documents(kb, [id], timeout=timeout):
            last = event.document
        return last or self.get_document(kb, id)

    def get_content(self, kb: str, id: str) -> bytes:
        """Return the original bytes of the newest version."""
        return self._wire.do(calls.get_content(kb, id))

    def save_content(self, kb: str, id: str, path: Path) -> None:
        """Write the original bytes of the newest version to a file, which may be larger than the memory."""
        call = calls.get_content(kb, id)
        with written_whole(path) as file, self._wire.stream(call) as response:
            for piece in response.iter_bytes():
                file.write(piece)

    def list_chunks(self, kb: str, id: str) -> Iterator[ChunkOut]:
        """Yield the chunks of the version that answers, in order; none while no version does."""
        return self._wire.items(lambda cursor: calls.list_chunks(kb, id, cursor))

    def retry_document(self, kb: str, id: str) -> DocumentOut:
        """Index a failed or cancelled document again."""
        return self._wire.do(calls.retry_document(kb, id))

    def cancel_document(self, kb: str, id: str) -> DocumentOut:
        """Stop the indexing of a document; an older version that answers goes on answering."""
        return self._wire.do(calls.cancel_document(kb, id))

    def delete_document(self, kb: str, id: str) -> DocumentOut:
        """Hide a document from search at once; its chunks and its original are removed soon after."""
        return self._wire.do(calls.delete_document(kb, id))

    # Questions

    def search(self, kb: str, query: str, **options: Unpack[SearchOptions]) -> SearchOut:
        """Find the chunks that fit a question best.

        `options` are those of `SearchOptions`: how many (`top_k`), how (`mode`), among which (`filter`), and more.
        """
        return self._wire.do(calls.search(kb, query, options))

    def ask(self, kb: str, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Answer a question from a knowledge base, with numbered sources; refused when the answer is not there.

        `options` are those of `AskOptions`: the turns so far (`history`), what is searched, and how it is written.
        """
        return self._wire.do(calls.ask(kb, question, options))

    def ask_stream(self, kb: str, question: str, **options: Unpack[AskOptions]) -> Iterator[AnswerEvent]:
        """Yield an answer as it is written: its sources, its pieces, and at the end the whole `Answer`.

        Raises `ApiError` when it breaks off.
        """
        call = calls.ask_stream(kb, question, options)
        events: Iterator[AnswerEvent] = self._wire.events(call, answer_event)
        for event in events:
            yield event
            if isinstance(event, Answer):
                return
        raise self._wire.connection.ended_early(call)

    def recall(
        self, kb: str, *, queries: int = 100, k: int = 10, params: Mapping[str, int] | str | None = None
    ) -> RecallOut:
        """Compare the live index with an exact search: what share of the `k` nearest chunks it finds, and how fast.

        `queries` stored chunks are asked with; `params` are search parameters to try, or their JSON.
        """
        return self._wire.do(calls.recall(kb, queries=queries, k=k, params=params))

    # Operations

    def fsck(self, *, repair: bool = False) -> FsckReport:
        """Compare ledger, originals and Milvus; with `repair`, mend what differs."""
        return self._wire.do(calls.fsck(repair=repair))

    def health(self, service: Service) -> Health:
        """Return that a service lives. Raises `ApiError` when it does not answer."""
        return self._wire.do(calls.health(service))

    def readiness(self, service: Service) -> Readiness:
        """Return whether a service can work and which of its dependencies answer, also when some do not."""
        return self._wire.do(calls.readiness(service))
