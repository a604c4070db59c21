"""An answerer without a language model: it quotes the sentences that fit the question best.

It reads the prompt of a question with its numbered passages, in the templates of `zhiwen.common.prompts` or similar
ones. It scores each sentence by the idf-weighted overlap of its terms with the question's terms. It quotes one to three
sentences with the numbers of their passages, like `年假为 10 天。[2]`. Pure functions: same input, same answer.

The weight of a term is the idf of BM25 (Robertson and Zaragoza 2009, section 3.3), counted over the given sentences.
Terms are character bigrams for Chinese and lightly stemmed words for everything else.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zhiwen.common.lexical.sentences import split_sentences
from zhiwen.common.prompts import REFUSAL

MAX_SENTENCES = 3
MIN_COVERAGE = 0.34  # share of the question's idf weight that the best sentence must hold
MIN_RELATIVE = 0.75  # a further sentence must have this share of the best score

_PASSAGE = re.compile(r"^[ \t]*\[(\d{1,3})\][ \t]*", re.MULTILINE)
_CONTEXT = re.compile(r"(?:已知信息|Known information)[ \t]*[:：][ \t]*\n?")
_INSTRUCTION = re.compile(
    r"\n\s*(?:根据上述已知信息|(?:Using|Based on|According to|From|With) (?:only )?(?:the|this)\b)"
)
_QUESTION = re.compile(r"(?:^|\n)[ \t]*(?:问题是|问题|Question)[ \t]*[:：][ \t]*")
_WORD = re.compile(r"[a-z0-9]+(?:[._'-][a-z0-9]+)*|[㐀-䶿一-鿿豈-﫿]+")
_CJK = re.compile(r"[㐀-䶿一-鿿豈-﫿]")
_ENGLISH_STOP = frozenset(
    word
    for line in (
        "a an the of in on at to for from by with and or is are was were be been do does did has have had can could",
        "will would should may might what which who whom whose when where why how much many long often i you he she",
        "it we they my your his her its our their this that these those there as if not no please tell me about into",
        "than then according",
    )
    for word in line.split()
)
_CHINESE_STOP = re.compile(
    r"请问|请告诉我|告诉我|什么时候|什么|怎么样|怎么|怎样|如何|为什么|为何|哪些|哪个|哪里|哪年|哪|多少|多久|多长|多大|几|是否|"
    r"能不能|可不可以|有没有|是不是|可以|能够|谁|吗|呢|吧|啊|的|了|是|在|有|和|与|或|及|个|这|那|我|你|您|他|她|它|们|"
    r"应该|需要|一下|关于|根据|到|被|把|将|会|能|要|对|从|为|于|中|里|请"
)
_ASKS_NUMBER = re.compile(
    r"多少|几|多久|多长|多大|哪年|何时|什么时候|how (?:many|much|long|often|old)|when\b|what (?:year|time|date)"
)
_NUMBER = re.compile(r"\d|[一二三四五六七八九十百千万两]+\s*(?:年|月|日|天|个|元|小时|分钟|次|周|人|岁|层|倍|%)")


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """The passages of a prompt, as (number, text), and its question."""

    passages: tuple[tuple[int, str], ...]
    question: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, the number of its passage, and its place among all sentences."""

    text: str
    number: int
    place: int


@dataclass(frozen=True, slots=True)
class QuotedAnswer:
    """The quoted sentences in reading order. Without any, the answer is the refusal."""

    pieces: tuple[str, ...]
    refused: bool

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


def answer_prompt(prompt: str) -> QuotedAnswer:
    """Answer a prompt from its own passages."""
    found = read_prompt(prompt)
    chosen = choose_sentences(found)
    if not chosen:
        return QuotedAnswer((REFUSAL,), True)
    return QuotedAnswer(tuple(_quote(sentence, last=sentence is chosen[-1]) for sentence in chosen), False)


def read_prompt(prompt: str) -> ParsedPrompt:
    """Find the passages and the question of a prompt.

    The context begins at the first marker, and the question follows the last one. So a passage may hold text like the
    template's without harm.
    """
    prompt = prompt.replace("\r\n", "\n")
    begin = _CONTEXT.search(prompt)
    questions = list(_QUESTION.finditer(prompt))
    if questions:
        question, rest = prompt[questions[-1].end() :].strip(), prompt[: questions[-1].start()]
    else:
        rest, _, question = prompt.rstrip().rpartition("\n")
    context = rest[begin.end() :] if begin and begin.end() <= len(rest) else rest
    instructions = list(_INSTRUCTION.finditer(context))
    if instructions:
        context = context[: instructions[-1].start()]
    return ParsedPrompt(_split_passages(context), question.strip())


