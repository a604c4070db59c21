"""The events of an answer as they go over the wire."""

from __future__ import annotations

import pytest

from zhiwen.common.api.questions import Answer, Citation, TookAsk, Usage, source_out
from zhiwen.common.errors import Unavailable
from zhiwen.common.models import Hit
from zhiwen.query.answer.events import Done, Event, Failed, Sources, Token
from zhiwen.query.api.ask import render

SOURCE = source_out(1, Hit("d:1:0", "d", 1, 0, "手册.txt", None, "", "十天", 0.5, {}))
SHOWN = (
    '{"chunk_id":"d:1:0","document_id":"d","source":"手册.txt","page":null,"heading":"","text":"十天","score":0.5,'
    '"full_text_score":null,"dense_score":null,"rerank_score":null,"metadata":{},"n":1}'
)
ANSWER = Answer(
    answer="十天。[1]",
    refused=False,
    outcome="answered",
    confidence=0.9,
    sources=[SOURCE],
    citations=[
        Citation(n=1, document_id="d", page=None, heading="", quote="十天", start=0, end=2, supported=True),
        Citation(n=2, document_id=None, page=None, heading="", quote=None, start=None, end=None, supported=False),
    ],
    reranked=False,
    condensed_question=None,
    model="m",
    usage=Usage(),
    took_ms=TookAsk(condense=0, embed=1, search=2, generate=3, total=6),
)


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (Sources([SOURCE]), "sources", f'{{"sources":[{SHOWN}]}}'),
        (Sources([]), "sources", '{"sources":[]}'),
        (Token("有\n十"), "token", '{"text":"有\\n十"}'),
        (
            Done(ANSWER),
            "done",
            f'{{"answer":"十天。[1]","refused":false,"outcome":"answered","confidence":0.9,"sources":[{SHOWN}],'
            '"closest":[],"citations":[{"n":1,"document_id":"d","page":null,"heading":"","quote":"十天","start":0,"end":2,'
            '"supported":true},{"n":2,"document_id":null,"page":null,"heading":"","quote":null,"start":null,"end":null,'
            '"supported":false}],"reranked":false,"condensed_question":null,"model":"m","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0},'
            '"took_ms":{"embed":1.0,"search":2.0,"total":6.0,"condense":0.0,"generate":3.0}}',
        ),
        (
            Failed(Unavailable("gateway-unavailable", "The LLM gateway does not answer.")),
            "error",
            '{"code":"gateway-unavailable","detail":"The LLM gateway does not answer.","status":503}',
        ),
    ],
    ids=["sources", "no sources", "token", "done", "error"],
)
def test_events_on_the_wire(event: Event, name: str, data: str) -> None:
    assert render(event).decode() == f"event: {name}\ndata: {data}\n\n"
