"""The services as processes: whom they let in, what they hold in memory, what they say when a store is gone."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.servers.in_process_stack import InProcessStack, in_process_stack, problem_of
from tests.servers.processes import free_port, service
from tests.servers.stores import Server, milvus_lite_server, redis_server_in, running, wait_until
from zhiwen.common.ledger import open_ledger
from zhiwen.common.models import Scope

MEBIBYTE = 1 << 20


def command(module: str) -> list[str]:
    return [sys.executable, "-c", f"from zhiwen.{module} import main; main()"]


# Keys


@pytest.mark.parametrize("module", ["ingest.api.app", "query.api.app", "llm_gateway.app"])
def test_service_without_a_key_refuses_to_listen_beyond_this_machine(module: str, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "ZHIWEN_HOST": "0.0.0.0", "ZHIWEN_DATA_DIR": str(tmp_path)}
    ended = subprocess.run(command(module), env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "zhiwen: No API key is configured" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture(scope="module")
def keyed(
    milvus_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[InProcessStack, dict[str, str]]]:
    """Services that need keys, a knowledge base 甲 and one 乙, and keys by name."""
    folder = tmp_path_factory.mktemp("keyed")
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.database.migrate()
    scopes: tuple[Scope, ...] = ("read", "write", "admin")
    keys: dict[str, str] = {
        scope: ledger.keys.create(name=scope, scope=scope, knowledge_base=None)[1] for scope in scopes
    }
    keys["only 甲"] = ledger.keys.create(name="only", scope="write", knowledge_base="甲")[1]
    ledger.close()
    with in_process_stack(folder, milvus_url=milvus_url, redis_url=redis_url, workers=1) as stack:
        for name in ("甲", "乙"):
            headers = {"Authorization": f"Bearer {keys['admin']}"}
            created = stack.ingest.post("/v1/knowledge-bases", json={"name": name}, headers=headers)
            assert created.status_code == 201, created.text
        yield stack, keys


REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "create": ("POST", "/v1/knowledge-bases", {"json": {"name": ""}}),
    "list": ("GET", "/v1/knowledge-bases", {}),
    "show": ("GET", "/v1/knowledge-bases/甲", {}),
    "change": ("PATCH", "/v1/knowledge-bases/甲", {"json": {"description": "新"}}),
    "upload": ("PUT", "/v1/knowledge-bases/甲/documents/by-name/a.txt", {"content": "内容。"}),
    "documents": ("GET", "/v1/knowledge-bases/甲/documents", {}),
    "other": ("GET", "/v1/knowledge-bases/乙", {}),
}
ALLOWED = {
    "read": {"list", "show", "documents", "other"},
    "write": {"list", "show", "upload", "documents", "other"},
    "admin": set(REQUESTS),
    "only 甲": {"show", "upload", "documents"},
}


@pytest.mark.parametrize("key", ALLOWED)
@pytest.mark.parametrize("what", REQUESTS)
def test_scope_of_a_key_decides(keyed: tuple[InProcessStack, dict[str, str]], what: str, key: str) -> None:
    stack, keys = keyed
    method, path, options = REQUESTS[what]
    response = stack.ingest.request(method, path, headers={"Authorization": f"Bearer {keys[key]}"}, **options)
    if what in ALLOWED[key]:
        assert response.status_code in {200, 202, 422}, response.text
    else:
        code = "other-knowledge-base" if key == "only 甲" and what in {"list", "other"} else "scope-too-small"
        problem_of(response, 403, code)


@pytest.mark.parametrize("what", REQUESTS)
def test_nothing_but_health_is_shown_without_a_key(keyed: tuple[InProcessStack, dict[str, str]], what: str) -> None:
    stack, _ = keyed
    method, path, options = REQUESTS[what]
    response = stack.ingest.request(method, path, **options)
    problem_of(response, 401, "missing-key")
    assert response.headers["www-authenticate"] == "Bearer"
    wrong = stack.ingest.request(method, path, headers={"Authorization": "Bearer zw_wrong"}, **options)
    problem_of(wrong, 401, "unknown-key")


def test_questions_need_a_key_and_health_needs_none(keyed: tuple[InProcessStack, dict[str, str]]) -> None:
    stack, keys = keyed
    body = {"query": "年假"}
    problem_of(stack.query.post("/v1/knowledge-bases/甲/search", json=body), 401, "missing-key")
    headers = {"Authorization": keys["only 甲"]}
    assert stack.query.post("/v1/knowledge-bases/甲/search", json=body, headers=headers).status_code == 200
    response = stack.query.post("/v1/knowledge-bases/乙/search", json=body, headers=headers)
    problem_of(response, 403, "other-knowledge-base")
    for client in (stack.ingest, stack.query):
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200


# Size


@contextlib.contextmanager
def ingest_process(
    folder: Path, milvus_url: str, redis_url: str, **settings: str
) -> Iterator[tuple[httpx.Client, int]]:
    """Run the ingest API by itself; yield a client and its process id."""
    port = free_port()
    environment = {
        "DATA_DIR": str(folder),
        "INGEST_PORT": str(port),
        "MILVUS_URL": milvus_url,
        "REDIS_URL": redis_url,
        **settings,
    }
    environment = {f"ZHIWEN_{name}": value for name, value in environment.items()}
    url = f"http://127.0.0.1:{port}"
    with (
        service(command("ingest.api.app"), environment, f"{url}/healthz", folder / "ingest.log") as process,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        yield client, process.pid


def zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // MEBIBYTE):
        yield bytes(MEBIBYTE)


def form(size: int) -> Iterator[bytes]:
    yield b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    yield from zeros(size)
    yield b"\r\n--X--\r\n"


def test_body_over_the_limit_is_refused_and_never_held_in_memory(
    milvus_url: str, redis_url: str, tmp_path: Path
) -> None:
    limits = {"MAX_UPLOAD_BYTES": str(200 * MEBIBYTE), "MAX_REQUEST_BYTES": str(250 * MEBIBYTE)}
    with ingest_process(tmp_path, milvus_url, redis_url, **limits) as (client, pid):
        client.post("/v1/knowledge-bases", json={"name": "大"}).raise_for_status()
        before = psutil.Process(pid).memory_info().rss
        multipart = {"Content-Type": "multipart/form-data; boundary=X"}
        documents = "/v1/knowledge-bases/大/documents"
        for method, path, body, headers in (
            ("POST", documents, form(300 * MEBIBYTE), multipart),
            ("PUT", f"{documents}/by-name/a.txt", zeros(300 * MEBIBYTE), {}),
        ):
            peak = 0

            def watched(body: Iterator[bytes] = body) -> Iterator[bytes]:
                nonlocal peak
                for piece in body:
                    peak = max(peak, psutil.Process(pid).memory_info().rss)
                    yield piece

            with contextlib.suppress(httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
                problem_of(client.request(method, path, content=watched(), headers=headers), 413, "file-too-large")
            assert peak - before < 60 * MEBIBYTE
        assert client.get(documents).json()["items"] == []
        assert list((tmp_path / "incoming").iterdir()) == []


def test_file_over_a_small_limit_is_told_so(milvus_url: str, redis_url: str, tmp_path: Path) -> None:
    limits = {"MAX_UPLOAD_BYTES": "1000", "MAX_REQUEST_BYTES": "3000", "MAX_ARCHIVE_FILES": "2"}
    with ingest_process(tmp_path, milvus_url, redis_url, **limits) as (client, _pid):
        client.post("/v1/knowledge-bases", json={"name": "小"}).raise_for_status()
        documents = "/v1/knowledge-bases/小/documents"
        problem_of(client.put(f"{documents}/by-name/a.txt", content=b"a" * 1001), 413, "file-too-large")
        problem_of(client.post(documents, files={"file": ("a.txt", b"a" * 1001)}), 413, "file-too-large")
        many = [("file", (f"{number}.txt", b"a" * 900)) for number in range(4)]
        problem_of(client.post(documents, files=many), 413, "request-too-large")
        assert client.put(f"{documents}/by-name/a.txt", content=b"a" * 1000).status_code == 202


# Stores that are gone


@pytest.fixture
def own_stores(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    (tmp_path / "milvus").mkdir()
    (tmp_path / "redis").mkdir()
    with (
        running(milvus_lite_server(tmp_path / "milvus")) as milvus,
        running(redis_server_in(tmp_path / "redis")) as redis,
    ):
        yield milvus, redis


def test_ready_names_the_store_that_is_gone_and_sees_it_back(own_stores: tuple[Server, Server], tmp_path: Path) -> None:
    milvus, redis = own_stores
    with in_process_stack(tmp_path / "data", milvus_url=milvus.url, redis_url=redis.url) as zw:
        kb = zw.base()
        zw.add(kb, "甲.txt", "年假十天。")
        for server, name in ((redis, "broker"), (milvus, "milvus")):
            server.kill()
            response = zw.ingest.get("/readyz")
            assert response.status_code == 503
            checks = response.json()["checks"]
            assert {check for check, outcome in checks.items() if outcome != "ok"} == {name}
            item = zw.upload(kb, {f"{name}.txt": f"写在{name}不在的时候。"})[0]  # acknowledged all the same
            if server is milvus:
                problem_of(
                    zw.query.post(f"/v1/knowledge-bases/{kb}/search", json={"query": "年假"}), 503, "milvus-unavailable"
                )
            server.start()
            wait_until(lambda: zw.ingest.get("/readyz").status_code == 200, 20, "never ready again")
            assert zw.settled(kb, item["id"])["status"] == "ready"
        assert zw.search(kb, "年假十天")[0]["text"] == "年假十天。"