def _split_passages(context: str) -> tuple[tuple[int, str], ...]:
    """Cut the context at `[1]`, `[2]` and so on. A number out of sequence belongs to the text of a passage."""
    starts: list[re.Match[str]] = []
    for match in _PASSAGE.finditer(context):
        expected = int(starts[-1][1]) + 1 if starts else int(match[1])
        if int(match[1]) == expected:
            starts.append(match)
    ends = [*(match.start() for match in starts[1:]), len(context)][: len(starts)]
    texts = ((int(match[1]), context[match.end() : end].strip()) for match, end in zip(starts, ends, strict=True))
    return tuple((number, text) for number, text in texts if text)


def terms_of(text: str) -> list[str]:
    """Return the terms of a text: bigrams of Chinese runs (or the one character of a run), and stemmed words."""
    terms: list[str] = []
    for run in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if _CJK.match(run):
            terms += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        elif run not in _ENGLISH_STOP:
            terms.append(_stem(run))
    return terms


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word


def _question_terms(question: str) -> set[str]:
    folded = unicodedata.normalize("NFKC", question).lower()
    runs = _CHINESE_STOP.sub(" ", folded)
    return set(terms_of(runs)) or set(terms_of(folded))


def choose_sentences(prompt: ParsedPrompt) -> list[Sentence]:
    """Return one to three sentences in reading order, or none when no sentence fits the question."""
    wanted = _question_terms(prompt.question)
    sentences = _sentences_of(prompt.passages)
    if not wanted or not sentences:
        return []
    bags = [set(terms_of(sentence.text)) | set(_CJK.findall(sentence.text)) for sentence in sentences]
    weight = _weights(wanted, bags)
    total = sum(weight.values())
    asks_number = bool(_ASKS_NUMBER.search(prompt.question.lower()))
    scores = [
        sum(weight[term] for term in wanted & bag) / total + _bonus(sentence, asks_number=asks_number)
        for sentence, bag in zip(sentences, bags, strict=True)
    ]
    order = sorted(range(len(sentences)), key=lambda i: (-scores[i], i))
    if sum(weight[term] for term in wanted & bags[order[0]]) / total < MIN_COVERAGE:
        return []
    best = [i for i in order[:MAX_SENTENCES] if scores[i] >= MIN_RELATIVE * scores[order[0]]]
    return [sentences[i] for i in sorted(_without_repeats(best, bags))]


def _sentences_of(passages: Sequence[tuple[int, str]]) -> list[Sentence]:
    found: list[Sentence] = []
    for number, text in passages:
        for sentence in filter(str.strip, split_sentences(text, clauses=True)):
            found.append(Sentence(sentence.strip(), number, len(found)))
    return found


def _weights(wanted: Iterable[str], bags: Sequence[set[str]]) -> dict[str, float]:
    """Return BM25's idf of each term. A single Chinese character gets half, because it says less than a bigram."""
    counts = Counter(term for bag in bags for term in bag)
    return {
        term: math.log(1 + (len(bags) - counts[term] + 0.5) / (counts[term] + 0.5))
        * (0.5 if _CJK.fullmatch(term) else 1)
        for term in wanted
    }


def _bonus(sentence: Sentence, *, asks_number: bool) -> float:
    """Return what is added to a sentence's score.

    Earlier passages gain a little, because the search ranked them higher. Sentences with a number gain when the
    question asks for one. Questions and headings lose, because they name a subject but say nothing about it.
    """
    bonus = 0.05 / (1 + sentence.number)
    if asks_number and _NUMBER.search(sentence.text):
        bonus += 0.1
    if sentence.text.endswith(("?", "？")) or sentence.text.startswith("#"):
        bonus -= 0.15
    elif not re.search(r"[。!！.;；]", sentence.text) and len(sentence.text) < 16:
        bonus -= 0.1
    return bonus


def _without_repeats(best: Sequence[int], bags: Sequence[set[str]]) -> list[int]:
    kept: list[int] = []
    for i in best:
        if all(len(bags[i] & bags[k]) < 0.8 * max(1, min(len(bags[i]), len(bags[k]))) for k in kept):
            kept.append(i)
    return kept


def _quote(sentence: Sentence, *, last: bool) -> str:
    space = "" if last or _CJK.search(sentence.text) else " "
    return f"{sentence.text.rstrip(';；,，:：')}[{sentence.number}]{space}"


def count_tokens(text: str) -> int:
    """Count Chinese characters and other words, which this answerer reports as tokens."""
    return sum(len(run) if _CJK.match(run) else 1 for run in _WORD.findall(text.lower()))
