"""Follow-up questions: what a question leaves out is taken over from the questions before it, by rules. Pure.

A question changes only when it cannot be understood alone: it begins as a follow-up (`那…呢`, `What about …`), it holds
a pronoun that nothing in it explains, or it has no content words of its own. Every other question stays to the letter,
because a wrong word in a search does more harm than a missing one. The result is text for a search, and not always a
sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from zhiwen.common.api.questions import Message
from zhiwen.common.lexical.analysis import analyze_question, is_chinese
from zhiwen.query.answer.follow_ups import chinese, english

LAST_TURNS = 12
"""How many of the last turns of the conversation are looked at."""
LONGEST = 200
"""Longest question, in characters, that is looked at. A longer one stands alone."""

_SENTENCES = re.compile(r"[^。！？!?\n]+[。！？!?]*")
_CHAT = re.compile(
    r"(?:(?:非常|太|多)?(?:谢谢|感谢|謝謝|感謝|多谢|谢了|好的?|嗯+|哦|噢|行|对|是的|不是|没有|明白|知道"
    r"|了解|懂|收到|你好|您好|在吗|再见|辛苦了?|太好了|不错|可以"
    r"|thanks?(?: you)?|thx|a lot|so much|very much|ok|okay|great|hi|hello|hey|bye|cool|perfect|got it|i see|yes|no"
    r"|nice|good|sure|alright|understood|fine|very|helpful|that helps?)(?:了|啦|您|你)?[\s，,。.!！~～]*)++",
    re.IGNORECASE,
)
_MARKS = re.compile(r"\[\d+\]")
_ENDS = "？?！!。. "
_LONGEST_TURN = 1000
_LONGEST_ANSWER = 600
_LONGEST_SENTENCE = 80


def resolved(question: str, history: Sequence[Message]) -> str:
    """Return `question` with what it leaves out, taken from the user's turns of `history` and the last answer.

    A question that can be understood alone is returned unchanged.
    """
    topics, answer = _Topics("", ""), ""
    for turn in history[-LAST_TURNS:]:
        if turn.role == "user" and (asked := _asked(turn.content[-_LONGEST_TURN:])):
            topics, answer = topics.after(asked, answer), ""
        elif turn.role == "assistant":
            answer = turn.content[:_LONGEST_ANSWER]
    return topics.after(question, answer).last


class _Topics(NamedTuple):
    """The last question, complete, and the one that it only added words to ("" for none).

    In a row of additions (`儿童呢？`, `老人呢？`) each stands against the first question, not against the one before.
    """

    last: str
    base: str

    def after(self, question: str, answer: str) -> _Topics:
        """Return the topics after one more question. `answer` is the answer to the last one."""
        found = _following(question, self.last, answer)
        if not self.last or self.last.rstrip(_ENDS) not in found:
            return _Topics(found, "")
        if self.base:
            return _Topics(_following(question, self.base, answer), self.base)
        return _Topics(found, self.last)


def _following(question: str, topic: str, answer: str) -> str:
    """Return `question` resolved by `topic`, the complete question before it ("" for none), and that one's answer."""
    if not topic or len(question) > LONGEST or _CHAT.fullmatch(question.strip()):
        return question
    subject = chinese.subject(topic) if _in_chinese(topic) else english.subject(topic)
    if english.asks_who(topic) or chinese.asks_who(topic):
        subject = f"{subject} {_telling_sentence(answer, topic)}".strip()
    told_by = (
        question if _in_chinese(question) or re.search(r"[a-z]{2}", question) else topic
    )  # `E05？` has no language
    resolve = chinese.resolve if _in_chinese(told_by) else english.resolve
    return resolve(question, topic, subject)


def _in_chinese(text: str) -> bool:
    """Return whether the Chinese rules are for this text. `HydroSense 310 Pro Max 呢` has one Chinese character."""
    return is_chinese(text) or re.search(r"[呢吗嗎么]\W*$", text) is not None


def _asked(turn: str) -> str:
    """Return the question of a user's turn: its last sentence that says something. "" when it is only small talk."""
    sentences = [found.strip() for found in _SENTENCES.findall(turn)]
    told = [sentence for sentence in sentences if sentence and not _CHAT.fullmatch(sentence)]
    questions = [sentence for sentence in told if sentence.endswith(("?", "？"))]
    asked = (questions or told or [""])[-1][-LONGEST:]
    return chinese.without_politeness(asked) if _in_chinese(asked) else english.without_politeness(asked)


def _telling_sentence(answer: str, topic: str) -> str:
    """Return the sentence of the answer that shares most words with its question; "" when none shares any."""
    asked = set(analyze_question(topic).terms)
    best, most = "", 0
    for found in _SENTENCES.findall(_MARKS.sub("", answer)):
        shared = len(asked.intersection(analyze_question(found).terms))
        if shared > most:
            best, most = found.strip(" \n。.")[:_LONGEST_SENTENCE], shared
    return best
