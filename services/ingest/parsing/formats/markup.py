"""Parses XML and HTML safely: no network, no DTD, no entities, and an error instead of a crash when too deep."""

from __future__ import annotations

from pathlib import PurePosixPath

from lxml import etree

from zhiwen.common.errors import DocumentError

DEPTH_ERROR = "Excessive depth"


def parse_xml(data: bytes) -> etree._Element:
    """Return the root of an XML file.

    Raises DocumentError: `too-deep`, `unsafe-xml` for a DTD that declares entities, `corrupt`.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True, remove_pis=True)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as exc:
        raise _as_document_error(exc) from None
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is not None and any(True for _ in dtd.iterentities()):
        raise unsafe_xml()
    return root


def unsafe_xml() -> DocumentError:
    """Return the error for XML that declares entities: they can expand without limit, or read local files."""
    return DocumentError(
        "unsafe-xml", "This file declares XML entities, which are not expanded. Save it without a DTD."
    )


def _as_document_error(exc: etree.XMLSyntaxError) -> DocumentError:
    message = str(exc)
    if DEPTH_ERROR in message:
        return too_deep()
    message = message.lower()
    if "entity" in message and ("loop" in message or "amplification" in message):
        return unsafe_xml()
    return DocumentError("corrupt", "The XML of this file is damaged. Open it in its own program and save it again.")


def too_deep() -> DocumentError:
    """Return the error for a file that is nested too deeply."""
    return DocumentError("too-deep", "This file is nested too deeply to be read. Save it in a flatter form.")


def parse_html(text: str) -> etree._Element | None:
    """Return the root of an HTML page, however broken it is; None when it holds no element.

    Raises DocumentError `too-deep` beyond 2,048 levels, where libxml2 would silently drop the rest.
    """
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, recover=True, huge_tree=True, remove_comments=True)
    root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    if any(DEPTH_ERROR in entry.message for entry in parser.error_log.filter_from_level(etree.ErrorLevels.FATAL)):
        raise too_deep()
    return root


def local_name(element: etree._Element) -> str:
    """Return an element's name without its namespace, lower case; empty for comments, entities and instructions."""
    tag = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def attribute(element: etree._Element, name: str) -> str | None:
    """Return an attribute by its local name in any namespace (Transitional and Strict files use different ones)."""
    for key, value in element.attrib.items():
        if str(key).rpartition("}")[2] == name:
            return str(value)
    return None


def resolve_part(base: str, target: str) -> str:
    """Return the zip name of a relationship's `target`, relative to the part `base`."""
    if target.startswith("/"):
        return target[1:]
    parts: list[str] = []
    for part in (PurePosixPath(base).parent / target).parts:
        if part == ".." and parts:
            parts.pop()
        elif part not in {".", ".."}:
            parts.append(part)
    return "/".join(parts)
