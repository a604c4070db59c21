"""A fake REST API behind an httpx transport, with just enough state for the tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx

Json = dict[str, Any]
LIFE = ("queued", "parsing", "embedding", "indexing")
WHEN = "2026-01-31T08:00:00Z"


def problem(status: int, code: str, detail: str) -> httpx.Response:
    body = {"type": "about:blank", "title": "No", "status": status, "detail": detail, "code": code, "instance": "/"}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


def sse(*events: tuple[str, Json]) -> httpx.Response:
    text = "".join(f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n" for name, data in events)
    return httpx.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})


def source(n: int = 1, text: str = "满十年的员工享有15天年假。") -> Json:
    hit = {"chunk_id": "d1:1:0", "document_id": "d1", "source": "员工手册.docx", "page": 3, "heading": "假期"}
    return {**hit, "text": text, "score": 0.876, "rerank_score": None, "metadata": {}, "n": n}


def citation(n: int = 1, *, supported: bool = True) -> Json:
    carried = {"quote": "满十年的员工享有15天年假。", "start": 0, "end": 14}
    nothing = dict.fromkeys(carried)
    return {"n": n, "document_id": "d1", "page": 3, "heading": "假期", "supported": supported} | (
        carried if supported else nothing
    )


ANSWER: Json = {
    "answer": "15天。[1]",
    "refused": False,
    "outcome": "answered",
    "confidence": 0.91,
    "sources": [source()],
    "closest": [],
    "citations": [citation()],
    "reranked": False,
    "condensed_question": None,
    "model": "zhiwen-extractive",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "took_ms": {"embed": 1.0, "search": 2.0, "total": 6.0, "condense": 0.0, "generate": 3.0},
}
FOUND: Json = {
    "hits": [{name: value for name, value in source().items() if name != "n"}],
    "answerable": True,
    "confidence": 0.91,
    "mode": "hybrid",
    "reranked": False,
    "took_ms": {"embed": 1.0, "search": 1.0, "total": 2.0},
}


@dataclass
class FakeApi:
    """Knowledge bases by name, documents by id. Each request for a document moves it one stage on."""

    bases: dict[str, dict[str, Json]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    failing: dict[str, Json] = field(default_factory=dict)
    refuse_upload: Callable[[list[str]], httpx.Response | None] = lambda _names: None
    ask_events: list[tuple[str, Json]] = field(
        default_factory=lambda: [
            ("sources", {"sources": [source()]}),
            ("token", {"text": "15天"}),
            ("token", {"text": "。[1]"}),
            ("done", ANSWER),
        ]
    )

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        parts = [unquote(part) for part in request.url.raw_path.decode().split("?")[0].strip("/").split("/")]
        match request.method, parts:
            case "GET", ["healthz"]:
                return httpx.Response(200, json={"status": "ok"})
            case "GET", ["readyz"]:
                return httpx.Response(200, json={"status": "ready", "checks": {"ledger": "ok"}})
            case "GET", ["v1", "knowledge-bases"]:
                return httpx.Response(200, json={"items": [self.base(n) for n in self.bases], "next_cursor": None})
            case "POST", ["v1", "knowledge-bases"]:
                return self._create(json.loads(request.content))
            case _, ["v1", "knowledge-bases", name, *rest]:
                if name not in self.bases:
                    return problem(404, "knowledge-base-not-found", f"There is no knowledge base named {name}.")
                return self._in_base(request, name, rest)
        return problem(404, "route-not-found", "There is no such route; see /docs.")

    def base(self, name: str) -> Json:
        documents = self.bases[name]
        return knowledge_base(name, {"ready": len(documents)}, 3 * len(documents))

    def _create(self, body: Json) -> httpx.Response:
        if body["name"] in self.bases:
            return problem(409, "knowledge-base-exists", f"There is already a knowledge base named {body['name']}.")
        self.bases[body["name"]] = {}
        return httpx.Response(201, json=self.base(body["name"]))

    def _in_base(self, request: httpx.Request, name: str, rest: list[str]) -> httpx.Response:
        documents = self.bases[name]
        match request.method, rest:
            case "GET", []:
                return httpx.Response(200, json=self.base(name))
            case "DELETE", []:
                del self.bases[name]
                return httpx.Response(202)
            case "POST", ["ask"] if json.loads(request.content).get("stream"):
                return sse(*self.ask_events)
            case "POST", ["ask"]:
                return httpx.Response(200, json=ANSWER)
            case "POST", ["search"]:
                return httpx.Response(200, json=FOUND)
            case "POST", ["documents"]:
                return self._upload(request, documents)
            case "GET", ["documents"]:
                return self._list(request, documents)
            case _, ["documents", id, *_] if id not in documents:
                return problem(404, "document-not-found", f"There is no document with the id {id} here.")
            case "GET", ["documents", id, "events"]:
                return sse(*(("document", self._step(documents[id])) for _ in range(5)))
            case "GET", ["documents", id]:
                return httpx.Response(200, json=self._step(documents[id]))
            case "DELETE", ["documents", id]:
                return httpx.Response(202, json=documents.pop(id) | {"status": "deleting"})
        return problem(404, "route-not-found", "There is no such route; see /docs.")

    def _upload(self, request: httpx.Request, documents: dict[str, Json]) -> httpx.Response:
        files = uploaded(request)
        refusal = self.refuse_upload([name for name, _ in files])
        if refusal is not None:
            return refusal
        return httpx.Response(202, json={"items": [self._accept(documents, *file) for file in files]})

    def _accept(self, documents: dict[str, Json], name: str, content: bytes) -> Json:
        if not content:
            error = {"code": "empty-file", "detail": "The file is empty (0 bytes). Upload it again."}
            item: Json = {"id": None, "name": name, "status": "rejected", "version": None, "outcome": "rejected"}
            return {**item, "error": error}
        id = f"d{len(documents) + 1}"
        outcome = "created"
        for known in documents.values():
            if known["name"] == name:
                id, outcome = known["id"], "unchanged" if known["content"] == content.decode() else "replaced"
        if outcome != "unchanged":
            documents[id] = document(id, name, content)
        return {"id": id, "name": name, "status": documents[id]["status"], "version": 1, "outcome": outcome}

    def _list(self, request: httpx.Request, documents: dict[str, Json]) -> httpx.Response:
        """Pages of two."""
        name, start = request.url.params.get("name"), int(request.url.params.get("cursor", "0"))
        found = [d for d in documents.values() if name in {None, d["name"]}]
        following = str(start + 2) if len(found) > start + 2 else None
        return httpx.Response(200, json={"items": found[start : start + 2], "next_cursor": following})

    def _step(self, shown: Json) -> Json:
        if shown["status"] in LIFE:
            place = LIFE.index(shown["status"]) + 1
            shown["status"] = LIFE[place] if place < len(LIFE) else "ready"
            if shown["status"] == "ready" and shown["name"] in self.failing:
                shown |= {"status": "failed", "error": self.failing[shown["name"]]}
        return dict(shown)


def knowledge_base(name: str, documents: Json | None = None, chunks: int = 0) -> Json:
    return {
        "name": name,
        "description": "",
        "embedding_model": "m",
        "dimension": 384,
        "index": {"type": "AUTOINDEX", "metric": "IP", "params": {}, "search": {}},
        "chunking": {"size": 240, "overlap": 40},
        "prompt_template": None,
        "cross_language": None,
        "documents": documents or {},
        "chunks": chunks,
        "rebuild": None,
        "rebuild_error": None,
        "created_at": WHEN,
        "updated_at": WHEN,
    }


def document(id: str, name: str, content: bytes = b"x", status: str = "queued") -> Json:
    """A document as the API shows it, and its content."""
    return {
        "id": id,
        "name": name,
        "version": 1,
        "live_version": None,
        "status": status,
        "progress": {"stage": status, "done": 0, "total": 0},
        "chunks": 3,
        "bytes": len(content),
        "sha256": "0" * 64,
        "media_type": "text/plain",
        "metadata": {},
        "error": None,
        "attempts": 1,
        "created_at": WHEN,
        "updated_at": WHEN,
        "content": content.decode(),
    }


def form(request: httpx.Request) -> list[tuple[str, str | None, bytes]]:
    """The parts of a multipart request: field, file name, content."""
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    found = []
    for part in request.content.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        named = dict(re.findall(r'(\w+)="([^"]*)"', head.decode()))
        found.append((named["name"], named.get("filename"), content.removesuffix(b"\r\n")))
    return found


def uploaded(request: httpx.Request) -> list[tuple[str, bytes]]:
    """The files of a multipart request: name, content."""
    return [(name, content) for field, name, content in form(request) if field == "file" and name is not None]
