"""What is sent to a client: in order, with what the gateway adds, and how an error ends it."""

from __future__ import annotations

import pytest
from starlette.types import Message

from zhiwen.common.errors import Unavailable
from zhiwen.llm_gateway.api.response import ResponseWriter

ERROR = Unavailable("no-upstream", "Nobody answers.")


class Client:
    """Receives what is sent, and records how much had come when `before_end` was called."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.free_after: int | None = None
        self.writer = ResponseWriter(self.receive, asked=1.0, clock=lambda: 2.0, before_end=self.may_leave)

    async def receive(self, message: Message) -> None:
        self.messages.append(message)

    def may_leave(self) -> None:
        self.free_after = len(self.messages)

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


async def test_a_whole_response_tells_its_length() -> None:
    client = Client()
    await client.writer.send_whole(b'{"a":1}', status=201, headers=[(b"x-a", b"1")])
    start, last = client.messages
    assert (start["status"], start["headers"]) == (201, [(b"x-a", b"1"), (b"content-length", b"7")])
    assert last["body"] == b'{"a":1}'
    assert not last.get("more_body", False)


async def test_a_client_may_leave_only_before_the_last_byte() -> None:
    client = Client()
    await client.writer.send_events([b"data: 1\n\n", b"data: 2\n\n"])
    assert client.free_after == len(client.messages) - 1
    assert client.body == b"data: 1\n\ndata: 2\n\n"


async def test_a_stream_is_never_cached_or_buffered_whatever_the_model_server_says() -> None:
    client = Client()
    await client.writer.start_stream(
        200, [(b"cache-control", b"max-age=9"), (b"x-accel-buffering", b"yes"), (b"x", b"y")]
    )
    headers = client.messages[0]["headers"]
    assert headers == [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        (b"x", b"y"),
    ]


async def test_an_error_is_raised_before_anything_is_sent() -> None:
    client = Client()
    with pytest.raises(Unavailable):
        await client.writer.fail(ERROR)
    assert client.messages == []
    assert not client.writer.started


async def test_an_error_after_the_start_is_the_last_event() -> None:
    client = Client()
    await client.writer.start_stream(200, [])
    await client.writer.fail(ERROR)
    assert b'"code":"no-upstream"' in client.body
    assert client.body.startswith(b"data: {")
    assert client.writer.started
