"""`zhiwen eval`: measures search and answers with your own questions, and tunes a knowledge base to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import typer

from zhiwen.cli.adding import collect
from zhiwen.cli.evaluation.figures import Report
from zhiwen.cli.evaluation.passages import Passages, Question, Row, questions_about, read_lines
from zhiwen.cli.evaluation.report import METRICS, RELIABILITY, answer_rows, reliability_rows, render, shown
from zhiwen.cli.evaluation.run import MODES, Evaluation, passage_files
from zhiwen.cli.evaluation.tuning import Tunable, Tuner, Tuning
from zhiwen.cli.output import Output
from zhiwen.cli.session import Session, command
from zhiwen.cli.values import Usage
from zhiwen.client import BytesFile, ConflictError, LocalFile

OWN_BASE = "eval"


def register(root: typer.Typer) -> None:
    """Register `eval`."""
    command(root, "eval")(evaluate)


@dataclass(frozen=True, slots=True)
class Material:
    """What is measured: the questions, and the files to upload first. Without files, an existing knowledge base."""

    questions: Sequence[Question]
    files: Sequence[BytesFile | LocalFile] | None


def evaluate(
    session: Session,
    questions: Annotated[
        Path,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="JSON Lines: {question, answerable, answers: [texts]} and passage_id: [ids], or document: name.",
        ),
    ],
    passages: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Passages to load. JSON Lines: {id, text}.")
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder of documents to load, instead of passages."),
    ] = None,
    distractors: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="More passages, which answer nothing.")
    ] = None,
    kb: Annotated[
        str | None,
        typer.Option(
            help="Knowledge base to make for this (default: eval). Without passages and documents: the one to measure.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the knowledge base, and use it if it is there.")] = False,
    hold_out: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the passages to leave out.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Chooses what is left out.")] = 1,
    model: Annotated[str | None, typer.Option(help="Embedding model.")] = None,
    clients: Annotated[int, typer.Option(min=1, max=64, help="Questions asked at the same time.")] = 1,
    fusion: Annotated[str | None, typer.Option(help="Order of hybrid hits: relevance, min_max, rrf.")] = None,
    modes: Annotated[str, typer.Option(help="Search modes, with commas.")] = ",".join(MODES),
    answers: Annotated[bool, typer.Option("--answers/--no-answers", help="Ask for answers, too.")] = True,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Fit dense_weight and min_confidence to the questions, and store what is better."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --tune: store nothing.")] = False,
) -> None:
    """Ask questions, and report recall, answers, refusal, confidence and latency.

    With passages or documents, they are loaded into a knowledge base that is made for this. Without, an existing
    knowledge base is asked, and each question names the document that answers it.
    """
    if tune and report is not None:
        raise Usage("--tune writes no report: leave out --report.")
    if dry_run and not tune:
        raise Usage("--dry-run goes with --tune.")
    asked_modes = _modes(modes)
    base = (kb or OWN_BASE) if passages or documents else session.base(kb)
    material = _material(session, base, read_lines(questions), passages, documents, distractors or [], hold_out, seed)
    output = session.output
    evaluation = Evaluation(session.client, base, clients, fusion, lambda what, n, of: output.say(f"{what} {n}/{of}"))
    with _loaded(session, evaluation, material, model, keep=keep):
        if tune:
            stays = keep or material.files is None
            _tune(output, evaluation, material.questions, is_stored=stays and not dry_run)
            return
        figures = evaluation.run(_count(session, base, material), material.questions, asked_modes, answers=answers)
    if report is not None:
        report.write_text(render(figures, f"Zhiwen eval: {questions.name}"), encoding="utf-8")
    if output.as_json:
        output.data(figures.to_json())
    else:
        show(output, figures)


def _modes(text: str) -> list[str]:
    modes = [mode.strip() for mode in text.split(",")]
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise Usage(f"There is no search mode {unknown[0]}; there are {', '.join(MODES)}.")
    return modes


def _material(
    session: Session,
    base: str,
    rows: Sequence[Row],
    passages: Path | None,
    documents: Path | None,
    distractors: Sequence[Path],
    hold_out: float,
    seed: int,
) -> Material:
    """Return what to measure.

    `session` knows the documents of the knowledge base `base`, `rows` are the questions, `passages` and `distractors`
    files of passages, and `documents` a folder. A share `hold_out`, 0..1, of the passages is left out, chosen by
    `seed`. Raises `Usage` for options that do not go together.
    """
    if passages is None:
        if distractors or hold_out:
            raise Usage("--distractors and --hold-out go with --passages.")
        files = collect([documents]) if documents else None
        held = session.client.list_documents(base) if files is None else files
        return Material(questions_about({each.name for each in held}, rows), files)
    if documents is not None:
        raise Usage("Load passages or documents, not both.")
    known = Passages.of(read_lines(passages))
    others = known.others(row for path in distractors for row in read_lines(path))
    kept = known.without(hold_out, seed)
    return Material(kept.questions(rows), passage_files(kept.rows, others))


def _count(session: Session, base: str, material: Material) -> int:
    if material.files is not None:
        return len(material.files)
    return sum(session.client.get_knowledge_base(base).documents.values())


@contextlib.contextmanager
def _loaded(
    session: Session, evaluation: Evaluation, material: Material, model: str | None, *, keep: bool
) -> Iterator[None]:
    """Have the files in a knowledge base for the length of the block.

    `session` creates and deletes it, `evaluation` loads the files of `material`, and `model` embeds them. With `keep`
    it stays, and one that is there is used. Without files, nothing is created or deleted.
    """
    if material.files is None:
        yield
        return
    load: Callable[[Sequence[BytesFile | LocalFile]], None] = evaluation.load
    try:
        session.client.create_knowledge_base(evaluation.base, embedding_model=model or None)
    except ConflictError as exc:
        if not keep or exc.code != "knowledge-base-exists":
            raise
        load = evaluation.check
    try:
        load(material.files)
        yield
    finally:
        if not keep:
            session.client.delete_knowledge_base(evaluation.base)


def _tune(output: Output, evaluation: Evaluation, questions: Sequence[Question], *, is_stored: bool) -> None:
    """Tune the knowledge base of `evaluation` to `questions`, and store what is better if it `is_stored`."""
    client = cast(Tunable, evaluation.client)  # the client's options are typed more loosely
    tuner = Tuner(client, evaluation.base, evaluation.clients, evaluation.fusion, evaluation.tell)
    tuning = tuner.tune(questions)
    if is_stored:
        tuner.store(tuning)
    show_tuning(output, evaluation.base, tuning, is_stored=is_stored)


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
    values = {
        "rightly": refusal.rightly_refused,
        "wrongly": refusal.wrongly_refused,
        "AUROC": refusal.auroc,
    }
    output.table(
        ["search: not answerable", "value"], [[name, shown(value)] for name, value in values.items()], right=["value"]
    )
    if figures.answers is not None:
        output.table(["answers", "value"], answer_rows(figures.answers), right=["value"])
        output.table(RELIABILITY, reliability_rows(figures.answers), right=RELIABILITY[1:])


def show_tuning(output: Output, base: str, tuning: Tuning, *, is_stored: bool) -> None:
    """Print what tuning found in the knowledge base `base`, and what became of it."""
    stored = tuning.better if is_stored else {}
    if output.as_json:
        output.data(
            {
                "knowledge_base": base,
                "choosing": tuning.choosing,
                "testing": tuning.testing,
                "dense_weight": tuning.dense_weight.to_json(),
                "min_confidence": tuning.min_confidence.to_json(),
                "stored": stored,
            }
        )
        return
    changes = [
        ("dense_weight", "MRR@10", tuning.dense_weight),
        ("min_confidence", "right decisions", tuning.min_confidence),
    ]
    rows = [
        [name, f"{change.value:g}", figure, shown(change.before), shown(change.after)]
        for name, figure, change in changes
    ]
    output.table(
        ["setting", "chosen", "on the other half", "before", "after"], rows, right=["chosen", "before", "after"]
    )
    output.show(f"{tuning.choosing} questions chose, {tuning.testing} others tested.")
    if not tuning.better:
        output.show("Nothing is better than what the knowledge base has, so nothing is stored.")
        return
    found = " and ".join(f"{name} {value:g}" for name, value in tuning.better.items())
    output.show(f"Stored with {base}: {found}." if stored else f"Better, but not stored: {found}.")
