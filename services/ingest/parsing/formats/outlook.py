"""Reads Outlook messages ([MS-OXMSG]): fields with python-oxmsg, the body with `unstructured`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oxmsg import Message

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.containers import encrypted
from zhiwen.ingest.parsing.formats.mail import header_block, under_heading
from zhiwen.ingest.parsing.formats.mail_body import mail_body
from zhiwen.ingest.parsing.text.normalise import one_line

ENCRYPTED_SUFFIXES = (".p7m", ".pgp-encrypted", ".pgp")


def read_outlook(path: Path) -> Iterator[Block]:
    """Yield the blocks of a message; raises DocumentError `encrypted` for S/MIME."""
    message = Message.load(str(path))
    kind = (message.message_class or "").upper()
    attached = [attachment.file_name or "" for attachment in message.attachments]
    sealed = any(name.lower().endswith(ENCRYPTED_SUFFIXES) for name in attached)
    if "MULTIPARTSIGNED" not in kind and ("SMIME" in kind or sealed) and not (message.body or "").strip():
        raise encrypted()
    subject = one_line(message.subject or "")
    heading = (subject,) if subject else ()
    if subject:
        yield Block(subject, "heading")
    to = ", ".join(f"{r.name} <{r.email_address}>" for r in message.recipients)
    fields = [("From", one_line(message.sender or "")), ("To", one_line(to))]
    yield from header_block([*fields, ("Date", str(message.sent_date or ""))], list(filter(None, attached)), heading)
    yield from under_heading(heading, mail_body(path, "msg"))
