r"""Converts RTF to UTF-8 for pandoc: `\'c4\'e3` under GBK and `\u20320?` both become `你`.

Pandoc 3.9 does not know Chinese code pages, does not join surrogates (`\u-10179?\u-8704?`), and loses the character
after a replacement: it reads `\u8212?93` as `—3`.

Source: RTF specification 1.9.1, "Unicode RTF" (`\u`, `\uc`) and "Font Table" (`\fcharset`, `\ansicpg`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

# \fcharset numbers and \ansicpg numbers of the multi-byte code pages.
CHARSETS = {128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5hkscs"}
CODE_PAGES = {932: "cp932", 949: "cp949", 936: "gb18030", 54936: "gb18030", 950: "big5hkscs"}
# Between a font's number and its charset stands no other font's number: else many of them would cost their square.
FONT = re.compile(rb"\\f(\d+)(?:\\(?!f\d)[a-z]+-?\d*|\{\\\*[^{}]*\}|\s)*?\\fcharset(\d+)")
CODE_PAGE = re.compile(rb"\\ansicpg(\d+)")
UNICODE_ESCAPE = re.compile(rb"\\u-?\d")
TOKEN = re.compile(
    rb"(?P<run>(?:\\'[0-9a-fA-F]{2}|[\x80-\xff])(?:\\'[0-9a-fA-F]{2}|\\[\\{}]|\\(?=[\x80-\xff])|[^\\{}])*+)"
    rb"|\\(?P<word>[a-zA-Z]+)(?P<number>-?\d+)? ?"
    rb"|(?P<brace>[{}])"
    rb"|(?P<symbol>\\[^a-zA-Z\x80-\xff])"
    rb"|(?P<text>[^\\{}\x80-\xff]++)"
    rb"|(?P<stray>\\)",  # before a byte beyond ASCII, or at the end
    re.DOTALL,
)
UNIT = re.compile(rb"\\'[0-9a-fA-F]{2}|\\[\\{}]|\\(?=[\x80-\xff])|[^\\\r\n]")
SPECIAL = re.compile(r"[\\{}]")
UNDECODED = re.compile("[\udc80-\udcff]")


def as_utf8(data: bytes) -> bytes:
    """Return an RTF file with its multi-byte characters and `\\u` escapes in UTF-8.

    A file that has neither is returned unchanged.
    """
    page = CODE_PAGE.search(data[:2000])
    default = CODE_PAGES.get(int(page.group(1))) if page else None
    fonts = {int(number): CHARSETS.get(int(charset)) for number, charset in FONT.findall(data[:200_000])}
    if default is None and not any(fonts.values()) and not UNICODE_ESCAPE.search(data):
        return data
    return _Translator(default, fonts).translate(data)


@dataclass(frozen=True, slots=True)
class _Group:
    """The state of a group, which holds until the group ends.

    `encoding` is the code page of its bytes; None: a code page that pandoc knows. `certain` means that the font names
    the code page; a code page of the whole file is only probable. `replacements` is the number of characters after a
    `\\u` escape, for readers that do not know it.
    """

    encoding: str | None
    certain: bool = False
    replacements: int = 1


class _Translator:
    """Translates a file and tracks the font of each group, because the font decides the code page of a byte."""

    def __init__(self, default: str | None, fonts: dict[int, str | None]) -> None:
        self._default = default
        self._fonts = fonts
        self._group = _Group(default)
        self._outer: list[_Group] = []
        self._to_skip = 0
        self._high_surrogate = 0

    def translate(self, data: bytes) -> bytes:
        translated: list[bytes] = []
        position = 0
        while token := TOKEN.match(data, position):
            position = token.end()
            if token["word"] == b"bin":  # the bytes of a picture, which are not text
                position += max(0, int(token["number"] or 0))
            else:
                translated.append(self._token(token))
        return b"".join(translated)

    def _token(self, token: re.Match[bytes]) -> bytes:
        if token["run"]:
            return self._run(token["run"])
        if token["word"] == b"u" and token["number"]:
            return self._unicode(int(token["number"]) & 0xFFFF)
        if token["text"]:
            return self._text(token["text"])
        if token["stray"]:  # it means nothing, and what comes after it counts
            return b""
        if token["symbol"] and self._to_skip:
            self._to_skip -= 1
            return b""
        self._to_skip = 0
        if token["brace"]:
            self._brace(token["brace"])
        elif token["number"]:
            self._word(token["word"], int(token["number"]))
        return token.group()

    def _word(self, word: bytes, number: int) -> None:
        if word == b"f":
            named = self._fonts.get(number)
            self._group = replace(self._group, encoding=named or self._default, certain=named is not None)
        elif word == b"uc":
            self._group = replace(self._group, replacements=max(0, number))

    def _brace(self, brace: bytes) -> None:
        if brace == b"{":
            self._outer.append(self._group)
        elif self._outer:
            self._group = self._outer.pop()

    def _unicode(self, code: int) -> bytes:
        self._to_skip = self._group.replacements
        if 0xD800 <= code < 0xDC00:
            self._high_surrogate = code
            return b""
        if 0xDC00 <= code < 0xE000:
            high, self._high_surrogate = self._high_surrogate, 0
            return _written(chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00)) if high else b""
        return _written(chr(code)) if code >= 0x20 else b""

    def _text(self, text: bytes) -> bytes:
        if not self._to_skip:
            return text
        characters = text.replace(b"\r", b"").replace(b"\n", b"")
        skipped, self._to_skip = self._to_skip, max(0, self._to_skip - len(characters))
        return characters[skipped:]

    def _run(self, run: bytes) -> bytes:
        """Translate a run of non-ASCII bytes and the ASCII text after them.

        The second byte of a character may be an ASCII letter or a bare backslash, so the whole run is decoded at once.
        If the code page is only probable, `\\'e9t` is more likely `ét`, so ASCII letters stay as they are.
        """
        units = UNIT.findall(run)
        skipped, self._to_skip = self._to_skip, max(0, self._to_skip - len(units))
        units = units[skipped:]
        if self._group.certain:
            return self._decoded(units)
        return b"".join(self._decoded(part) for _, part in groupby(units, key=_is_beyond_ascii))

    def _decoded(self, units: Iterable[bytes]) -> bytes:
        raw = b"".join(map(_byte, units))
        return _written(raw.decode(self._group.encoding or "ascii", "surrogateescape"))


def _is_beyond_ascii(unit: bytes) -> bool:
    return unit.startswith(b"\\'") or unit >= b"\x80"


def _byte(unit: bytes) -> bytes:
    return bytes.fromhex(unit[2:].decode("ascii")) if unit.startswith(b"\\'") else unit[-1:]


def _written(text: str) -> bytes:
    """Return `text` as RTF in UTF-8. Bytes that could not be decoded are written as escapes."""
    escaped = SPECIAL.sub(r"\\\g<0>", text)
    return UNDECODED.sub(lambda match: f"\\'{ord(match.group()) - 0xDC00:02x}", escaped).encode("utf-8", "replace")
