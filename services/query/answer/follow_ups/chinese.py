"""The rules for Chinese follow-up questions. Pure."""

from __future__ import annotations

import re
from itertools import pairwise

from zhiwen.common.lexical.analysis import CHINESE_STOPWORDS, tagged
from zhiwen.query.answer.follow_ups.chinese_parallel import completed, joined, replaced, same_frame
from zhiwen.query.answer.follow_ups.chinese_words import (
    ACTIONS,
    AFTER_THIS,
    ASKING,
    DEFINITION,
    ENDS,
    ENOUGH,
    GENERIC,
    GLUE,
    LACKING,
    LEADS,
    LIGHT,
    LONGEST_BARE,
    MEASURES,
    MORE,
    POLITE,
    PRONOUNS,
    SHOWING,
    THAT,
    TIMES,
    TOO,
    Word,
    words_of,
)

# The earlier question


def asks_who(question: str) -> bool:
    """Return whether the answer to a question names somebody or something: `谁负责备份？`."""
    return re.search(r"谁|誰|哪位|哪个人|哪个部门|哪个部門|找哪", question) is not None


def subject(question: str, *, actions: bool = True) -> str:
    """Return what a question is about, without what it asks about it: `HydroSense 300` of `HydroSense 300 多少钱？`.

    It is the whole question when nothing else is left. Without `actions` it names things only (`年假` of
    `怎么申请年假？`).
    """
    core = _core(question)
    kept = [word for word in words_of(core) if not _is_dropped(word) or (actions and word.text in ACTIONS)]
    while kept and (kept[-1].tag[0] in "upcxfd" or kept[-1].text == "的"):
        kept.pop()
    while kept and kept[0].tag[0] in "upcx":
        kept.pop(0)
    told = "".join(core[word.start : word.end] for word in kept).strip()
    return told if any(_tells(word) or word.text in ACTIONS for word in kept) else core


def _is_dropped(word: Word) -> bool:
    return (
        word.text in LIGHT
        or word.text in GLUE
        or word.text in ("时候", "时")
        or word.tag.startswith("y")
        or word.text in PRONOUNS
        or ASKING.match(word.text) is not None
        or word.text in "，。、？！,?!；;：:"
    )


def _tells(word: Word) -> bool:
    """Return whether a word says which thing is meant."""
    if word.text in LIGHT or word.text in GLUE or word.text in CHINESE_STOPWORDS or ASKING.match(word.text):
        return False
    return word.tag[0] in "nvajilzbshgk" or word.tag == "eng"


# The follow-up


def resolve(question: str, topic: str, about: str) -> str:
    """Return `question` completed by the earlier question `topic`, which is about `about`; unchanged if complete."""
    core = _core(question)
    words = words_of(core)
    if not words:
        return question
    if marked := (length := _marker(words)) > 0:
        core = core[length:].lstrip("，, ")
        words = words_of(core)
    plain = "".join(word.text for word in words)
    if MORE.fullmatch(plain) or not plain:
        return f"{topic.rstrip(ENDS)}？{_core(question)}？"
    if (pronoun := _pronoun(words, topic)) is not None:
        thing = words[pronoun[0]].text in ("它", "它们")
        return _with_subject(core, words, pronoun, subject(about, actions=False) if thing else about) + "？"
    if part := _fragment(core, plain, words, marked):
        return completed(part, topic, about)
    if DEFINITION.match(plain):
        return question
    if not any(_tells(word) for word in words) or _is_headless(words) or LACKING.fullmatch(plain):
        return joined(about, core) + "？"
    if len(core) <= LONGEST_BARE and (place := same_frame(plain, "".join(text for text, _ in tagged(topic)))):
        return replaced(topic, place, core)
    return question


