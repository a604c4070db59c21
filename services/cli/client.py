"""A client of Zhiwen's REST API (design section 6), for the command line and the page.

    client = Client(Addresses("http://127.0.0.1:8001", "http://127.0.0.1:8002"), api_key="zw_…")
    client.upload("手册", [LocalFile.at(Path("年假.docx"))])
    for event, data in client.ask_events("手册", {"question": "年假有几天?"}): ...

Every method blocks. Whatever goes wrong is an `ApiError`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
from httpx_sse import connect_sse

from zhiwen.cli.problems import ApiError, Json, error_of_response, problem, unexpected_answer
from zhiwen.common.addresses import is_loopback

Service = Literal["ingest", "query", "gateway"]
TITLES: Mapping[Service, str] = {"ingest": "the ingest API", "query": "the query API", "gateway": "the LLM gateway"}

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
UPLOAD_SECONDS = 600.0
GENERATE_SECONDS = 600.0
PAGE = 200


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs of the services."""

    ingest: str
    query: str
    gateway: str = "http://127.0.0.1:8003"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine and the name its document will have; `size` in bytes."""

    path: Path
    name: str
    size: int

    @classmethod
    def at(cls, path: Path, name: str | None = None) -> LocalFile:
        """Raises `OSError` when the file cannot be looked at."""
        return cls(path, readable_name(name or path.name), path.stat().st_size)


def _ignore(_count: int) -> None:
    return None


class Client:
    """One connection pool per service. `transport` replaces the network, for tests."""

    def __init__(
        self, addresses: Addresses, *, api_key: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        urls: dict[Service, str] = {
            "ingest": addresses.ingest,
            "query": addresses.query,
            "gateway": addresses.gateway,
        }
        self.urls = {service: url.rstrip("/") for service, url in urls.items()}
        self._http = {
            service: httpx.Client(
                headers=headers,
                transport=transport,
                timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
                trust_env=not _on_this_machine(url),  # a proxy of the environment is not for loopback
            )
            for service, url in urls.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        for http in self._http.values():
            http.close()

    # Knowledge bases

    def create_base(self, name: str, **fields: Any) -> Json:
        """Create a knowledge base; `fields` are those of the API, None is not sent."""
        body = {"name": name, **{key: value for key, value in fields.items() if value is not None}}
        return self._json("ingest", "POST", "/v1/knowledge-bases", json=body)

    def bases(self) -> Iterator[Json]:
        """Yield every knowledge base."""
        return self._pages("/v1/knowledge-bases", {})

    def base(self, name: str) -> Json:
        return self._json("ingest", "GET", _base_path(name))

    def update_base(self, name: str, **fields: Any) -> Json:
        """Change a knowledge base; another model, index or chunking starts a rebuild."""
        body = {key: value for key, value in fields.items() if value is not None}
        return self._json("ingest", "PATCH", _base_path(name), json=body)

    def cancel_rebuild(self, name: str) -> Json:
        return self._json("ingest", "DELETE", f"{_base_path(name)}/rebuild")

    def fsck(self, *, repair: bool) -> Json:
        """Compare ledger, originals and Milvus; with `repair`, mend."""
        return self._json("ingest", "POST" if repair else "GET", "/v1/fsck", timeout=UPLOAD_SECONDS)

    def delete_base(self, name: str) -> None:
        self._request("ingest", "DELETE", _base_path(name))

    # Documents

    def upload(
        self,
        kb: str,
        files: Sequence[LocalFile],
        *,
        metadata: Mapping[str, Any] | None = None,
        on_duplicate: str = "keep",
        on_bytes: Callable[[int], None] = _ignore,
    ) -> list[Json]:
        """Upload files in one request, streamed from disk; return one item per document.

        `on_bytes` hears how many more bytes were read. Raises `OSError` when a file cannot be opened.
        """
        fields = {"on_duplicate": on_duplicate}
        if metadata:
            fields["metadata"] = json.dumps(metadata, ensure_ascii=False)
        with ExitStack() as opened:
            parts = [("file", (f.name, opened.enter_context(_CountedFile(f.path, on_bytes)))) for f in files]
            path = f"{_base_path(kb)}/documents"
            answer = self._json("ingest", "POST", path, has="items", data=fields, files=parts, timeout=UPLOAD_SECONDS)
        return list(answer["items"])

    def documents(self, kb: str, *, status: str | None = None, name: str | None = None) -> Iterator[Json]:
        """Yield the documents of a knowledge base; `name` is exact, or a prefix that ends with *."""
        chosen = {"status": status, "name": name}
        return self._pages(f"{_base_path(kb)}/documents", {k: v for k, v in chosen.items() if v is not None})

    def document(self, kb: str, id: str) -> Json:
        return self._json("ingest", "GET", _document_path(kb, id))

    def delete_document(self, kb: str, id: str) -> Json:
        return self._json("ingest", "DELETE", _document_path(kb, id))

    def retry_document(self, kb: str, id: str) -> Json:
        return self._json("ingest", "POST", f"{_document_path(kb, id)}/retry")

    def cancel_document(self, kb: str, id: str) -> Json:
        return self._json("ingest", "POST", f"{_document_path(kb, id)}/cancel")

    def document_events(self, kb: str, id: str) -> Iterator[Json]:
        """Yield the document now and at each change, until it is settled."""
        for _event, data in self._events("ingest", "GET", f"{_document_path(kb, id)}/events"):
            yield data

    # Questions

    def search(self, kb: str, body: Mapping[str, Any]) -> Json:
        return self._json("query", "POST", f"{_base_path(kb)}/search", json=dict(body))

    def recall(self, kb: str, **asked: Any) -> Json:
        """Compare the live index with exact search; `asked`: `queries`, `k`, `params` (JSON), None is not sent."""
        params = {key: value for key, value in asked.items() if value is not None}
        return self._json("query", "GET", f"{_base_path(kb)}/recall", params=params, timeout=UPLOAD_SECONDS)

    def ask(self, kb: str, body: Mapping[str, Any]) -> Json:
        """Return the whole answer."""
        return self._json("query", "POST", f"{_base_path(kb)}/ask", json=dict(body), timeout=GENERATE_SECONDS)

    def ask_events(self, kb: str, body: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
        """Yield `("sources", …)`, `("token", {"text"})`…, `("done", answer)`.

        An `error` event, and a stream that ends before `done`, raise `ApiError`.
        """
        streamed = {**body, "stream": True}
        for event, data in self._events("query", "POST", f"{_base_path(kb)}/ask", json=streamed):
            if event == "error":
                raise ApiError({"type": "about:blank", "title": "The answer broke off", **data})
            yield event, data
            if event == "done":
                return
        raise self._lost("query", "the answer ended early")

    # Operations

    def alive(self, service: Service) -> Json:
        return self._json(service, "GET", "/healthz")

    def ready(self, service: Service) -> Json:
        """Return `{"status", "checks"}`, also when something is not ready."""
        response = self._send(service, "GET", "/readyz")
        body = _object(response)
        if body is None or "checks" not in body:
            raise unexpected_answer(response, what=TITLES[service])
        return body

    # The wire

    def _pages(self, path: str, params: Mapping[str, str]) -> Iterator[Json]:
        cursor: dict[str, str] = {}
        while True:
            page = self._json("ingest", "GET", path, has="items", params={**params, "limit": PAGE, **cursor})
            yield from page["items"]
            if not page.get("next_cursor"):
                return
            cursor = {"cursor": page["next_cursor"]}

    def _json(self, service: Service, method: str, path: str, *, has: str = "", **options: Any) -> Json:
        response = self._request(service, method, path, **options)
        body = _object(response)
        if body is None or (has and has not in body):
            raise unexpected_answer(response, what=TITLES[service])
        return body

    def _request(self, service: Service, method: str, path: str, **options: Any) -> httpx.Response:
        response = self._send(service, method, path, **options)
        if not response.is_success:
            raise error_of_response(response, what=TITLES[service])
        return response

    def _send(self, service: Service, method: str, path: str, **options: Any) -> httpx.Response:
        with self._translated(service):
            return self._http[service].request(method, self.urls[service] + path, **options)

    def _events(self, service: Service, method: str, path: str, **options: Any) -> Iterator[tuple[str, Json]]:
        url = self.urls[service] + path
        with (
            self._translated(service),
            connect_sse(self._http[service], method, url, timeout=GENERATE_SECONDS, **options) as source,
        ):
            if not source.response.is_success:
                source.response.read()
                raise error_of_response(source.response, what=TITLES[service])
            for event in source.iter_sse():
                yield event.event, event.json()

    @contextmanager
    def _translated(self, service: Service) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as exc:
            raise self._unreachable(service) from exc
        except httpx.TimeoutException as exc:
            raise self._lost(service, "it took too long") from exc
        except httpx.HTTPError as exc:
            raise self._lost(service, str(exc) or type(exc).__name__) from exc

    def _unreachable(self, service: Service) -> ApiError:
        title = TITLES[service]
        detail = (
            f"{title[0].upper()}{title[1:]} does not answer at {self.urls[service]}: start it with `zhiwen up` "
            f"(or zhiwen-{service}), or name another address with --{service}-url or ZHIWEN_{service.upper()}_URL."
        )
        return ApiError(problem("service-unreachable", "Service unreachable", detail, instance=self.urls[service]))

    def _lost(self, service: Service, why: str) -> ApiError:
        detail = f"The connection to {TITLES[service]} at {self.urls[service]} was lost: {why}."
        return ApiError(problem("connection-lost", "Connection lost", detail, instance=self.urls[service]))


class _CountedFile(io.FileIO):
    """A file that tells how many bytes are read from it."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        super().__init__(path, "rb")
        self._on_bytes = on_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        self._on_bytes(len(data))
        return data


def readable_name(name: str) -> str:
    """Return a file name as text; names of old Chinese systems are GB18030 bytes, which Python shows as surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("gb18030", "replace")
    return name


def _object(response: httpx.Response) -> Json | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _on_this_machine(url: str) -> bool:
    try:
        return is_loopback(httpx.URL(url).host)
    except httpx.InvalidURL:
        return False


def _base_path(name: str) -> str:
    return f"/v1/knowledge-bases/{quote(name, safe='')}"


def _document_path(kb: str, id: str) -> str:
    return f"{_base_path(kb)}/documents/{quote(id, safe='')}"
