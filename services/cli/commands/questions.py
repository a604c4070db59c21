"""`zhiwen ask` and `zhiwen search`: questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from zhiwen.cli.output import Output, place_of, snippet
from zhiwen.cli.session import Kb, Session, command
from zhiwen.cli.values import json_object
from zhiwen.client import Answer, AnswerEvent, AskOptions, SourcesEvent, TokenEvent
from zhiwen.common.models import Mode

TopK = Annotated[int, typer.Option("--top-k", min=1, help="How many passages.")]
ModeOption = Annotated[Mode, typer.Option(help="How to search.")]
Filter = Annotated[str | None, typer.Option(help='JSON filter, such as {"source": {"prefix": "手册"}}.')]
MinScore = Annotated[float | None, typer.Option(min=0, max=1, help="Leave out passages below this score.")]


def register(root: typer.Typer) -> None:
    """Register `ask` and `search`."""
    command(root, "ask")(ask)
    command(root, "search")(search)


def ask(
    session: Session,
    question: Annotated[str, typer.Argument(show_default=False)],
    kb: Kb = None,
    top_k: TopK = 5,
    mode: ModeOption = "hybrid",
    filter: Filter = None,
    min_score: MinScore = None,
    model: Annotated[str | None, typer.Option(help="Model that answers.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="With --json: one event per line instead of one object.")
    ] = False,
) -> None:
    """Answer a question from a knowledge base, with numbered sources."""
    options: AskOptions = {"top_k": top_k, "mode": mode, "model": model, "min_score": min_score}
    options["filter"] = json_object("--filter", filter)
    base = session.base(kb)
    output = session.output
    if output.as_json and stream:
        for event in session.client.ask_stream(base, question, **options):
            output.line({"event": _name_of(event), **event.model_dump(mode="json")})
    elif output.as_json:
        output.data(session.client.ask(base, question, **options))
    else:
        print_answer(output, session.client.ask_stream(base, question, **options))


def _name_of(event: AnswerEvent) -> str:
    match event:
        case SourcesEvent():
            return "sources"
        case TokenEvent():
            return "token"
        case Answer():
            return "done"


def print_answer(output: Output, events: Iterator[AnswerEvent]) -> None:
    """Print an answer as it is written, then its numbered sources, or the closest passages."""
    answer: Answer | None = None
    written = False
    try:
        for event in events:
            match event:
                case TokenEvent(text=text):
                    output.piece(text)
                    written = True
                case Answer():
                    answer = event
    finally:
        if written:
            output.show()
    if answer is None:
        return
    output.show()
    if answer.refused:
        output.show("知识库中没有答案 / The knowledge base does not hold the answer", style="bold yellow")
    if answer.sources:
        output.sources(answer.sources)
    if answer.closest:
        output.show("最接近的内容 / The closest passages", style="bold")
        output.sources(answer.closest)
    if unsupported := _unsupported(answer):
        output.show(f"缺少依据 / Not supported by the passage: {unsupported}", style="yellow")
    sure = "" if answer.refused else f" · confidence {answer.confidence:.2f}"
    output.say(f"{answer.model or 'no model was asked'}{sure} · {answer.took_ms.total / 1000:.1f} s", style="dim")


def _unsupported(answer: Answer) -> str:
    """Return the marks that nothing supports, each once."""
    return " ".join(dict.fromkeys(f"[{mark.n}]" for mark in answer.citations if not mark.supported))


def search(
    session: Session,
    query: Annotated[str, typer.Argument(show_default=False)],
    kb: Kb = None,
    top_k: TopK = 5,
    mode: ModeOption = "hybrid",
    filter: Filter = None,
    min_score: MinScore = None,
    neighbours: Annotated[int, typer.Option(min=0, help="Chunks around each hit to add to its text.")] = 0,
) -> None:
    """Find the passages that fit best."""
    found = session.client.search(
        session.base(kb),
        query,
        top_k=top_k,
        mode=mode,
        min_score=min_score,
        filter=json_object("--filter", filter),
        neighbours=neighbours,
    )
    if session.output.as_json:
        session.output.data(found)
        return
    rows = [(n, f"{hit.score:.3f}", place_of(hit), snippet(hit.text)) for n, hit in enumerate(found.hits, 1)]
    session.output.table(("n", "score", "source", "text"), rows, right=("n", "score"))
    answerable = "answerable" if found.answerable else "not answerable"
    session.output.say(
        f"{found.mode} · {answerable}, confidence {found.confidence:.2f} · {found.took_ms.total:.0f} ms", style="dim"
    )
