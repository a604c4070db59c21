"""Multipart forms (RFC 7578): files are streamed to disk and never held in memory.

The callbacks for python-multipart's parser are our own. Clients send file names in three encodings, and an upload must
stop at the byte that passes a limit. Starlette's form parser and streaming-form-data support neither.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from zhiwen.common.errors import InvalidRequest, TooLarge
from zhiwen.ingest.upload.staging import StagedFile, StagingFile, receiving

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 1 << 20
MAX_FIELDS = 32


@dataclass(frozen=True, slots=True)
class Form:
    """A complete form: its files in order, and its other fields by name."""

    files: list[StagedFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def receive_form(request: Request, folder: Path, *, max_file: int, max_request: int) -> Form:
    """Receive a multipart form, and write its files to `folder`.

    `max_file` and `max_request` are limits in bytes. Raises `TooLarge` (`file-too-large`, `field-too-large`,
    `request-too-large`) at the byte that passes a limit, `InvalidRequest` (`bad-multipart`) for a body that is not a
    complete multipart form, and what `receiving` raises.
    """
    receiver = _FormReceiver(folder, max_file)
    parser = MultipartParser(_boundary_of(request), receiver.callbacks())
    total = 0
    try:
        with receiving():
            async for data in request.stream():
                total += len(data)
                if total > max_request:
                    raise TooLarge(
                        "request-too-large",
                        f"This request is larger than {max_request} bytes; send fewer files at once.",
                    )
                parser.write(data)
            parser.finalize()
    except MultipartParseError as exc:
        raise InvalidRequest("bad-multipart", "The multipart body is damaged.") from exc
    finally:
        receiver.close()
    if not receiver.ended:
        raise InvalidRequest("bad-multipart", "The multipart body ends too early.")
    return receiver.form


def _boundary_of(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise InvalidRequest("bad-multipart", "Send the files as multipart/form-data, each in a field named file.")
    return options[b"boundary"]


class _FormReceiver:
    """The callbacks of the parser. They collect fields in memory, up to a limit, and write files to disk."""

    def __init__(self, folder: Path, max_file: int) -> None:
        self.form = Form()
        self.ended = False
        self._folder = folder
        self._max_file = max_file
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._field: tuple[str, bytearray] | None = None
        self._file: StagingFile | None = None

    def callbacks(self) -> MultipartCallbacks:
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
        """Close the incomplete file, if there is one."""
        if self._file:
            with contextlib.suppress(OSError):  # what was raised before says it
                self._file.close()

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_end(self) -> None:
        if bytes(self._header[0]).lower() == b"content-disposition":
            self._disposition = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        field_name, file_name = _names_of(self._disposition)
        if file_name is not None:
            self._file = StagingFile(file_name, self._folder / str(len(self.form.files)))
        elif len(self.form.fields) < MAX_FIELDS:
            self._field = (field_name, bytearray())
        else:
            raise InvalidRequest("bad-multipart", f"The form has more than {MAX_FIELDS} fields.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file:
            self._file.write(data[start:end], max_bytes=self._max_file)
        elif self._field:
            self._field[1].extend(data[start:end])
            if len(self._field[1]) > MAX_FIELD_BYTES:
                raise TooLarge("field-too-large", f"The field {self._field[0]} is longer than {MAX_FIELD_BYTES} bytes.")

    def _part_end(self) -> None:
        if self._file:
            self.form.files.append(self._file.finish())
        elif self._field:
            self.form.fields[self._field[0]] = self._field[1].decode("utf-8", "replace")
        self._file = self._field = None

    def _end(self) -> None:
        self.ended = True


def _names_of(disposition: bytes) -> tuple[str, str | None]:
    """Return the field name and the file name of a Content-Disposition header; None for a field that is not a file.

    Browsers and curl send names as raw UTF-8, Windows tools as GB18030, others as `filename*` (RFC 5987). If a header
    has both `filename` and `filename*`, the latter counts (RFC 6266). Raises `InvalidRequest`
    (`bad-multipart`) for a damaged header.
    """
    message = Message()
    message["content-disposition"] = _decoded(disposition)
    try:
        name = str(message.get_param("name", "", header="content-disposition") or "")
        sent = [value for key, value in message.get_params([], "content-disposition") if key == "filename"]
        if not sent:
            return name, None
        extended = next((value for value in sent if isinstance(value, tuple)), sent[0])
        file_name = collapse_rfc2231_value(extended).strip()
    except (LookupError, TypeError, ValueError) as exc:  # from the standard library, which expects no odd `filename*`
        raise InvalidRequest("bad-multipart", "The name of a file in the multipart body is damaged.") from exc
    return name, file_name.encode("utf-8", "replace").decode()  # a codec may give half of a surrogate pair


def _decoded(raw: bytes) -> str:
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "replace")
