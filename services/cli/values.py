"""Reads the values of options that are JSON or files."""

from __future__ import annotations

import json
from typing import Any, TextIO

Json = dict[str, Any]


class Usage(Exception):
    """The command cannot run with these arguments. The text is one sentence for the user."""


def json_object(option: str, text: str | None) -> Json | None:
    """Return the JSON object in the text of an option, or None. Raises `Usage`."""
    if text is None:
        return None
    try:
        value: Any = json.loads(text)
    except ValueError as exc:
        raise Usage(f"{option} is not valid JSON: {exc}.") from exc
    if not isinstance(value, dict):
        raise Usage(f"{option} must be a JSON object.")
    return value


def integers(option: str, text: str | None) -> dict[str, int]:
    """Return the object of whole numbers in the text of an option. Raises `Usage`."""
    value = json_object(option, text) or {}
    if not all(isinstance(number, int) for number in value.values()):
        raise Usage(f"{option} must hold whole numbers only.")
    return value


def optional_text_file(file: TextIO | None) -> str | None:
    """Return the text of a file, or None without a file."""
    return None if file is None else file.read()
