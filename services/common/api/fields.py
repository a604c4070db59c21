"""What request bodies are made of: fields whose values are checked, and bodies that refuse unknown fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from zhiwen.common.names import is_plain


class Strict(BaseModel):
    """A request body: unknown fields are errors, so that a typing mistake is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


def _checked_base_name(name: str) -> str:
    if name != name.strip() or "/" in name or not is_plain(name) or name in {".", ".."}:
        raise ValueError("must be printable, without / and without spaces around it")
    return name


Name = Annotated[
    str,
    Field(min_length=1, max_length=64, examples=["员工手册"]),
    AfterValidator(_checked_base_name),
]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold the character NUL")
    return text


StoredText = Annotated[str, AfterValidator(_without_nul)]
"""A text that the ledger can keep: PostgreSQL takes no NUL."""


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:  # JSON can hold half of a surrogate pair, UTF-8 cannot
        raise ValueError("not valid Unicode text") from exc
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""A text that can travel on to Milvus and to a model server."""
