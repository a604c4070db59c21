"""An answerer without a language model: it quotes the sentences that fit the question best.

It reads the prompt of a question with its numbered passages, in the templates of `zhiwen.common.prompts` or similar
ones. It quotes one to three sentences (`zhiwen.common.answering.quoting`) with the numbers of their passages, like
`年假为 10 天。[2]`. It refuses only when no sentence shares anything with the question. Same input, same answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zhiwen.common.answering.knowledge import WordKnowledge, built_in_knowledge
from zhiwen.common.answering.pieces import Passage
from zhiwen.common.answering.quoting import Quote, choose_quotes
from zhiwen.common.prompts import refusal_for

_PASSAGE = re.compile(r"^[ \t]*\[(\d{1,3})\][ \t]*", re.MULTILINE)
_CONTEXT = re.compile(r"(?:已知信息|Known information)[ \t]*[:：][ \t]*\n?")
_INSTRUCTION = re.compile(
    r"\n[^\S\n]*(?:根据上述已知信息|(?:Using|Based on|According to|From|With) (?:only )?(?:the|this)\b)"
)
_QUESTION = re.compile(r"(?:^|\n)[ \t]*(?:问题是|问题|Question)[ \t]*[:：][ \t]*")
_WORD = re.compile(r"[a-z0-9]+(?:[._'-][a-z0-9]+)*|[㐀-䶿一-鿿豈-﫿]+")
_CJK = re.compile(r"[㐀-䶿一-鿿豈-﫿]")


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """The passages of a prompt, as (number, text), and its question."""

    passages: tuple[tuple[int, str], ...]
    question: str


@dataclass(frozen=True, slots=True)
class QuotedAnswer:
    """The quoted sentences in reading order. Without any, the answer is the refusal."""

    pieces: tuple[str, ...]
    refused: bool

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


def answer_prompt(prompt: str, words: WordKnowledge | None = None) -> QuotedAnswer:
    """Answer a prompt from its own passages. `words` is what quoting knows about words; None: the built-in tables."""
    found = read_prompt(prompt)
    passages = [Passage(number, "", text) for number, text in found.passages]
    quotes = choose_quotes(found.question, passages, words or built_in_knowledge()).quotes if passages else ()
    if not quotes:
        return QuotedAnswer((refusal_for(found.question),), True)
    pairs = zip(quotes, [*quotes[1:], None], strict=True)
    return QuotedAnswer(tuple(_piece(quote, after) for quote, after in pairs), False)


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


def _piece(quote: Quote, after: Quote | None) -> str:
    """Return a quote with the number of its passage, and with what parts it from the quote `after` it.

    Rows of tables stand on lines of their own. Nothing stands between Chinese sentences, and a space between others.
    """
    apart = ""
    if after is not None:
        chinese = _CJK.search(quote.text) and _CJK.search(after.text)
        apart = "\n" if quote.is_row or after.is_row else "" if chinese else " "
    return f"{quote.text.rstrip(';；,，:：')}[{quote.number}]{apart}"


def count_tokens(text: str) -> int:
    """Count Chinese characters and other words, which this answerer reports as tokens."""
    return sum(len(run) if _CJK.match(run) else 1 for run in _WORD.findall(text.lower()))
