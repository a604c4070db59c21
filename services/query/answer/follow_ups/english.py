"""The rules for English follow-up questions. Pure."""

from __future__ import annotations

import re
from itertools import pairwise

from zhiwen.common.lexical.analysis import stem
from zhiwen.query.answer.follow_ups.english_parallel import completed, with_number
from zhiwen.query.answer.follow_ups.english_words import (
    ACTIONS,
    ASKING,
    AUXILIARIES,
    CLAUSES,
    CONDITION,
    DEPARTMENT,
    DETERMINERS,
    ENDS,
    ENOUGH,
    GENERIC,
    LONGEST_CONDITION,
    LONGEST_FRAGMENT,
    MARKER,
    MORE,
    ONE,
    PERSONS,
    POINTING,
    POLITE,
    PREPOSITIONS,
    SHOWING,
    TIMES,
    TOO,
    TWO,
    UNITS,
    Token,
    is_name,
    tells,
    tokens_of,
)

# The earlier question


def asks_who(question: str) -> bool:
    """Return whether the answer to a question names somebody: `Who runs the backups?`."""
    return (
        re.match(r"\W*(?:and |so |but )?(?:who\b|whos\b|which (?:person|team|department)\b)", question, re.I)
        is not None
    )


def subject(question: str) -> str:
    """Return the words that a question is about: `HydroSense 300` of `How much is the HydroSense 300?`.

    It is the whole question when nothing else is left.
    """
    telling = [token.text for token in tokens_of(question) if tells(token) or stem(token.low) in ACTIONS]
    return " ".join(telling) or question.strip(ENDS)


def without_politeness(question: str) -> str:
    """Return a question without a greeting and `I would like to know` before it."""
    return POLITE.sub("", question.strip())


# The follow-up


def resolve(question: str, topic: str, about: str) -> str:
    """Return `question` completed by the earlier question `topic`, which is about `about`; unchanged if complete."""
    core = without_politeness(question).strip(ENDS)
    if not core:
        return question
    before = topic.rstrip("？?！!。. ")
    if MORE.fullmatch(core):
        return f"{before}? {core}?"
    tokens = tokens_of(core)
    enough = sum(tells(token) for token in tokens) >= ENOUGH
    if not enough and (pronoun := _pronoun(tokens, core)) is not None:
        return _with_subject(core, tokens, pronoun, about)
    if not enough and _is_condition(core):
        return f"{before}, {core}?"
    if part := _fragment(core):
        return completed(part, topic, about)
    if not any(tells(token) for token in tokens):
        return f"{core} {about}?"
    return with_number(core, topic) or question


def _is_condition(core: str) -> bool:
    """Return whether the question is a condition and nothing else: `And if I am sick?`."""
    found = CONDITION.match(core)
    rest = tokens_of(core[found.end() :]) if found else []
    if len(rest) > LONGEST_CONDITION or any(token.low in ASKING for token in rest):
        return False
    turned = any(first.low in AUXILIARIES and second.low in PERSONS for first, second in pairwise(rest))
    return found is not None and not turned


def _fragment(core: str) -> str:
    """Return the part that stands against a part of the earlier question (`in Berlin` of `And in Berlin?`), or ""."""
    found = MARKER.match(core)
    rest = core[found.end() :] if found else core
    tokens = tokens_of(rest)
    if not tokens or tokens[0].low in ASKING or tokens[0].low in AUXILIARIES:
        return ""
    if len(tokens) <= LONGEST_FRAGMENT and not _has_clause(tokens) and (too := TOO.search(rest)):
        return rest[: too.start()]
    if found:
        about = (found.group(1) or "").lower() in ("what", "how")
        return rest if about or not _has_clause(tokens) else ""
    short = len(tokens) <= LONGEST_FRAGMENT and not _has_clause(tokens)
    return rest if short and tokens[0].low in PREPOSITIONS else ""