def _marker(words: list[Word]) -> int:
    """Return the length of `那` or `那么` before a follow-up. jieba takes `那高二` for a name."""
    first = words[0].text if words else ""
    if not first.startswith("那") or _is_demonstrative(words, 0) or first in THAT:
        return 0
    return 2 if first.startswith("那么") else 1


def _is_headless(words: list[Word]) -> bool:
    """Return whether the noun behind `的` is missing: `彩色的多少钱一张`."""
    for word, after in pairwise(words):
        if word.text == "的":
            following = [other for other in words if other.start >= after.start]
            asked = ASKING.match(after.text) or after.text in ("能", "可以", "要", "需要", "会", "有", "在")
            return bool(asked) and not any(_tells(other) for other in following)
        if word.tag[0] in "vr":
            return False
    return False


def _core(question: str) -> str:
    """Return a question without politeness before it and marks behind it."""
    return without_politeness(question).rstrip(ENDS)


def without_politeness(question: str) -> str:
    """Return a question without a greeting and `我想问一下` before it."""
    found = POLITE.match("".join(word for word, _ in tagged(question.strip())))
    return question.strip()[found.end() :] if found else question.strip()


def _fragment(core: str, plain: str, words: list[Word], marked: bool) -> str:
    """Return the part that stands against a part of the earlier question (`上海` of `那上海呢`), or ""."""
    asking = any(ASKING.match(word.text) for word in words)
    if plain.endswith("呢"):
        return "" if asking else core[:-1]
    if found := TOO.fullmatch(plain):
        part = found.group("who")
        inner = words_of(part)
        verbs = any(word.tag.startswith("v") and word.text not in LEADS for word in inner)
        asked = any(ASKING.match(word.text) for word in inner)
        if not asked and not (verbs and "也" not in plain):
            return core[: len(part)]
    if marked and not asking and len(core) <= LONGEST_BARE and not any(word.tag.startswith("v") for word in words):
        return core
    return ""


# Pronouns


def _is_demonstrative(words: list[Word], place: int) -> bool:
    """Return whether `那` is a pronoun, and not the word that begins a follow-up: `那是什么意思`."""
    following = words[place + 1].text if place + 1 < len(words) else ""
    return following in ("是", "算", "要", "会", "能") or following in MEASURES


def _pronoun(words: list[Word], topic: str) -> tuple[int, int] | None:
    """Return the first and the next word behind a pronoun that the question does not explain itself."""
    if sum(_tells(word) for word in words) >= ENOUGH:
        return None
    for place, word in enumerate(words):
        if (word.tag[0] in "nj" or word.tag == "eng") and word.text not in LIGHT and word.text not in GENERIC:
            return None
        if word.text not in PRONOUNS:
            continue
        if not SHOWING.match(word.text):
            return place, place + 1
        if behind := _behind_demonstrative(words, place, topic):
            return place, behind
    return None


def _behind_demonstrative(words: list[Word], place: int, topic: str) -> int:
    """Return the word behind `这个` and the noun that it takes with it; 0 if it stands before a noun of its own."""
    first = words[place].text
    end = place + 1
    if end < len(words) and len(first) == 1 and words[end].text in MEASURES:
        first, end = first + words[end].text, end + 1
    if end == len(words):
        return end
    after = words[end]
    if first in ("其", "此", "该") and (place or after.text not in GENERIC | LIGHT):
        return 0
    if TIMES.match(after.text) or after.tag.startswith("t"):
        return 0
    if len(first) == 1 and after.tag[0] not in "dnr" and after.text not in AFTER_THIS:
        return 0
    if not _tells(after):
        return end
    known = after.text in "".join(text for text, _ in tagged(topic))
    return end + known if after.text in GENERIC or known else 0


def _with_subject(core: str, words: list[Word], pronoun: tuple[int, int], about: str) -> str:
    """Return the question with the pronoun replaced by what the earlier question is about."""
    first, behind = pronoun
    before, after = core[: words[first].start], core[words[behind - 1].end :]
    return joined(joined(before, about), after)
