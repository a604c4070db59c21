"""Every log line is one line of JSON, whatever is in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from zhiwen.common.telemetry import configure_logging


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("odd", ["half \ud800 of a pair", 2**70, {1: "a"}, {"set"}], ids=["half", "big", "key", "set"])
def test_line_of_odd_values_is_json(odd: object, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("query", "INFO", "json")
    structlog.get_logger("test").info("event", odd=odd)
    (line,) = capsys.readouterr().err.splitlines()
    shown = json.loads(line)
    assert (shown["event"], shown["service"]) == ("event", "query")