def _has_clause(tokens: list[Token]) -> bool:
    return any(token.low in AUXILIARIES or token.low in PERSONS or token.low in ASKING for token in tokens)


# Pronouns


def _pronoun(tokens: list[Token], core: str) -> int | None:
    """Return the place of the first pronoun that the question does not explain itself."""
    for place, token in enumerate(tokens):
        if token.low in POINTING:
            if not _is_filler(tokens, place) and not _has_antecedent(tokens, place, core):
                return place
        elif (token.low in SHOWING and _shows(tokens, place)) or _is_there_or_one(tokens, place):
            before = tokens[: place - (token.low in ONE and place > 1)]
            if not any(tells(other) for other in before):
                return place
    return None


def _is_filler(tokens: list[Token], place: int) -> bool:
    """Return whether `it` stands for what follows: `Is it possible to carry over leave?`."""
    if tokens[place].low != "it":
        return False
    after = tokens[place + 1 :]
    if after and after[0].low in DEPARTMENT:
        return True
    openers = [at for at, token in enumerate(after) if token.low in ASKING | {"to", "that", "if", "for", "whether"}]
    return bool(openers) and any(tells(token) for token in after[openers[0] + 1 :])


def _has_antecedent(tokens: list[Token], place: int, core: str) -> bool:
    """Return whether a word before the pronoun, in another clause, can be what it means; or a named one behind it."""
    possessive = tokens[place].low in ("its", "their", "his", "her")
    before = tokens[:place]
    if sum(tells(token) for token in before) >= TWO or any(is_name(token) for token in before[1:]):
        return True
    for at in range(place):
        if not tells(tokens[at]):
            continue
        between = core[tokens[at].end : tokens[place].start]
        parted = re.search(r"[,;:.!?–—]|\s-\s", between) or any(t.low in CLAUSES for t in tokens[at + 1 : place])
        if possessive or parted:
            return True
    behind = tokens[place + 1 :]
    clause = next(
        (at for at, token in enumerate(behind) if token.low in ("if", "when", "once", "after", "before")), None
    )
    if clause is None:
        return False
    return any(first.low in DETERMINERS and tells(second) for first, second in pairwise(behind[clause:]))


def _shows(tokens: list[Token], place: int) -> bool:
    """Return whether `this` or `that` points to what was said: `Does that include tax?`, `Do I pay for this?`."""
    if place + 1 == len(tokens):
        return place > 0
    after = tokens[place + 1]
    if after.low in TIMES:
        return False
    questioned = place == 0 or tokens[place - 1].low in AUXILIARIES
    if stem(after.low) in GENERIC:
        return True
    last = place + 2 == len(tokens)
    return questioned and (last or not tells(after)) and after.low not in PERSONS


def _is_there_or_one(tokens: list[Token], place: int) -> bool:
    """Return whether the word is `there` behind a verb, or `one` in `which one` and `a new one`."""
    last, before = place + 1 == len(tokens), tokens[place - 1].low if place else ""
    if tokens[place].low == "there":
        return last and place > 0 and before not in ("is", "are", "was", "were")
    if tokens[place].low not in ONE:
        return False
    after = tokens[place + 1] if not last else None
    alone = after is None or (after.low != "of" and not tells(after) and stem(after.low) not in UNITS)
    return alone and (before in SHOWING | {"which", "other"} or (place > 1 and tokens[place - 2].low in DETERMINERS))


def _with_subject(core: str, tokens: list[Token], place: int, about: str) -> str:
    """Return the question with the pronoun replaced by what the earlier question is about."""
    token = tokens[place]
    if token.low in ONE | {"there"}:
        return f"{core} {about}?"
    end = token.end
    if token.low in SHOWING and place + 1 < len(tokens) and stem(tokens[place + 1].low) in GENERIC:
        end = tokens[place + 1].end
    return f"{core[: token.start]}{about}{core[end:]}?"
