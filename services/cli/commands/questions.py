"""`zhiwen ask` and `zhiwen search`: questions."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from zhiwen.cli.client import Client
from zhiwen.cli.output import Output, place_of, snippet
from zhiwen.cli.problems import Json
from zhiwen.cli.session import Kb, Session, command
from zhiwen.cli.values import json_object

Mode = Literal["hybrid", "dense", "full_text"]
TopK = Annotated[int, typer.Option("--top-k", min=1, help="How many passages.")]
ModeOption = Annotated[Mode, typer.Option(help="How to search.")]
Filter = Annotated[str | None, typer.Option(help='JSON filter, such as {"source": {"prefix": "手册"}}.')]
MinScore = Annotated[float | None, typer.Option(min=0, max=1, help="Leave out passages below this score.")]


def register(root: typer.Typer) -> None:
    """Put `ask` and `search` on the top level."""
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
        bool, typer.Option("--stream/--no-stream", help="With --json: one event a line instead of one object.")
    ] = False,
) -> None:
    """Answer a question from a knowledge base, with numbered sources."""
    body: Json = {"question": question, "top_k": top_k, "mode": mode, "model": model, "min_score": min_score}
    body["filter"] = json_object("--filter", filter)
    base = session.base(kb)
    output = session.output
    if output.as_json and stream:
        for event, data in session.client.ask_events(base, body):
            output.line({"event": event, **data})
    elif output.as_json:
        output.data(session.client.ask(base, body))
    else:
        print_answer(session.client, output, base, body)


def print_answer(client: Client, output: Output, kb: str, body: Json) -> Json:
    """Print an answer as it comes, then its numbered sources; return the whole answer."""
    answer: Json = {}
    written = False
    try:
        for event, data in client.ask_events(kb, body):
            if event == "token":
                output.piece(data["text"])
                written = True
            elif event == "done":
                answer = data
    finally:
        if written:
            output.show()
    output.show()
    if answer["sources"]:
        output.sources(answer["sources"])
    took = answer["took_ms"]["total"] / 1000
    output.say(f"{answer['model'] or 'no model was asked'} · {took:.1f} s", style="dim")
    return answer


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
    body: Json = {"query": query, "top_k": top_k, "mode": mode, "min_score": min_score}
    body |= {"filter": json_object("--filter", filter), "neighbours": neighbours}
    found = session.client.search(session.base(kb), body)
    if session.output.as_json:
        session.output.data(found)
        return
    rows = [(n, f"{h['score']:.3f}", place_of(h), snippet(h["text"])) for n, h in enumerate(found["hits"], 1)]
    session.output.table(("n", "score", "source", "text"), rows, right=("n", "score"))
    session.output.say(f"{found['mode']} · {found['took_ms']['total']:.0f} ms", style="dim")
