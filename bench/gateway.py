"""Measures the gateway: its CPU time for each request and each streamed chunk, and the latency that it adds.

    python bench/gateway.py [--requests 3000] [--memory-requests 0]

One run measures, in turn, the gateway, a simple aiohttp pass-through and, if installed, LiteLLM proxy and nginx. All
are in front of the same fake server, an asyncio protocol in its own process. CPU time is the user and system time of
the server's processes. The fake server sends chunks one after the other, so that each needs a read and a write.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil

ROOT = Path(__file__).resolve().parents[1]
CHUNKS = int(os.environ.get("BENCH_CHUNKS", "200"))
STREAMS = 64
ROUNDS = 5  # the median counts: other work on the machine makes single rounds dearer
PACE = float(os.environ.get("BENCH_PACE", "0"))
MODEL = "bench-model"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1760000000,
    "model": MODEL,
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "年假为十天。" * 20}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 400, "completion_tokens": 100, "total_tokens": 500},
}
PROMPT = "已知信息:\n" + "\n".join(f"[{n}] 员工每年享有带薪年假,入职满一年后为 {n} 天。" * 5 for n in range(1, 6))


def chunk_bytes(number: int) -> bytes:
    """Return one event of the fake stream. Its number shows lost and reordered chunks."""
    finish = '"stop"' if number == CHUNKS - 1 else "null"
    return (
        f'data: {{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"{MODEL}",'
        f'"choices":[{{"index":0,"delta":{{"content":"字{number}"}},"logprobs":null,"finish_reason":{finish}}}]}}\n\n'
    ).encode()


EVENTS = [chunk_bytes(number) for number in range(CHUNKS)]
STREAM = b"".join(EVENTS) + b"data: [DONE]\n\n"


class FakeProtocol(asyncio.Protocol):
    """Reads requests with a content length; answers whole, or streams one event each `PACE` seconds."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with an empty buffer."""
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = 0
            if (place := head.find(b"content-length:")) >= 0:
                length = int(head[place + 15 :].split(b"\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        """Answer one request, given its head and its body."""
        if head.startswith(b"get"):
            payload = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
        elif json.loads(body).get("stream"):
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            asyncio.get_running_loop().call_soon(self.send_event, 0)
            return
        else:
            payload = json.dumps(ANSWER, ensure_ascii=False).encode()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload
        )

    def send_event(self, number: int) -> None:
        """Send the event with this number, and schedule the next one."""
        if self.transport.is_closing():
            return
        event = EVENTS[number] if number < CHUNKS else b"data: [DONE]\n\n"
        self.transport.write(b"%x\r\n" % len(event) + event + b"\r\n")
        if number == CHUNKS:
            self.transport.write(b"0\r\n\r\n")
        else:
            asyncio.get_running_loop().call_later(PACE, self.send_event, number + 1)


async def serve_fake(port: int) -> None:
    """Serve the fake model server on a port, forever."""
    server = await asyncio.get_running_loop().create_server(FakeProtocol, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


async def serve_pass_through(port: int, upstream: str) -> None:
    """Serve the simplest possible proxy in Python: aiohttp in, aiohttp out, bytes passed on."""
    from aiohttp import ClientSession, TCPConnector, web

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with session.post(
            upstream + request.path, data=body, headers={"Content-Type": "application/json"}
        ) as got:
            if "event-stream" not in got.headers["Content-Type"]:
                return web.Response(body=await got.read(), content_type="application/json")
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            async for chunk in got.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    session = ClientSession(connector=TCPConnector(limit=0))
    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


@dataclass
class Server:
    """A server under test: the process `pid` and its children."""

    name: str
    port: int
    pid: int
    path: str = "/v1/chat/completions"

    def processes(self) -> list[psutil.Process]:
        """The process and its children."""
        main = psutil.Process(self.pid)
        return [main, *main.children(recursive=True)]

    def cpu(self) -> float:
        """Return the CPU time so far, in seconds."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())

    def memory(self) -> float:
        """Return the resident memory in MiB."""
        return sum(process.memory_info().rss for process in self.processes()) / 2**20


def request_bytes(path: str, *, stream: bool) -> bytes:
    """Return a raw HTTP request for a path, with the prompt as its body."""
    fields = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "temperature": 0.7, "stream": stream}
    body = json.dumps(fields, ensure_ascii=False).encode()
    headers = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}\r\n".encode() + body


