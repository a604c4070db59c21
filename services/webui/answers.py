"""Makes what the page shows of an answer: its text with marks, and its passages as HTML. Pure, without gradio.

Text of documents and models is escaped wherever it becomes HTML, so that it stays text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from zhiwen.client import Citation, Outcome, SourceOut
from zhiwen.common.answering.marks import marks_of

UNSUPPORTED = "⚠"
TITLES: Mapping[Outcome | None, str] = {
    None: "找到的内容 / Passages found",
    "answered": "来源 / Sources",
    "closest": "最接近的内容 / The closest passages",
    "refused": "最接近的内容 / The closest passages",
}
NO_ANSWER = "知识库中没有答案 / The knowledge base does not hold the answer"
NOT_SUPPORTED = "缺少依据 / Not supported by the passage"
SURE = "可信度 / Confidence"
SURE_MEANS = "这些内容能回答问题的概率 / The probability that these passages answer the question"


def marked_answer(answer: str, citations: Sequence[Citation]) -> str:
    """Return the text of an answer, with a sign after each mark that its passage does not support."""
    checked = iter(citations)
    shown, end = "", 0
    for mark in marks_of(answer) if citations else []:
        supported = [citation.supported for _, citation in zip(mark.numbers, checked, strict=False)]
        shown += answer[end : mark.end] + ("" if all(supported) else UNSUPPORTED)
        end = mark.end
    return shown + answer[end:]


def refused_html(answer: str) -> str:
    """Return a refusal, with what it means in both languages."""
    return f'<div class="zw-refused">{escape(NO_ANSWER)}</div><p>{escape(answer)}</p>'


def passages_html(
    passages: Sequence[SourceOut], outcome: Outcome | None, confidence: float, citations: Sequence[Citation]
) -> str:
    """Return numbered passages that open on a click, with the quotes of the marks highlighted.

    `outcome` decides the title; it is None while the answer is being written. `confidence` is shown unless the question
    was refused.
    """
    if not passages:
        return ""
    title = escape(TITLES.get(outcome, TITLES[None]))
    if outcome in {"answered", "closest"}:
        title += f'<span class="zw-confidence" title="{escape(SURE_MEANS)}">{escape(SURE)} {confidence:.2f}</span>'
    items = "".join(_passage_html(passage, citations) for passage in passages)
    return f'<div class="zw-sources"><p class="zw-title">{title}</p>{items}{_unsupported_html(citations)}</div>'


def _passage_html(passage: SourceOut, citations: Sequence[Citation]) -> str:
    quotes = [(mark.start, mark.end) for mark in citations if mark.n == passage.n]
    return (
        f'<details class="zw-source"><summary><span class="zw-score">{passage.score:.2f}</span>'
        f"<b>[{passage.n}]</b> {escape(_place(passage))}</summary>"
        f"<div class='zw-text'>{highlighted(passage.text, quotes)}</div></details>"
    )


def _unsupported_html(citations: Iterable[Citation]) -> str:
    marks = " ".join(dict.fromkeys(f"[{mark.n}]" for mark in citations if not mark.supported))
    return f'<p class="zw-unsupported">{UNSUPPORTED} {escape(NOT_SUPPORTED)}: {marks}</p>' if marks else ""


def highlighted(text: str, quotes: Iterable[tuple[int | None, int | None]]) -> str:
    """Return a text as HTML with its quotes, (start, end) in characters, highlighted. Wrong places are left out."""
    shown, at = "", 0
    places = [(a, b) for a, b in quotes if a is not None and b is not None and 0 <= a < b <= len(text)]
    for start, end in sorted(places):
        if end <= at:
            continue
        begin = max(start, at)
        shown += f"{escape(text[at:begin])}<mark>{escape(text[begin:end])}</mark>"
        at = end
    return shown + escape(text[at:])


def _place(source: SourceOut) -> str:
    page = f"第 {source.page} 页 / p. {source.page}" if source.page is not None else ""
    return " · ".join(part for part in (source.source, page, source.heading) if part)
