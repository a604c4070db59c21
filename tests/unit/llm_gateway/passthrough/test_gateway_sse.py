"""Server-sent events: cut, read and changed in their bytes."""

from __future__ import annotations

import pytest

from zhiwen.llm_gateway.passthrough.sse import EventSplitter, EventTooLong, data_of, with_data


def test_an_event_without_end_is_refused() -> None:
    splitter = EventSplitter(limit=100)
    with pytest.raises(EventTooLong):
        splitter.feed(b"data: " + b"x" * 200)


def test_data_of_several_lines_and_its_replacement() -> None:
    assert data_of(b'event: x\ndata: {"a":\ndata: 1}\n\n') == b'{"a":\n1}'
    assert data_of(b": comment\n\n") is None
    assert with_data(b"id: 1\r\ndata: 2\r\n\r\n", b"3") == b"id: 1\r\ndata: 3\r\n\r\n"
