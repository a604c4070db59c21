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
from zhiwen.client.following import SILENT, DocumentEvent, Following, Watcher, events_in_threads, follow_document
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

    An error is an `ApiError`. Its class says what kind of error it is, and its `code` says exactly which one:

    >>> from zhiwen.client import NotFoundError
    >>> with Client() as zhiwen:
    ...     try:
    ...         zhiwen.get_knowledge_base("没有")
    ...     except NotFoundError as error:
    ...         print(error.code)
    knowledge-base-not-found

    A request is sent again when nothing was sent, or when the service says that it is busy (429, 503). A request that
    does no harm when it is repeated is also sent again when the connection breaks off. There are at most `retries`
    retries, and none starts later than `retry_seconds` after the first attempt. The pauses grow, or are those that the
    service asks for. When the answer of an upload (`upload_documents`) or of a question was lost, it is not sent again.
    `put_document` is sent again, as it does no harm twice. A deletion is sent again, too, and may then find nothing
    to delete (`NotFoundError`). A client may be used from several threads.

    `ingest_url`, `query_url` and `gateway_url` are the addresses of the services, and `api_key` is the key. By default
    they come from the environment (`ZHIWEN_INGEST_URL`, …, `ZHIWEN_API_KEY`), and otherwise are the addresses of
    `zhiwen up` and no key. Timeouts are in seconds: `connect_timeout` for a connection, `timeout` for an answer, and
    `long_timeout` for an upload, a download, the answer of a model, `fsck`, `recall`, and a knowledge base that is made
    or changed, whose embedding model may have to be fetched. For tests, `transport` replaces the network, and `clock`
    and `sleep` replace time.
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
        """Change the given fields; None resets a field to its default.

        Another embedding model, index or chunking starts a rebuild. The old index answers until the new one is
        complete.
        """
        return self._wire.do(calls.update_knowledge_base(name, changes))

    def cancel_rebuild(self, name: str) -> KnowledgeBaseOut:
        """Cancel the running rebuild; the present index goes on answering."""
        return self._wire.do(calls.cancel_rebuild(name))

    def delete_knowledge_base(self, name: str) -> None:
        """Hide a knowledge base at once; its documents and chunks are removed soon after."""
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
        """Upload any number of files, wait until their documents are settled, and return the outcome of each.

        `kb` is the knowledge base. `files` are paths of files and folders, or names with their bytes. `metadata` is
        stored with each document. `on_duplicate` says what happens to a file whose bytes another document already has.
        Without `wait`, return when all bytes are stored. `watcher` is told about the progress.

        A file that is not accepted is `rejected`; the other files are not affected. Raises `ApiError` for an error that
        concerns all files, `ValueError` for a path that does not exist or two files of one name, and `TimeoutError`
        when documents are not settled `timeout` seconds after the upload.
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
        """Upload files in one request, and return the outcome of each when all bytes are stored.

        `kb` is the knowledge base. `files` are paths of files and folders, or names with their bytes. `metadata` and
        `on_duplicate` are those of `add_documents`, which also takes more files than fit in a request, and waits.
        `on_bytes` is called with the number of bytes just read. The number is negative when an attempt failed and the
        bytes will be read again. Raises `OSError` when a file cannot be opened.
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
        """Upload one file as the document of this name.

        `kb` is the knowledge base, and `content` the file's bytes or its path. `metadata`, `on_duplicate` and
        `on_bytes` are those of `upload_documents`.
        """
        source = named_source(name, content)
        meter = Meter(on_bytes)
        return self._wire.do(calls.put_document(kb, source, metadata=metadata, on_duplicate=on_duplicate, meter=meter))

    def list_documents(self, kb: str, *, status: str | None = None, name: str | None = None) -> Iterator[DocumentOut]:
        """Yield the documents in order of arrival.

        `status` and `name` limit them. `name` is exact, or a prefix followed by `*`.
        """
        return self._wire.items(lambda cursor: calls.list_documents(kb, cursor, status=status, name=name))

    def get_document(self, kb: str, id: str) -> DocumentOut:
        """Return one document."""
        return self._wire.do(calls.get_document(kb, id))

    def document_events(self, kb: str, id: str) -> Iterator[DocumentOut]:
        """Yield a document as it is now and after each change, until it is settled or the stream breaks off.

        `follow_documents` goes on when a stream breaks off.
        """
        return self._wire.events(calls.document_events(kb, id), document_state)

    def follow_documents(
        self, kb: str, ids: Iterable[str], *, timeout: float | None = None, watcher: Watcher = SILENT
    ) -> Iterator[DocumentEvent]:
        """Yield the events of many documents at a time, until all documents are settled.

        When a stream breaks off, its document is polled. `watcher` is told about every event, and when no document
        makes progress. Raises `ApiError` when the API does not come back, and `TimeoutError` when a document is not
        settled after `timeout` seconds.
        """
        wanted = list(dict.fromkeys(ids))
        following = Following.of(wanted, watcher, now=self._wire.clock(), timeout=timeout)
        for event in events_in_threads(wanted, lambda id, is_wanted: follow_document(self._wire, kb, id, is_wanted)):
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
        """Write the original bytes of the newest version to a file. They need not fit in memory."""
        call = calls.get_content(kb, id)
        with written_whole(path) as file, self._wire.stream(call) as response:
            for piece in response.iter_bytes():
                file.write(piece)

    def list_chunks(self, kb: str, id: str) -> Iterator[ChunkOut]:
        """Yield the chunks of the live version in order; none when no version is live."""
        return self._wire.items(lambda cursor: calls.list_chunks(kb, id, cursor))

    def retry_document(self, kb: str, id: str) -> DocumentOut:
        """Index a failed or cancelled document again."""
        return self._wire.do(calls.retry_document(kb, id))

    def cancel_document(self, kb: str, id: str) -> DocumentOut:
        """Stop the indexing of a document; an older version that is live stays live."""
        return self._wire.do(calls.cancel_document(kb, id))

    def delete_document(self, kb: str, id: str) -> DocumentOut:
        """Hide a document from search at once; its chunks and its original are removed soon after."""
        return self._wire.do(calls.delete_document(kb, id))

    # Questions

    def search(self, kb: str, query: str, **options: Unpack[SearchOptions]) -> SearchOut:
        """Find the chunks that fit a question best.

        `options` are those of `SearchOptions`: how many (`top_k`), how (`mode`, `fusion`, `rerank`, `cross_language`,
        `params`), among which (`filter`, `min_score`), and with what around them (`neighbours`).
        """
        return self._wire.do(calls.search(kb, query, options))

    def ask(self, kb: str, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Answer a question from a knowledge base, with numbered sources, or refuse when the answer is not there.

        `outcome` says how it ended: `answered`, `refused`, or `closest` when the built-in answerer is not sure.
        Passages that did not answer are in `closest` and not in `sources`. `citations` are the marks [n] of the answer,
        checked.

        `options` are those of `AskOptions`: the turns so far (`history`), what is searched (`top_k`, `mode`, `fusion`,
        `rerank`, `cross_language`, `filter`, `min_score`), and how the answer is written (`model`, `temperature`,
        `max_tokens`).
        """
        return self._wire.do(calls.ask(kb, question, options))

    def ask_stream(self, kb: str, question: str, **options: Unpack[AskOptions]) -> Iterator[AnswerEvent]:
        """Yield an answer as it is written: the passages that it may cite, its pieces, and at the end the `Answer`.

        Only the `Answer` says whether the passages answered, and which marks they support.
        Raises `ApiError` when the stream breaks off.
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
        """Compare the live index with an exact search: which share of the `k` nearest chunks it finds, and how fast.

        `queries` is how many stored chunks to search with. `params` are search parameters to try, or their JSON.
        """
        return self._wire.do(calls.recall(kb, queries=queries, k=k, params=params))

    # Operations

    def fsck(self, *, repair: bool = False) -> FsckReport:
        """Compare ledger, originals and Milvus; with `repair`, mend the differences."""
        return self._wire.do(calls.fsck(repair=repair))

    def health(self, service: Service) -> Health:
        """Return the health of a service that runs. Raises `ApiError` when the service does not answer."""
        return self._wire.do(calls.health(service))

    def readiness(self, service: Service) -> Readiness:
        """Return whether a service is ready, and which of its dependencies answer. Not ready is no error."""
        return self._wire.do(calls.readiness(service))
