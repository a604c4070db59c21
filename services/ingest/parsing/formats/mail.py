"""Reads mails (RFC 5322): the subject as heading, then sender, recipients and date, then the body."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.containers import encrypted
from zhiwen.ingest.parsing.detect.decode import decode_text, find_encoding
from zhiwen.ingest.parsing.formats.mail_body import mail_body
from zhiwen.ingest.parsing.text.normalise import one_line

SHOWN = ("From", "To", "Cc", "Date")
ENCRYPTED_TYPES = frozenset({"multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})


def read_mail(path: Path) -> Iterator[Block]:
    """Yield the blocks of a mail; raises DocumentError `encrypted` for S/MIME and PGP."""
    data = path.read_bytes()
    if find_encoding(data).startswith(("utf-16", "utf-32")):
        data = decode_text(data).encode()
    message = email.message_from_bytes(data, policy=email.policy.default)
    if message.get_content_type() in ENCRYPTED_TYPES and message.get_param("smime-type") != "signed-data":
        raise encrypted()
    for part in message.walk():
        _mend_charset(part)
    subject = _header(message, "Subject")
    heading = (subject,) if subject else ()
    if subject:
        yield Block(subject, "heading")
    yield from header_block([(name, _header(message, name)) for name in SHOWN], attachment_names(message), heading)
    copy = Path("document.eml")
    copy.write_bytes(message.as_bytes(policy=email.policy.SMTP.clone(refold_source="none")))
    yield from under_heading(heading, mail_body(copy, "eml"))


def header_block(fields: list[tuple[str, str]], attachments: list[str], heading: tuple[str, ...]) -> Iterator[Block]:
    """Yield a block of header `fields`, such as sender and date, and of the names of attachments."""
    lines = [f"{name}: {value}" for name, value in fields if value]
    lines += [f"Attachment: {name}" for name in attachments]
    if lines:
        yield Block("\n".join(lines), "list", heading)


def under_heading(heading: tuple[str, ...], blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield `blocks` with `heading` in front of their own heading paths."""
    return (replace(block, heading=heading + block.heading) for block in blocks)


def attachment_names(message: EmailMessage) -> list[str]:
    """Return the file names of the attachments."""
    names = (part.get_filename() for part in message.walk() if part.get_content_disposition() == "attachment")
    return [one_line(name) for name in names if name]


def _header(message: EmailMessage, name: str) -> str:
    try:
        value = str(message.get(name, ""))
    except (ValueError, TypeError, IndexError, AttributeError, UnicodeError):
        # The header parser of the standard library fails on damaged dates and addresses.
        return ""
    return one_line(value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _mend_charset(part: EmailMessage) -> None:
    """Convert a text part to UTF-8. Its encoding is found from its bytes; its declaration is only a hint."""
    if part.is_multipart() or part.get_content_maintype() != "text" or part.get_content_disposition() == "attachment":
        return
    payload = part.get_payload(decode=True)
    if isinstance(payload, bytes) and payload and not payload.isascii():
        text = decode_text(payload, part.get_content_charset())
        part.set_content(text, subtype=part.get_content_subtype(), charset="utf-8", cte="base64")