class Client:
    """One keep-alive connection that reads raw HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> None:
        """Open the connection."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)

    async def call(self, request: bytes) -> bytes:
        """Send one request and return the answer's body, chunked or not."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"{head!r} {await self.reader.read(500)!r}")
        if (place := head.find(b"content-length:")) >= 0:
            return await self.reader.readexactly(int(head[place + 15 :].split(b"\r\n")[0]))
        parts: list[bytes] = []
        while True:
            size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            data = await self.reader.readexactly(size + 2)
            if size == 0:
                return b"".join(parts)
            parts.append(data[:-2])

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


async def run_requests(server: Server, count: int, clients: int) -> list[float]:
    """Send `count` requests over `clients` connections; return the seconds each took."""
    request = request_bytes(server.path, stream=False)
    seconds: list[float] = []
    left = count

    async def work() -> None:
        nonlocal left
        client = Client(server.port)
        await client.open()
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await client.call(request)
            seconds.append(time.perf_counter() - began)
        client.close()

    await asyncio.gather(*(work() for _ in range(clients)))
    return seconds


async def run_streams(server: Server, streams: int) -> int:
    """Read `streams` streams at once. Return how many differ from what the fake server sent."""
    request = request_bytes(server.path, stream=True)

    async def work() -> bool:
        client = Client(server.port)
        await client.open()
        body = await client.call(request)
        client.close()
        return body == STREAM

    return streams - sum(await asyncio.gather(*(work() for _ in range(streams))))


def measure(server: Server, direct: Server, requests: int) -> dict[str, Any]:
    """Return CPU time per request and per chunk, and the median latency added to a direct call, with one client."""
    asyncio.run(run_requests(server, 200, 4))  # warm
    per_request = statistics.median(cpu_of(server, run_requests(server, requests // ROUNDS, 8)) for _ in range(ROUNDS))
    per_request /= requests // ROUNDS
    broken = asyncio.run(run_streams(server, STREAMS))
    per_streams = statistics.median(cpu_of(server, run_streams(server, STREAMS)) for _ in range(ROUNDS))
    per_chunk = (per_streams - STREAMS * per_request) / (STREAMS * (CHUNKS + 1))
    through = statistics.median(asyncio.run(run_requests(server, 500, 1)))
    straight = statistics.median(asyncio.run(run_requests(direct, 500, 1)))
    return {
        "server": server.name,
        "cpu_ms_request": round(per_request * 1e3, 3),
        "cpu_us_chunk": round(per_chunk * 1e6, 1),
        "added_p50_ms": round((through - straight) * 1e3, 2),
        "streams_broken": broken,
        "rss_mib": round(server.memory(), 1),
    }


def cpu_of(server: Server, work: Coroutine[Any, Any, Any]) -> float:
    """Run `work`, and return the seconds of CPU time that the server used for it."""
    before = server.cpu()
    asyncio.run(work)
    return server.cpu() - before


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(name: str, command: list[str], port: int, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Run a server and wait until its port is open."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ZHIWEN_")}
    process = subprocess.Popen(
        command, cwd=ROOT, env={**clean, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start: {' '.join(command)}")
            import socket

            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield Server(name, port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def gateway(upstream: str, folder: Path) -> Iterator[Server]:
    """Run the gateway as in production: routing over two upstreams, with limits and metrics."""
    config = folder / "gateway.yaml"
    upstreams = [{"name": f"up-{n}", "base_url": upstream + "/v1", "models": [MODEL]} for n in (1, 2)]
    limits = [{"name": "*", "requests_per_minute": 10**9, "tokens_per_minute": 10**12}]
    config.write_text(json.dumps({"upstreams": upstreams, "keys": limits}))
    port = free_port()
    env = {
        "ZHIWEN_GATEWAY_PORT": str(port),
        "ZHIWEN_GATEWAY_CONFIG": str(config),
        "ZHIWEN_DATA_DIR": str(folder),
    }
    with running("zhiwen gateway", [sys.executable, "-m", "zhiwen.llm_gateway.app"], port, env) as server:
        yield server


@contextlib.contextmanager
def pass_through(upstream: str, _folder: Path) -> Iterator[Server]:
    """Run the aiohttp pass-through."""
    port = free_port()
    command = [sys.executable, __file__, "--serve-pass-through", str(port), upstream]
    with running("aiohttp pass-through", command, port) as server:
        yield server


@contextlib.contextmanager
def nginx(upstream: str, folder: Path) -> Iterator[Server]:
    """Run nginx as a reverse proxy."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"  upstream fake {{ server {upstream.removeprefix('http://')}; keepalive 64; }}\n"
        f"  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://fake; proxy_http_version 1.1;\n"
        '    proxy_set_header Connection ""; proxy_buffering off; }}}}\n'.replace("}}}}", "} } }")
    )
    with running("nginx", [shutil.which("nginx") or "nginx", "-c", str(config), "-p", str(folder)], port) as server:
        yield server


