"""Model servers that break HTTP itself, and clients that read slowly: raw sockets on both sides of the gateway."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.servers.gateways import gateway, upstream
from tests.servers.processes import fake_openai

HTTP = httpx.Client(timeout=20)
FIELDS = {"model": "fake-model", "messages": [{"role": "user", "content": "x"}]}
EVENT = (
    b'data: {"id":"c","model":"fake-model","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
)
LAST = EVENT.replace(b"null", b'"stop"')
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
ANSWER = b'{"id":"c","model":"fake-model","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'


@pytest.fixture(scope="module", autouse=True)
def _close_client() -> Iterator[None]:
    yield
    HTTP.close()


@contextlib.contextmanager
def raw_server(reply: bytes) -> Iterator[str]:
    """Answer every connection's first request with these bytes, then close it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    ends = threading.Event()

    def serve() -> None:
        while not ends.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(2)
                    received = b""
                    while b'"x"}]' not in received:
                        received += connection.recv(65536)
                    connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        ends.set()
        thread.join()
        listener.close()


def ask(folder: Path, reply: bytes, *, stream: bool) -> httpx.Response:
    config = {"retry": {"attempts": 1}}
    with raw_server(reply) as base_url, gateway(folder, {**config, "upstreams": [upstream("raw", base_url)]}) as url:
        return HTTP.post(f"{url}/v1/chat/completions", json={**FIELDS, "stream": stream})


def chunked(*parts: bytes) -> bytes:
    return SSE + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\xff" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 banana\r\n\r\n",
        b"",
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_502(tmp_path: Path, reply: bytes, stream: bool) -> None:
    response = ask(tmp_path, reply, stream=stream)
    assert response.status_code == 502
    assert response.json()["error"]["code"].startswith("upstream-")


def test_an_answer_that_ends_with_the_connection(tmp_path: Path) -> None:
    whole = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + ANSWER
    assert ask(tmp_path, whole, stream=False).content == ANSWER
    response = ask(
        tmp_path / "2", b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENT + LAST, stream=True
    )
    assert response.content == EVENT + LAST + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENT,
        chunked(EVENT),
        chunked(EVENT, EVENT[:-20]),
        chunked(EVENT, b"\xe4\xbd"),
        chunked(EVENT) + b"0\r\n\r\n",
    ],
)
def test_a_stream_that_is_cut_anywhere_ends_with_an_error_event(tmp_path: Path, reply: bytes) -> None:
    response = ask(tmp_path, reply, stream=True)
    assert response.status_code == 200
    assert response.content.startswith(EVENT)
    last = json.loads(response.text.split("\n\n")[-2].removeprefix("data: "))
    assert last["error"]["code"].startswith("upstream-")


def test_a_broken_chunk_is_an_error_before_or_after_the_first_byte(tmp_path: Path) -> None:
    response = ask(tmp_path, chunked(EVENT) + b"banana\r\n", stream=True)
    assert '"error"' in response.text
    assert response.status_code == 502 or response.content.startswith(EVENT)


def test_half_a_character_per_write(tmp_path: Path) -> None:
    event = EVENT.replace(b'"x"', '"年😀"'.encode())
    parts = [event[i : i + 2] for i in range(1, len(event), 2)]
    response = ask(tmp_path, chunked(event[:1], *parts, LAST, b"data: [DONE]\n\n") + b"0\r\n\r\n", stream=True)
    assert response.content == event + LAST + b"data: [DONE]\n\n"


def test_a_long_event_passes(tmp_path: Path) -> None:
    event = EVENT.replace(b'"x"', b'"' + b"y" * 2_000_000 + b'"')
    response = ask(tmp_path, chunked(event, LAST, b"data: [DONE]\n\n") + b"0\r\n\r\n", stream=True)
    assert response.content == event + LAST + b"data: [DONE]\n\n"


def test_a_slow_reader_holds_the_server_back_and_not_the_gateways_memory(tmp_path: Path) -> None:
    with fake_openai() as fake, gateway(tmp_path, {"upstreams": [upstream("fake", fake.base_url)]}) as url:
        pieces = ["z" * 100_000 for _ in range(300)]
        fake.script({"behaviour": "answer", "pieces": pieces})
        before = psutil.Process().memory_info().rss
        with HTTP.stream("POST", f"{url}/v1/chat/completions", json={**FIELDS, "stream": True}) as response:
            time.sleep(1.0)
            grown = psutil.Process().memory_info().rss - before
            assert fake.state()["open"] == 1
            size = sum(len(part) for part in response.iter_bytes())
        assert size > 30_000_000
        assert grown < 15_000_000


def test_a_slow_reader_is_not_taken_for_a_silent_server(tmp_path: Path) -> None:
    with (
        fake_openai() as fake,
        gateway(tmp_path, {"upstreams": [upstream("fake", fake.base_url)]}, gateway_idle_timeout=0.3) as url,
    ):
        fake.script({"behaviour": "answer", "pieces": ["z" * 100_000 for _ in range(300)]})
        with HTTP.stream("POST", f"{url}/v1/chat/completions", json={**FIELDS, "stream": True}) as response:
            time.sleep(1.0)
            *_, last = response.iter_bytes()
        assert last.endswith(b"data: [DONE]\n\n")


def test_a_model_server_that_is_killed_within_a_stream(tmp_path: Path) -> None:
    with fake_openai() as fake, gateway(tmp_path, {"upstreams": [upstream("fake", fake.base_url)]}) as url:
        fake.script({"behaviour": "answer", "pieces": list("abcdefghij"), "delay": 0.2})
        with HTTP.stream("POST", f"{url}/v1/chat/completions", json={**FIELDS, "stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            listening = [c for c in psutil.Process().children() if _listens(c, fake.port)]
            listening[0].kill()
            *_, last = (line for line in lines if line)
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream-died"


def _listens(process: psutil.Process, port: int) -> bool:
    return any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in process.net_connections())
