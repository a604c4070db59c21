"""Puts the new part of a Chinese follow-up question in the place of its parallel part in the question before. Pure."""

from __future__ import annotations

from itertools import pairwise

from zhiwen.query.answer.follow_ups.chinese_words import (
    ATTRIBUTES,
    CODE,
    ENDS,
    GENERIC,
    LEADS,
    LETTER,
    LIGHT,
    NUMBER,
    TAILS,
    UNIT,
    Word,
    words_of,
)


def completed(part: str, topic: str, about: str) -> str:
    """Return the earlier question with `part` in the place of its parallel part; if none is found, with both."""
    words = words_of(part)
    while len(words) > 1 and words[0].text in LEADS:
        part = part[words[0].end :].lstrip()
        words = words_of(part)
    while part.endswith(TAILS) and len(part) > 1:
        part = part[: -len(next(tail for tail in TAILS if part.endswith(tail)))]
    words = words_of(part)
    told = "".join(word.text for word in words)
    if told in ATTRIBUTES or (words and words[-1].text in ATTRIBUTES and all(w.text in LIGHT for w in words)):
        return joined(about, part) + "？"
    if (place := _parallel(words, told, words_of(topic))) is not None:
        return replaced(topic, place, part)
    comma = "，" if any(word.tag.startswith("v") for word in words) else ""
    return joined(part + comma, topic)


def _parallel(part: list[Word], told: str, topic: list[Word]) -> tuple[int, int] | None:
    """Return the place of the part of the earlier question that `part` stands against; None if it is not sure."""
    plain = "".join(word.text for word in topic)
    return same_frame(told, plain) or _same_kind(part, topic) or _same_head(part, told, topic)


def same_frame(part: str, topic: str) -> tuple[int, int] | None:
    """Return the longest span that differs from `part` in one number or code: `工作满一年` for `工作满二十年`."""
    mine = UNIT.findall(part)
    theirs = [(found.group(), found.start(), found.end()) for found in UNIT.finditer(topic)]
    kinds = (NUMBER, CODE, LETTER)
    numbers = [place for place, unit in enumerate(mine) if any(kind.fullmatch(unit) for kind in kinds)]
    if len(numbers) != 1:
        return None
    (at,) = numbers
    head, tail = mine[:at], mine[at + 1 :]
    spans = []
    for place, (unit, _, _) in enumerate(theirs):
        first, last = place - len(head), place + len(tail)
        if first < 0 or last >= len(theirs) or not _alike(mine[at], unit, bool(head or tail)):
            continue
        around = [text for text, _, _ in theirs[first:place]], [text for text, _, _ in theirs[place + 1 : last + 1]]
        if around == (head, tail):
            spans.append((theirs[first][1], theirs[last][2]))
    return spans[-1] if len(spans) == 1 else None


def _alike(unit: str, other: str, framed: bool) -> bool:
    """Return whether two units are numbers, or codes of the same letters (`E02`, `E03`)."""
    if (code := CODE.fullmatch(unit)) and (another := CODE.fullmatch(other)):
        return code.group(1) == another.group(1)
    numbers = NUMBER.fullmatch(unit) and NUMBER.fullmatch(other)
    return framed and bool(numbers or (LETTER.fullmatch(unit) and LETTER.fullmatch(other)))


def _same_kind(part: list[Word], topic: list[Word]) -> tuple[int, int] | None:
    """Return the one place name for a place name, or the one foreign name for a foreign name."""
    for belongs in (_is_place, _is_foreign):
        if part and all(belongs(word) for word in part):
            runs = _runs([word for word in topic if belongs(word)])
            return runs[0] if len(runs) == 1 else None
    return None


def _is_place(word: Word) -> bool:
    return word.tag == "ns"


def _is_foreign(word: Word) -> bool:
    return word.tag == "eng" or word.text.isascii()


def _runs(words: list[Word]) -> list[tuple[int, int]]:
    """Return the places of the runs of neighbouring words, without spaces and marks around them."""
    runs: list[list[Word]] = []
    for word in words:
        if runs and runs[-1][-1].end == word.start:
            runs[-1].append(word)
        else:
            runs.append([word])
    found = []
    for run in runs:
        letters = [word for word in run if word.text.strip(ENDS)]
        if letters:
            found.append((letters[0].start, letters[-1].end))
    return found


def _same_head(part: list[Word], told: str, topic: list[Word]) -> tuple[int, int] | None:
    """Return the one noun with the same last character: `年假` for `病假`. jieba cuts `年假` in two."""
    longer = [word for word in topic if len(word.text) > 1 and word.tag[0] == "n" and told.endswith(word.text)]
    if len(longer) == 1 and told != longer[0].text and len(told) - len(longer[0].text) <= 2:
        return longer[0].start, longer[0].end
    if not part or not 2 <= len(told) <= 5 or part[-1].tag[0] not in "nj" or any(w.tag[0] in "vu" for w in part[:-1]):
        return None
    places = []
    for before, word in pairwise([Word("", "x", 0, 0), *topic]):
        if word.text[-1] != told[-1] or word.tag[0] not in "nj" or word.text in GENERIC - {"假", "书", "证", "卡"}:
            continue
        start = word.start
        if len(word.text) == 1:
            if len(before.text) != 1 or before.tag[0] not in "nmavbt":
                continue
            start = before.start
        places.append((start, word.end))
    return places[0] if len(places) == 1 else None


def replaced(topic: str, place: tuple[int, int], part: str) -> str:
    """Return `topic` with `part` in the place of the span `place`."""
    return topic[: place[0]] + part + topic[place[1] :]


def joined(left: str, right: str) -> str:
    """Return both texts, with a space between two foreign words."""
    left, right = left.rstrip(), right.lstrip()
    foreign = left[-1:].isascii() and left[-1:].isalnum() and right[:1].isascii() and right[:1].isalnum()
    return f"{left} {right}" if foreign else left + right
