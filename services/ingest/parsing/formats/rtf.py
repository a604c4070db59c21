r"""Chinese code pages in RTF: `\'c4\'e3` under GBK is written as `\u20320?`, which every reader understands.

Source: RTF specification 1.9.1, "Unicode RTF" and "Font Table" (`\fcharset`, `\ansicpg`).
"""

from __future__ import annotations

import re

# \fcharset numbers and \ansicpg numbers of the multi-byte code pages.
CHARSETS = {128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5hkscs"}
CODE_PAGES = {932: "cp932", 949: "cp949", 936: "gb18030", 54936: "gb18030", 950: "big5hkscs"}
FONT = re.compile(rb"\\f(\d+)(?:\\[a-z]+-?\d*\s?|\{\\\*[^{}]*\}|\s)*?\\fcharset(\d+)")
TOKEN = re.compile(
    rb"(?P<hex>(?:\\'[0-9a-fA-F]{2})+)"
    rb"|(?P<raw>[\x80-\xff]+)"
    rb"|\\(?P<word>[a-z]+)(?P<number>-?\d+)? ?"
    rb"|(?P<brace>[{}])"
)


def with_unicode_escapes(data: bytes) -> bytes:
    """Return an RTF file whose multi-byte characters are `\\u` escapes; other files come back as they are."""
    page = re.search(rb"\\ansicpg(\d+)", data[:2000])
    default = CODE_PAGES.get(int(page.group(1))) if page else None
    fonts = {int(number): CHARSETS.get(int(charset)) for number, charset in FONT.findall(data[:200_000])}
    if default is None and not any(fonts.values()):
        return data
    return _Translator(default, fonts).translate(data)


class _Translator:
    """Follows the font of each group, for it decides which code page a byte is in."""

    def __init__(self, default: str | None, fonts: dict[int, str | None]) -> None:
        self._default = default
        self._fonts = fonts
        self._encoding = default
        self._outer: list[str | None] = []
        self._fallback = 0

    def translate(self, data: bytes) -> bytes:
        return TOKEN.sub(self._token, data)

    def _token(self, match: re.Match[bytes]) -> bytes:
        if match["hex"] or match["raw"]:
            return self._bytes(match)
        if match["brace"]:
            self._brace(match["brace"])
        elif match["word"] == b"f" and match["number"]:
            self._encoding = self._fonts.get(int(match["number"])) or self._default
        elif match["word"] == b"u" and match["number"]:
            # What follows a \u is its replacement for old readers; those skip rules are left to pandoc.
            self._fallback = 1
            return match.group()
        self._fallback = 0
        return match.group()

    def _bytes(self, match: re.Match[bytes]) -> bytes:
        raw = match["raw"] or bytes.fromhex(match["hex"].replace(b"\\'", b"").decode("ascii"))
        fallback, self._fallback = self._fallback, 0
        if self._encoding is None or fallback:
            return match.group()
        try:
            text = raw.decode(self._encoding)
        except UnicodeDecodeError:
            return match.group()
        return b"".join(_escape(character) for character in text)

    def _brace(self, brace: bytes) -> None:
        if brace == b"{":
            self._outer.append(self._encoding)
        elif self._outer:
            self._encoding = self._outer.pop()


def _escape(character: str) -> bytes:
    units = character.encode("utf-16-le")
    codes = [int.from_bytes(units[i : i + 2], "little", signed=True) for i in range(0, len(units), 2)]
    return b"".join(b"\\u%d?" % code for code in codes)
