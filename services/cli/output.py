"""Prints what commands output: tables, progress and sentences for people, JSON for programs.

With `--json`, stdout holds JSON only. Progress and messages always go to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TextIO

from pydantic import BaseModel
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from zhiwen.cli.adding import BAD, STAGES, Stages, counts
from zhiwen.cli.values import Json
from zhiwen.client import AddedDocument, DocumentEvent, HitOut, SourceOut, Watcher

SNIPPET_COLUMNS = 180
PIPE_COLUMNS = 200
_STYLES = {"ready": "green", "failed": "red", "rejected": "red", "cancelled": "yellow", "unchanged": "dim"}


def printable(text: str) -> str:
    """Return text without control characters, so that a document cannot control the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def snippet(text: str, columns: int = SNIPPET_COLUMNS) -> str:
    """Return the beginning of a passage on one line of at most `columns`. A Chinese character takes two columns."""
    line = " ".join(printable(text).split())
    return line if cell_len(line) <= columns else set_cell_size(line, columns - 1).rstrip() + "…"


def file_size(count: int) -> str:
    """Return a number of bytes for people: 512 B, 1.5 KB, 3.2 MB."""
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"


def place_of(hit: HitOut) -> str:
    """Return where a hit is: its file, page and heading."""
    page = f"p. {hit.page}" if hit.page is not None else ""
    return " · ".join(part for part in (hit.source, page, hit.heading) if part)


def _plain(value: object) -> object:
    """Convert a value that JSON does not know: API objects to JSON, times to RFC 3339, and others to text."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _console(file: TextIO) -> Console:
    """Return a console that prints text unchanged: square brackets are not markup."""
    console = Console(file=file, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_COLUMNS
    return console


@dataclass(slots=True)
class Output:
    """The output of a command. `as_json` is the option `--json`."""

    as_json: bool = False
    out: Console = field(default_factory=lambda: _console(sys.stdout))
    err: Console = field(default_factory=lambda: _console(sys.stderr))

    def data(self, value: Any) -> None:
        """Print one JSON value."""
        self._write(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))

    def line(self, value: Any) -> None:
        """Print one line of a JSON stream, at once."""
        self._write(json.dumps(value, ensure_ascii=False, default=_plain))

    def _write(self, text: str) -> None:
        print(text, file=self.out.file, flush=True)

    def say(self, text: str, *, style: str | None = None) -> None:
        """Print a message for people on stderr."""
        self.err.print(Text(printable(text)), style=style, soft_wrap=True)

    def show(self, text: str = "", *, style: str | None = None) -> None:
        """Print a paragraph of the result for people."""
        self.out.print(Text(printable(text)), style=style, soft_wrap=True)

    def piece(self, text: str) -> None:
        """Print a piece of a streamed answer, at once."""
        print(printable(text), end="", file=self.out.file, flush=True)

    def error(self, problem: Json) -> None:
        """Print what went wrong: the sentence for people, the problem for programs."""
        if self.as_json:
            self.data(problem)
            return
        sentence = Text.assemble(("Error: ", "bold red"), printable(str(problem.get("detail", ""))))
        self.err.print(sentence, soft_wrap=True)
        for item in problem.get("errors") or []:
            if str(item.get("message")) in sentence.plain:
                continue
            self.say(f"  {item.get('field')}: {item.get('message')}")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
        """Print a table. The columns named in `right` are aligned right."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for header in headers:
            table.add_column(
                header, justify="right" if header in right else "left", overflow="fold", no_wrap=header == "id"
            )
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self.out.print(table)

    def results(self, results: Sequence[AddedDocument]) -> None:
        """Print the summary of an upload: one row per document, then the number of each outcome."""
        rows = [(r.name, r.outcome, r.status, r.chunks, _why(r)) for r in results]
        self.table(("document", "outcome", "status", "chunks", "note"), rows, right=("chunks",))
        numbers = counts(results)
        self.show(
            " · ".join(f"{number} {outcome}" for outcome, number in numbers.items()),
            style="bold red" if any(numbers.get(outcome) for outcome in BAD) else "bold green",
        )

    def sources(self, sources: Sequence[SourceOut]) -> None:
        """Print numbered sources: place, score and the beginning of the passage."""
        for source in sources:
            self.show(f"[{source.n}] {place_of(source)}  ({source.score:.2f})", style="bold")
            self.show(f"    {snippet(source.text)}", style="dim")

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show a moving line on stderr within the block. Yield a function to call with the name of what is ready."""
        if not self.err.is_terminal:
            yield lambda name: self.say(f"{name} is ready")
            return
        ready: list[str] = []
        with self.err.status(Text(what)) as status:

            def tell(name: str) -> None:
                ready.append(name)
                status.update(Text(f"{what} · ready: {', '.join(ready)}"))

            yield tell

    @contextmanager
    def watcher(self) -> Iterator[Watcher]:
        """Show progress bars on stderr within the block. Without a terminal, print only important sentences."""
        if self.as_json and not self.err.is_terminal:
            yield Silent(self)
            return
        columns = (TextColumn("{task.description:<10}"), BarColumn(40), _Count(), TextColumn("{task.fields[note]}"))
        with Progress(*columns, console=self.err, expand=False) as progress:
            yield Bars(progress, self)


class _Count(ProgressColumn):
    """The column that counts bytes for the upload, and whole documents for the other stages."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._documents = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        return (self._bytes if task.fields.get("in_bytes") else self._documents).render(task)


class Silent(Watcher):
    """Prints only what a person must know."""

    def __init__(self, output: Output, style: str | None = None) -> None:
        self._output = output
        self._style = style

    def waiting(self, reason: str, seconds: float) -> None:
        self._output.say(f"{reason} Trying again in {seconds:.0f} s.", style=self._style)

    def stalled(self, seconds: float) -> None:
        self._output.say(f"No document made progress for {seconds:.0f} s: is the worker running?", style=self._style)


class Bars(Silent):
    """Shows a bar for the upload and one for each stage."""

    def __init__(self, progress: Progress, output: Output) -> None:
        super().__init__(output, "yellow")
        self._progress = progress
        self._passed = Stages()
        self._upload = progress.add_task("upload", total=None, note="", in_bytes=True, visible=False)
        self._stages = {stage: progress.add_task(stage, total=None, note="", visible=False) for stage in STAGES}

    def uploading(self, total_bytes: int) -> None:
        """Show the bar of the upload."""
        self._progress.update(self._upload, total=total_bytes, visible=True)

    def uploaded(self, more_bytes: int) -> None:
        """Move the bar of the upload on."""
        self._progress.advance(self._upload, more_bytes)

    def following(self, documents: int) -> None:
        """Show the bars of the stages."""
        for task in self._stages.values():
            note = "" if documents else "nothing to do"
            self._progress.update(task, total=documents, completed=0, visible=True, note=note)

    def changed(self, event: DocumentEvent) -> None:
        """Move the bars of the stages on."""
        self._passed.note(event)
        for stage, number in self._passed.passed.items():
            self._progress.update(self._stages[stage], completed=number)


def _cell(value: Any) -> Text:
    text = "" if value is None else printable(str(value))
    return Text(text, style=_STYLES.get(text, ""))


def _why(result: AddedDocument) -> str:
    if result.error:
        return result.error.detail
    return f"same bytes as {result.duplicate_of}" if result.duplicate_of else ""
