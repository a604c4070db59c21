"""Run a server that binds every address where only this file reaches it, and pass a unix socket on to it.

Started in a network namespace of its own (`unshare --net`), it turns the loopback interface on, starts the command,
waits until the command is healthy, and then forwards each connection on the unix socket to the command's port:

    unshare --net … python -m tests.servers.loopback_only --socket /tmp/x.sock --port 19530 --health URL -- command …

The socket exists once the server is ready. When the command ends, so does this; `unshare --kill-child` ends all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Sequence

SIOCSIFFLAGS = 0x8914  # linux/sockios.h
IFF_UP = 0x1
READY_SECONDS = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a server in a namespace with loopback only.")
    parser.add_argument("--socket", required=True, help="unix socket to listen on")
    parser.add_argument("--port", type=int, required=True, help="port of 127.0.0.1 to forward to")
    parser.add_argument("--health", required=True, help="URL that answers 200 once the server is ready")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    turn_loopback_on()
    process = subprocess.Popen(arguments.command)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    wait_until_healthy(arguments.health, process)
    asyncio.run(forward(arguments.socket, arguments.port, process))


def turn_loopback_on() -> None:
    """What `ip link set lo up` does, without iproute2."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    process.kill()
    raise SystemExit(f"{process.args!r} did not become ready")


async def forward(path: str, port: int, process: subprocess.Popen[bytes]) -> None:
    """Forward connections until the process ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server = await asyncio.start_unix_server(serve, path)
    async with server:
        await asyncio.to_thread(process.wait)
    os._exit(process.returncode)  # open connections keep the loop from ending


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


def in_namespace(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` in network and process namespaces of its own, root or not.

    Killing it kills all that it started: the kernel ends a process namespace with its first process.
    """
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *as_root, "--net", "--pid", "--mount-proc", "--fork", "--kill-child", *command]


if __name__ == "__main__":
    main()
