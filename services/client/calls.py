"""Builds the request of each client method, and reads its answer. Pure: no I/O and no clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from zhiwen.client.addresses import Service
from zhiwen.client.files import Meter, Source, ignore
from zhiwen.client.options import AskOptions, KnowledgeBaseOptions, OnDuplicate, SearchOptions
from zhiwen.common.api.documents import ChunkPage, DocumentOut, DocumentPage, Uploaded, UploadItem
from zhiwen.common.api.fields import FROM_SERVICE
from zhiwen.common.api.fsck import FsckReport
from zhiwen.common.api.knowledge_bases import KnowledgeBaseOut, KnowledgeBasePage
from zhiwen.common.api.operations import Health, Readiness
from zhiwen.common.api.questions import Answer, SearchOut
from zhiwen.common.api.recall import RecallOut

T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M", bound=BaseModel)

PAGE = 200
"""Items of a list to ask for at a time; a service may return fewer."""
KNOWLEDGE_BASES = "/v1/knowledge-bases"
EVENTS = {"Accept": "text/event-stream", "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One request, and the function that reads its answer.

    `read` raises `ValueError` for an answer that the service does not give. `files` are sent as multipart, with `form`;
    `content` is sent unchanged. `is_slow` is True when the answer may take minutes. `is_repeatable` is True when
    sending the request twice does no harm. `accepted` are error statuses whose body is a normal answer.
    """

    service: Service
    method: str
    path: str
    read: Callable[[httpx.Response], T_co]
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Source] = ()
    content: Source | None = None
    meter: Meter = field(default_factory=lambda: Meter(ignore))
    is_slow: bool = False
    is_repeatable: bool = True
    accepted: frozenset[int] = frozenset()


def model(kind: type[M]) -> Callable[[httpx.Response], M]:
    """Return a reader for answers of this type. Unknown fields and words of a newer service do no harm."""
    return lambda response: kind.model_validate_json(response.content, context=FROM_SERVICE)


