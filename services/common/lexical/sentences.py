"""Splits Chinese and English text into sentences. Pure.

A full stop, question mark or exclamation mark ends a sentence. It does not if it belongs to an abbreviation, a number,
an address or a title, or if it closes a quotation and the sentence continues. In doubt, two sentences stay together:
half a sentence is worse to find and to quote than two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_MARKS: Final = "。｡！？!?….;；"
_CLOSERS: Final = "\\]\"'”’」』）)】》〉〕］"
# Marks with the closing quotes and brackets and the white space after them; or the end of a line.
_CANDIDATE: Final = re.compile(rf"(?P<marks>[{_MARKS}][{_MARKS}{_CLOSERS}]*)(?P<space>\s*)|(?P<line>\n\s*)")
_EMPTY_LINE: Final = re.compile(r"\n[^\S\n]*\n")
_COMMA: Final = re.compile("[，、；：,;:]")
_LOWER_CASE: Final = re.compile(r"[a-z](?![A-Z])")  # a sentence may begin with "iPhone"
_LONGEST_TITLE: Final = 40

# English words whose full stop does not end a sentence.
_LONGEST_WORD: Final = 16
_WORD: Final = re.compile(r"(?<![A-Za-z0-9.])[A-Za-z]+(?:\.[A-Za-z]+)*\Z")
_NEVER_LAST: Final = re.compile(
    r"Mrs?|Ms|Dr|Prof|St|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Gov|Sen|Rep|Mt|vs|approx|ca|cf|viz|[Ee]\.g|[Ii]\.e"
)
_NAMES_A_NUMBER: Final = re.compile("Nos?|Figs?|Eqs?|Sec|Ch|Vol|Art|pp?")
_NUMBER: Final = re.compile(r"[\d(]|[IVXLC]+\b")
# Abbreviations, initials ("J") and acronyms ("U.S", "p.m"): they end a sentence only if a typical first word follows.
_SELDOM_LAST: Final = re.compile(r"Jr|Sr|Ph\.D|etc|al|Inc|Ltd|Co|Corp|est|[A-Z]|[A-Za-z](?:\.[A-Za-z])+")
_FIRST_WORD: Final = re.compile(
    "(?:The|A|An|This|That|These|Those|He|She|It|They|We|You|I|There|Here|His|Her|Its|Their|Our|My|But|And|Or|So|If|In|"
    "On|At|As|By|For|To|From|With|When|While|Where|What|Who|Why|How|However|Then|Thus|After|Before|Since|Both|Each|All|"
    "Some|Many|Most|No|Not|Yes)(?=[\\s,'’])"
)
# The labels of list items: "2", "2.1", "b", "iv", "二".
_LABEL: Final = re.compile(r"[\s(（*#•-]*(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxIVX]{2,4}|[一二三四五六七八九十]{1,3})")
_LONGEST_LABEL: Final = 16


def split_sentences(text: str, *, clauses: bool = False) -> list[str]:
    """Return the sentences of a text, each with the white space after it. Joined, they give the text.

    An empty line always ends a sentence. With `clauses`, the end of a line and a semicolon do so, too.
    """
    sentences: list[str] = []
    start = 0
    for end in _ends(text, clauses):
        if text[start:end].strip():
            sentences.append(text[start:end])
            start = end
    rest = text[start:]
    if rest.strip() or not sentences:
        sentences.append(rest)
    else:
        sentences[-1] += rest
    return sentences


def _ends(text: str, clauses: bool) -> Iterator[int]:
    """Yield the positions where sentences end, white space after a sentence included."""
    start = 0
    for candidate in _CANDIDATE.finditer(text):
        space = candidate["line"] or candidate["space"]
        if (
            (clauses and "\n" in space)
            or _EMPTY_LINE.search(space)
            or (candidate["marks"] and _ends_sentence(text, start, candidate, clauses))
        ):
            start = candidate.end()
            yield start


def _ends_sentence(text: str, start: int, candidate: re.Match[str], clauses: bool) -> bool:
    """Return whether marks end the sentence that begins at `start`."""
    mark, marks, space = candidate.start(), candidate["marks"], candidate["space"]
    after = text[candidate.end() : candidate.end() + _LONGEST_WORD]
    if (_COMMA.match(after) and "\n" not in space) or marks[-1] in "》〉" or _is_in_title(text, start, mark):
        return False
    if any(end in marks for end in "。｡！？"):
        return True
    continues = _LOWER_CASE.match(after) is not None
    apart = bool(space) or not after[:1].isascii()  # in an address, text follows a mark without a space
    if "!" in marks or "?" in marks:
        return apart and not (continues and marks[-1] not in "!?")
    if "……" in marks:
        return apart and not continues
    if "…" in marks or "." in marks:
        if not space or continues or mark == start or text[mark - 1].isspace():
            return False
        return marks.count(".") != 1 or not _is_in_word(text, start, mark, after)
    return clauses and (apart or "；" in marks)


def _is_in_title(text: str, start: int, mark: int) -> bool:
    """Return whether a mark is inside the brackets of a title, as in 《为什么？》."""
    start = max(start, mark - _LONGEST_TITLE)
    return text.rfind("《", start, mark) > text.rfind("》", start, mark)


def _is_in_word(text: str, start: int, dot: int, after: str) -> bool:
    """Return whether a single full stop at `dot` belongs to an abbreviation or to the label of a list item."""
    word = _WORD.search(text, max(start, dot - _LONGEST_WORD), dot)
    return _is_label(text, start, dot) or (word is not None and _is_abbreviation(word[0], after))


def _is_label(text: str, start: int, dot: int) -> bool:
    """Return whether the text before `dot` in its sentence or line is the label of a list item."""
    first = max(start, dot - _LONGEST_LABEL)
    line = text.rfind("\n", first, dot) + 1
    return (line > 0 or first == start) and _LABEL.fullmatch(text, line or start, dot) is not None


def _is_abbreviation(word: str, after: str) -> bool:
    """Return whether the full stop after a word only marks an abbreviation; `after` is the text that follows."""
    if _NEVER_LAST.fullmatch(word):
        return True
    if _NAMES_A_NUMBER.fullmatch(word):
        return _NUMBER.match(after) is not None
    return _SELDOM_LAST.fullmatch(word) is not None and _FIRST_WORD.match(after) is None
