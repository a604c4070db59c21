"""Receiving files: streamed to disk as they come, never held in memory, stopped at their limit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from zhiwen.common.errors import InvalidRequest, TooLarge
from zhiwen.common.names import is_plain
from zhiwen.common.originals import storage_error

MAX_FIELD_BYTES = 1 << 20
MAX_FIELDS = 32
MAX_NAME_BYTES = 1024  # of UTF-8: what an index of PostgreSQL holds with room to spare, four times a file name


@dataclass(slots=True)
class ReceivedFile:
    """A file that has arrived: its bytes at `path`, and their hash."""

    name: str
    path: Path
    bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        return self.digest.hexdigest()


@dataclass(slots=True)
class Form:
    """A received multipart form."""

    files: list[ReceivedFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def receive_form(request: Request, folder: Path, *, max_file: int, max_request: int) -> Form:
    """Receive a multipart form with its files in `folder`.

    Raises `TooLarge` (`file-too-large`, `request-too-large`) as soon as a limit (bytes) is passed, and
    `InvalidRequest` (`bad-multipart`) for a body that is no whole multipart form.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise InvalidRequest("bad-multipart", "Send the files as multipart/form-data, each in a field named file.")
    receiver = _FormReceiver(folder, max_file)
    parser = MultipartParser(options[b"boundary"], receiver.callbacks())  # type: ignore[arg-type]
    total = 0
    try:
        async for data in request.stream():
            total += len(data)
            if total > max_request:
                raise TooLarge("request-too-large", f"One request may be {max_request} bytes long; send fewer files.")
            parser.write(data)
        parser.finalize()
    except MultipartParseError as exc:
        raise InvalidRequest("bad-multipart", "The multipart body is damaged.") from exc
    except ClientDisconnect as exc:
        raise InvalidRequest("client-disconnected", "The upload was broken off; nothing of it was kept.") from exc
    except OSError as exc:
        raise storage_error(exc) from exc
    finally:
        receiver.close()
    if not receiver.ended:
        raise InvalidRequest("bad-multipart", "The multipart body ends too early.")
    return receiver.form


async def receive_body(request: Request, folder: Path, name: str, *, max_file: int) -> ReceivedFile:
    """Receive a raw body as one file in `folder`. Raises `TooLarge` (`file-too-large`)."""
    received = ReceivedFile(checked_name(name), folder / "0")
    try:
        with received.path.open("wb") as target:
            async for data in request.stream():
                _append(received, target, data, max_file)
    except ClientDisconnect as exc:
        raise InvalidRequest("client-disconnected", "The upload was broken off; nothing of it was kept.") from exc
    except OSError as exc:
        raise storage_error(exc) from exc
    return received


def checked_name(name: str) -> str:
    """Return the name of a document without surrounding spaces. Raises `InvalidRequest` (`bad-name`)."""
    cleaned = name.replace("\\", "/").strip().strip("/")
    if not cleaned or not is_plain(cleaned) or len(cleaned.encode()) > MAX_NAME_BYTES:
        raise InvalidRequest(
            "bad-name", f"A document needs a printable name of 1 to {MAX_NAME_BYTES} bytes in UTF-8, such as 手册.pdf."
        )
    return cleaned


def _append(received: ReceivedFile, target: BinaryIO, data: bytes, max_file: int) -> None:
    received.bytes += len(data)
    if received.bytes > max_file:
        raise TooLarge("file-too-large", f"{received.name} is larger than {max_file} bytes; nothing of it was kept.")
    received.digest.update(data)
    target.write(data)


class _FormReceiver:
    """The callbacks of the multipart parser: fields into memory (bounded), files to disk."""

    def __init__(self, folder: Path, max_file: int) -> None:
        self.form = Form()
        self.ended = False
        self._folder = folder
        self._max_file = max_file
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._field: tuple[str, bytearray] | None = None
        self._file: tuple[ReceivedFile, BinaryIO] | None = None

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def close(self) -> None:
        if self._file:
            self._file[1].close()

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_end(self) -> None:
        if bytes(self._header[0]).lower() == b"content-disposition":
            self._disposition = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        field_name, file_name = _disposition(self._disposition)
        if file_name is not None:
            received = ReceivedFile(file_name, self._folder / str(len(self.form.files)))
            self._file = (received, received.path.open("wb"))
        elif len(self.form.fields) < MAX_FIELDS:
            self._field = (field_name, bytearray())
        else:
            raise InvalidRequest("bad-multipart", f"The form has more than {MAX_FIELDS} fields.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file:
            _append(*self._file, data[start:end], self._max_file)
        elif self._field:
            self._field[1].extend(data[start:end])
            if len(self._field[1]) > MAX_FIELD_BYTES:
                raise TooLarge("field-too-large", f"The field {self._field[0]} is longer than {MAX_FIELD_BYTES} bytes.")

    def _part_end(self) -> None:
        if self._file:
            self._file[1].close()
            self.form.files.append(self._file[0])
        elif self._field:
            self.form.fields[self._field[0]] = self._field[1].decode("utf-8", "replace")
        self._file = self._field = None

    def _end(self) -> None:
        self.ended = True


def _disposition(header: bytes) -> tuple[str, str | None]:
    """Return the field name and file name of a Content-Disposition header.

    Browsers and curl send names as raw UTF-8, Windows tools as GB18030, others as RFC 5987's `filename*`.
    """
    text = decoded_name(header)
    message = Message()
    message["content-disposition"] = text
    name = str(message.get_param("name", "", header="content-disposition") or "")
    sent = [value for key, value in message.get_params([], "content-disposition") if key == "filename"]
    if not sent:
        return name, None
    extended = next((value for value in sent if isinstance(value, tuple)), sent[0])  # RFC 6266: it is the better one
    return name, collapse_rfc2231_value(extended).strip()


def decoded_name(raw: bytes) -> str:
    """Decode a name that may be UTF-8 or GB18030."""
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "replace")
