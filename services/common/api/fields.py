"""The field types of the API's models: strict bodies, checked texts, and words that a newer service may add to."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from zhiwen.common.models import DocumentStatus
from zhiwen.common.names import is_plain

FROM_SERVICE: Final = {"from_service": True}
"""The validation context of a client that reads a response: a newer service may send words that are unknown here."""


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


def _known_or_newer(value: Any, known: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    try:
        return known(value)
    except ValidationError:
        if info.context != FROM_SERVICE or not isinstance(value, str):
            raise
        return value


OrNewer: Final = WrapValidator(_known_or_newer)
"""Marks a field with a fixed set of words. A client that reads a response accepts a word that it does not know."""


def _status_or_newer(value: Any, known: ValidatorFunctionWrapHandler, info: ValidationInfo) -> DocumentStatus:
    taken = _known_or_newer(value, known, info)
    if isinstance(taken, DocumentStatus):
        return taken
    newer = str.__new__(DocumentStatus, taken)  # no member, but it has a member's attributes and is not settled
    newer._name_ = newer._value_ = taken
    return newer


Status = Annotated[DocumentStatus, WrapValidator(_status_or_newer)]
"""A document's status. A client that reads a response accepts a status that it does not know."""