def nothing(_response: httpx.Response) -> None:
    """Read an answer that has only a status."""


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given options as JSON. An option that is None is left out."""
    return {name: to_jsonable_python(value) for name, value in options.items() if value is not None}


# Knowledge bases


def create_knowledge_base(name: str, options: KnowledgeBaseOptions) -> Call[KnowledgeBaseOut]:
    """Return the call that creates a knowledge base."""
    body = {"name": name, **given(options)}
    read = model(KnowledgeBaseOut)  # slow, for an embedding model may have to be downloaded
    return Call("ingest", "POST", KNOWLEDGE_BASES, read, json=body, is_slow=True, is_repeatable=False)


def list_knowledge_bases(cursor: str | None) -> Call[KnowledgeBasePage]:
    """Return the call for the page of knowledge bases at a cursor."""
    return Call("ingest", "GET", KNOWLEDGE_BASES, model(KnowledgeBasePage), params=_page(cursor))


def get_knowledge_base(name: str) -> Call[KnowledgeBaseOut]:
    """Return the call for one knowledge base."""
    return Call("ingest", "GET", _base(name), model(KnowledgeBaseOut))


def update_knowledge_base(name: str, changes: KnowledgeBaseOptions) -> Call[KnowledgeBaseOut]:
    """Return the call that changes a knowledge base."""
    body = to_jsonable_python(dict(changes))  # None is sent: it resets a field to its default
    return Call("ingest", "PATCH", _base(name), model(KnowledgeBaseOut), json=body, is_slow=True, is_repeatable=False)


def cancel_rebuild(name: str) -> Call[KnowledgeBaseOut]:
    """Return the call that cancels the running rebuild."""
    return Call("ingest", "DELETE", f"{_base(name)}/rebuild", model(KnowledgeBaseOut))


def delete_knowledge_base(name: str) -> Call[None]:
    """Return the call that deletes a knowledge base."""
    return Call("ingest", "DELETE", _base(name), nothing)


# Documents


def upload_documents(
    kb: str,
    files: Sequence[Source],
    *,
    metadata: Mapping[str, Any] | None,
    on_duplicate: OnDuplicate,
    meter: Meter,
) -> Call[list[UploadItem]]:
    """Return the call that uploads `files` to the knowledge base `kb` in one request.

    `metadata` and `on_duplicate` are for all files. `meter` counts the bytes that are read.
    """
    form: dict[str, str] = {"on_duplicate": on_duplicate, **_metadata(metadata)}
    return Call(
        "ingest",
        "POST",
        _documents(kb),
        lambda response: model(Uploaded)(response).items,
        form=form,
        files=files,
        meter=meter,
        is_slow=True,
        is_repeatable=False,
    )


def put_document(
    kb: str, content: Source, *, metadata: Mapping[str, Any] | None, on_duplicate: OnDuplicate, meter: Meter
) -> Call[UploadItem]:
    """Return the call that uploads `content` as a document of the knowledge base `kb`.

    `metadata` and `on_duplicate` are for this file. `meter` counts the bytes that are read.
    """
    path = f"{_documents(kb)}/by-name/{quote(content.name, safe='')}"
    params: dict[str, str] = {"on_duplicate": on_duplicate, **_metadata(metadata)}
    return Call("ingest", "PUT", path, model(UploadItem), params=params, content=content, meter=meter, is_slow=True)


def list_documents(kb: str, cursor: str | None, *, status: str | None, name: str | None) -> Call[DocumentPage]:
    """Return the call for the page of documents at a cursor."""
    params = {**given({"status": status, "name": name}), **_page(cursor)}
    return Call("ingest", "GET", _documents(kb), model(DocumentPage), params=params)


def get_document(kb: str, id: str) -> Call[DocumentOut]:
    """Return the call for one document."""
    return Call("ingest", "GET", _document(kb, id), model(DocumentOut))


def document_events(kb: str, id: str) -> Call[None]:
    """Return the call for the event stream of a document."""
    return Call("ingest", "GET", f"{_document(kb, id)}/events", nothing, headers=EVENTS)


def get_content(kb: str, id: str) -> Call[bytes]:
    """Return the call for the original bytes of a document."""
    return Call("ingest", "GET", f"{_document(kb, id)}/content", lambda response: response.content, is_slow=True)


def list_chunks(kb: str, id: str, cursor: str | None) -> Call[ChunkPage]:
    """Return the call for the page of chunks at a cursor."""
    return Call("ingest", "GET", f"{_document(kb, id)}/chunks", model(ChunkPage), params=_page(cursor))


def retry_document(kb: str, id: str) -> Call[DocumentOut]:
    """Return the call that indexes a failed or cancelled document again."""
    return Call("ingest", "POST", f"{_document(kb, id)}/retry", model(DocumentOut), is_repeatable=False)


def cancel_document(kb: str, id: str) -> Call[DocumentOut]:
    """Return the call that stops the indexing of a document."""
    return Call("ingest", "POST", f"{_document(kb, id)}/cancel", model(DocumentOut), is_repeatable=False)


def delete_document(kb: str, id: str) -> Call[DocumentOut]:
    """Return the call that deletes a document."""
    return Call("ingest", "DELETE", _document(kb, id), model(DocumentOut))


# Questions


def search(kb: str, query: str, options: SearchOptions) -> Call[SearchOut]:
    """Return the call that searches."""
    body = {"query": query, **given(options)}
    return Call("query", "POST", f"{_base(kb)}/search", model(SearchOut), json=body)  # it only reads


def ask(kb: str, question: str, options: AskOptions) -> Call[Answer]:
    """Return the call that asks a question."""
    body = {"question": question, **given(options)}  # not repeatable: a second answer costs as many tokens again
    return Call("query", "POST", f"{_base(kb)}/ask", model(Answer), json=body, is_slow=True, is_repeatable=False)


def ask_stream(kb: str, question: str, options: AskOptions) -> Call[Answer]:
    """Return the call that asks a question and streams the answer."""
    call = ask(kb, question, options)
    return replace(call, json={**(call.json or {}), "stream": True}, headers=EVENTS)


def recall(kb: str, *, queries: int, k: int, params: Mapping[str, int] | str | None) -> Call[RecallOut]:
    """Return the call that measures the recall of the index."""
    text = params if isinstance(params, str) else None if params is None else json.dumps(dict(params))
    asked = given({"queries": queries, "k": k, "params": text})
    return Call("query", "GET", f"{_base(kb)}/recall", model(RecallOut), params=asked, is_slow=True)


# Operations


def fsck(*, repair: bool) -> Call[FsckReport]:
    """Return the call that compares ledger, originals and Milvus."""
    method = "POST" if repair else "GET"
    return Call("ingest", method, "/v1/fsck", model(FsckReport), is_slow=True, is_repeatable=not repair)


def health(service: Service) -> Call[Health]:
    """Return the call for the health of a service."""
    return Call(service, "GET", "/healthz", model(Health))


def readiness(service: Service) -> Call[Readiness]:
    """Return the call for the readiness of a service. Status 503 is a normal answer."""
    return Call(service, "GET", "/readyz", model(Readiness), accepted=frozenset({503}))


def _base(name: str) -> str:
    return f"{KNOWLEDGE_BASES}/{quote(name, safe='')}"


def _documents(kb: str) -> str:
    return f"{_base(kb)}/documents"


def _document(kb: str, id: str) -> str:
    return f"{_documents(kb)}/{quote(id, safe='')}"


def _page(cursor: str | None) -> dict[str, str | int]:
    return {"limit": PAGE, **({"cursor": cursor} if cursor else {})}


def _metadata(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    return {"metadata": json.dumps(metadata, ensure_ascii=False)} if metadata else {}
