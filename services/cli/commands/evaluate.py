"""`zhiwen eval`: measures retrieval and refusal with your own questions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from zhiwen.cli.evaluation.metrics import Report
from zhiwen.cli.evaluation.passages import Passages, read_lines
from zhiwen.cli.evaluation.report import METRICS, render
from zhiwen.cli.evaluation.run import MODES, Evaluation
from zhiwen.cli.output import Output
from zhiwen.cli.session import Session, command
from zhiwen.client import ConflictError


def register(root: typer.Typer) -> None:
    """Register `eval`."""
    command(root, "eval")(evaluate)


def evaluate(
    session: Session,
    passages: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="JSON Lines: {id, text}.")],
    questions: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="JSON Lines: {question, passage_id: [ids], answerable}.")
    ],
    distractors: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="More passages, which answer nothing.")
    ] = None,
    kb: Annotated[str, typer.Option(help="Knowledge base to make for this.")] = "eval",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the knowledge base, and use it if it is there.")] = False,
    hold_out: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the passages to leave out.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Chooses what is left out.")] = 1,
    model: Annotated[str | None, typer.Option(help="Embedding model.")] = None,
    clients: Annotated[int, typer.Option(min=1, max=64, help="Questions asked at the same time.")] = 1,
    fusion: Annotated[str | None, typer.Option(help="Order of hybrid hits: relevance, min_max, rrf.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
) -> None:
    """Load passages, ask questions, and report recall, refusal and latency for each mode."""
    known = Passages.of(read_lines(passages))
    others = known.others(row for path in distractors or [] for row in read_lines(path))
    kept = known.without(hold_out, seed)
    asked = kept.questions(read_lines(questions))
    output = session.output
    evaluation = Evaluation(session.client, kb, clients, fusion, lambda what, n, of: output.say(f"{what} {n}/{of}"))
    with _base(session, kb, model, keep=keep) as is_new:
        (evaluation.load if is_new else evaluation.check)(kept.rows, others)
        figures = evaluation.run(len(kept.rows) + len(others), asked)
    if report is not None:
        report.write_text(render(figures, f"Zhiwen eval: {questions.name}"), encoding="utf-8")
    if output.as_json:
        output.data(figures.to_json())
    else:
        show(output, figures)


@contextlib.contextmanager
def _base(session: Session, kb: str, model: str | None, *, keep: bool) -> Iterator[bool]:
    """Create the knowledge base for the length of the block. Yield whether it is new."""
    is_new = True
    try:
        session.client.create_knowledge_base(kb, embedding_model=model or None)
    except ConflictError as exc:
        if not keep or exc.code != "knowledge-base-exists":
            raise
        is_new = False
    try:
        yield is_new
    finally:
        if not keep:
            session.client.delete_knowledge_base(kb)


def show(output: Output, figures: Report) -> None:
    """Print the figures as tables."""
    rows = [
        [
            mode,
            *(f"{getattr(found, key):.3f}" for key in METRICS.values()),
            f"{found.p50_ms:.1f}",
            f"{found.p99_ms:.1f}",
        ]
        for mode in MODES
        if (found := figures.modes.get(mode))
    ]
    output.table(["mode", *METRICS, "p50 ms", "p99 ms"], rows, right=[*METRICS, "p50 ms", "p99 ms"])
    refusal = figures.refusal
    shown = {
        "rightly refused": refusal.rightly_refused,
        "wrongly refused": refusal.wrongly_refused,
        "AUROC": refusal.auroc,
    }
    output.table(
        ["refusal", "value"], [[name, "–" if value is None else f"{value:.3f}"] for name, value in shown.items()]
    )
