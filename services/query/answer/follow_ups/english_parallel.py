"""Puts the new part of an English follow-up question in the place of its parallel part in the question before. Pure."""

from __future__ import annotations

from zhiwen.common.lexical.analysis import ENGLISH_STOPWORDS, stem
from zhiwen.query.answer.follow_ups.english_words import (
    ATTRIBUTES,
    DETERMINERS,
    ENDS,
    LIGHT,
    LONGEST_MODIFIERS,
    NUMBERS,
    PREPOSITIONS,
    Token,
    is_name,
    tokens_of,
)


def completed(part: str, topic: str, about: str) -> str:
    """Return the earlier question with `part` in the place of its parallel part; if none is found, with both."""
    tokens = tokens_of(part)
    preposition = tokens[0].low if tokens[0].low in PREPOSITIONS and len(tokens) > 1 else ""
    named = tokens[1:] if preposition else tokens
    while len(named) > 1 and named[0].low in DETERMINERS:
        named = named[1:]
    if all(stem(token.low) in ATTRIBUTES for token in named):
        return f"{part} {about}?"
    earlier = tokens_of(topic)
    place = (_same_preposition(preposition, named, earlier, topic) if preposition else None) or (
        _same_head(named, earlier) or _same_name(named, earlier)
    )
    if place is None:
        return f"{topic.rstrip('？?！!。. ')} {part}?"
    return topic[: place[0]] + part[named[0].start :] + topic[place[1] :]


def _same_preposition(preposition: str, named: list[Token], earlier: list[Token], topic: str) -> tuple[int, int] | None:
    """Return the place of the words behind the same preposition, if they are of the same kind."""
    for at, token in enumerate(earlier):
        if token.low != preposition:
            continue
        group: list[Token] = []
        for other in earlier[at + 1 :]:
            if not group and other.low in DETERMINERS:
                continue
            if (other.low in ENGLISH_STOPWORDS and other.low not in NUMBERS) or other.low in PREPOSITIONS:
                break
            group.append(other)
        if not group or len(group) > LONGEST_MODIFIERS:
            continue
        names = all(t.text[0].isupper() for t in group) and all(t.text[0].isupper() for t in named)
        single = len(group) == len(named) == 1 and not topic[group[-1].end :].strip(ENDS)
        single = single and group[0].text[0].islower() and named[0].text[0].islower()
        if names or single or stem(group[-1].low) == stem(named[-1].low):
            return group[0].start, group[-1].end
    return None


def _same_head(named: list[Token], earlier: list[Token]) -> tuple[int, int] | None:
    """Return the place of the one group with the same last word: `full-time staff` for `part-time staff`."""
    if len(named) < 2 and "-" not in named[0].text:
        return None
    heads = [at for at, token in enumerate(earlier) if stem(token.low) == stem(named[-1].low)]
    if len(heads) != 1:
        return None
    first = heads[0]
    while heads[0] - first < LONGEST_MODIFIERS and first > 0 and _modifies(earlier[first - 1]):
        first -= 1
    return (earlier[first].start, earlier[heads[0]].end) if first < heads[0] else None


def _modifies(token: Token) -> bool:
    if token.low in NUMBERS:
        return True
    found = stem(token.low)
    return found not in ENGLISH_STOPWORDS and found not in LIGHT and token.low not in PREPOSITIONS


def _same_name(named: list[Token], earlier: list[Token]) -> tuple[int, int] | None:
    """Return the place of the one name for a name: `HydroSense 300` for `HydroSense 310`, `Starter` for `Business`."""
    if not all(is_name(token) for token in named):
        return None
    runs: list[list[Token]] = []
    for at, token in enumerate(earlier):
        if not is_name(token) or (at == 0 and not token.text[1:].isupper()):
            continue
        if runs and earlier[at - 1] is runs[-1][-1]:
            runs[-1].append(token)
        else:
            runs.append([token])
    if len(runs) != 1 or _shape(runs[0]) != _shape(named):
        return None
    return runs[0][0].start, runs[0][-1].end


def _shape(name: list[Token]) -> tuple[bool, bool]:
    """Return whether a name has digits, and whether it is an abbreviation: `VPN` is no place like `Berlin`."""
    joined = "".join(token.text for token in name)
    return any(letter.isdigit() for letter in joined), joined.isupper() and joined.isalpha()


def with_number(core: str, topic: str) -> str:
    """Return the earlier question with a number or a code in the place of its own one (`BW-1002?`), or ""."""
    tokens, earlier = tokens_of(core), tokens_of(topic)
    if len(tokens) > LONGEST_MODIFIERS or not (tokens[0].low in NUMBERS or any(c.isdigit() for c in core)):
        return ""
    place = _same_head(tokens, earlier) or _same_name(tokens, earlier)
    return topic[: place[0]] + core + topic[place[1] :] if place else ""