@contextlib.contextmanager
def litellm(upstream: str, folder: Path) -> Iterator[Server]:
    """Run LiteLLM proxy."""
    port = free_port()
    config = folder / "litellm.yaml"
    params = {"model": f"openai/{MODEL}", "api_base": upstream + "/v1", "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": params}]}))
    program = os.environ["BENCH_LITELLM"]
    command = [program, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    with running("LiteLLM proxy", command, port) as server:
        yield server


def main() -> None:
    """Serve or measure, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--memory-requests", type=int, default=0, help="then watch memory over that many requests")
    parser.add_argument("--only", default="", help="measure only servers whose name contains this")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line instead of the table")
    parser.add_argument("--serve-fake", metavar="PORT", type=int)
    parser.add_argument("--serve-pass-through", metavar=("PORT", "UPSTREAM"), nargs=2)
    args = parser.parse_args()
    if args.serve_fake:
        import uvloop

        uvloop.run(serve_fake(args.serve_fake))
        return
    if args.serve_pass_through:
        import uvloop

        uvloop.run(serve_pass_through(int(args.serve_pass_through[0]), args.serve_pass_through[1]))
        return
    run_all(args)


def run_all(args: argparse.Namespace) -> None:
    """Measure each server in turn, and print the results."""
    peers = [gateway, pass_through]
    peers += [nginx] if shutil.which("nginx") else []
    peers += [litellm] if os.environ.get("BENCH_LITELLM") else []
    rows = []
    fake_port = free_port()
    fake_command = [sys.executable, __file__, "--serve-fake", str(fake_port)]
    with tempfile.TemporaryDirectory() as folder, running("fake", fake_command, fake_port) as direct:
        for number, peer in enumerate(peers):
            if args.only not in peer.__name__:
                continue
            place = Path(folder) / str(number)
            place.mkdir()
            with peer(f"http://127.0.0.1:{fake_port}", place) as server:
                rows.append(measure(server, direct, args.requests))
                if peer is gateway and args.memory_requests:
                    rows[-1]["memory"] = watch_memory(server, args.memory_requests)
    print_rows(rows, as_json=args.json)


def watch_memory(server: Server, requests: int) -> list[float]:
    """Return the resident memory in MiB after each tenth of `requests`."""
    seen = []
    for _ in range(10):
        asyncio.run(run_requests(server, requests // 10, 16))
        seen.append(round(server.memory(), 1))
    return seen


def print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the results as JSON lines, or as a Markdown table."""
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}\n")
    print("| server | CPU ms/request | CPU µs/chunk | added ms, p50 | broken streams | memory MiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        cells = ("server", "cpu_ms_request", "cpu_us_chunk", "added_p50_ms", "streams_broken", "rss_mib")
        print("| " + " | ".join(str(row[cell]) for cell in cells) + " |")
    for row in rows:
        if "memory" in row:
            print(f"\nmemory of {row['server']} in MiB, each tenth: {row['memory']}")


if __name__ == "__main__":
    main()
