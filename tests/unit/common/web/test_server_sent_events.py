"""Server-sent events on the wire, and the response that carries them."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from zhiwen.common.web.events import event_stream, server_sent_event


@pytest.mark.parametrize(
    ("data", "shown"), [({"text": "年\n假"}, '{"text":"年\\n假"}'), ({}, "{}"), ([1, None, "\r"], '[1,null,"\\r"]')]
)
def test_data_is_json_on_one_line(data: object, shown: str) -> None:
    assert server_sent_event("token", data).decode() == f"event: token\ndata: {shown}\n\n"


async def test_stream_is_neither_cached_nor_held_back() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield server_sent_event("done", {})

    response = event_stream(events())
    assert response.headers["content-type"].startswith("text/event-stream")
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-store", "no")
