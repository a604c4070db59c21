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
    """Print an answer as it is written, then its numbered sources."""
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
    if answer.sources:
        output.sources(answer.sources)
    output.say(f"{answer.model or 'no model was asked'} · {answer.took_ms.total / 1000:.1f} s", style="dim")


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
    session.output.say(f"{found.mode} · {found.took_ms.total:.0f} ms", style="dim")
