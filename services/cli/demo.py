"""`make demo`: start Zhiwen on a folder, add documents, ask questions, stop.

    python -m zhiwen.cli.demo [PATH…] [--data-dir demo-data] [--port-base 8000] [--examples examples]

Without PATHs it adds the example documents and asks the questions marked `demo` in `questions.jsonl`. With PATHs it
adds the user's own files and, on a terminal, asks the user's own questions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from zhiwen.cli.adding import BAD, collect
from zhiwen.cli.commands.documents import add_files
from zhiwen.cli.commands.operations import DEFAULT_PORT_BASE, ignore_signals, signals_interrupt
from zhiwen.cli.commands.questions import print_answer
from zhiwen.cli.output import Output
from zhiwen.cli.session import errors_end_the_command
from zhiwen.cli.stack import LOOPBACK, OFFSETS, Stack, require_free_ports
from zhiwen.cli.values import Usage
from zhiwen.client import AddedDocument, Client, NotFoundError
from zhiwen.client.files import Source
from zhiwen.common.errors import ConfigurationError
from zhiwen.common.telemetry import configure_logging

EXAMPLES_BASE = "演示"
OWN_BASE = "我的文档"
NO_DOCUMENTS = frozenset({"README.md", "questions.jsonl"})
PORT_STEP = 100
PORT_TRIES = 50
FOREIGN_STATE = frozenset({"ZHIWEN_DATABASE_URL", "ZHIWEN_ORIGINALS_URL", "ZHIWEN_HOST"})


def demo(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Your own files or folders instead of the examples.", show_default=False)
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder that keeps everything.")] = Path("demo-data"),
    port_base: Annotated[int, typer.Option(min=1024, max=60000, help="The next free block is used.")] = (
        DEFAULT_PORT_BASE
    ),
    examples: Annotated[Path, typer.Option(help="Folder with documents and questions.jsonl.")] = Path("examples"),
) -> None:
    """Start Zhiwen, add documents, ask questions with numbered sources, stop."""
    output = Output()
    configure_logging("demo", "WARNING", "console")
    with errors_end_the_command(output), signals_interrupt():
        files = collect(paths) if paths else example_documents(examples)
        if not files:
            raise Usage("There is no document to add.")
        with _running(output, data_dir, port_base) as client:
            kb = OWN_BASE if paths else EXAMPLES_BASE
            _add(client, output, kb, files)
            _ask_all(client, output, kb, own_questions(output) if paths else demo_questions(examples))
    output.show(
        f"\n演示结束,所有服务已停止,数据保存在 {data_dir}。 / Done, everything has stopped.", style="bold green"
    )


@contextmanager
def _running(output: Output, data_dir: Path, port_base: int) -> Iterator[Client]:
    base = free_port_base(port_base)
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_STATE}
    stack = Stack(data_dir, base, webui=False, environment=environment)
    started = time.monotonic()
    try:
        with output.waiting("启动服务 / Starting the services") as ready:
            stack.start(on_ready=ready)
        seconds = time.monotonic() - started
        _headline(output, f"服务已就绪 / All services are ready ({seconds:.1f} s, {LOOPBACK} {base + 1}-{base + 3})")
        at = stack.addresses
        with Client(
            ingest_url=at["ingest"],
            query_url=at["query"],
            gateway_url=at["gateway"],
            api_key=environment.get("ZHIWEN_API_KEY", ""),
        ) as client:
            yield client
    finally:
        ignore_signals()
        stack.stop()


def free_port_base(first: int, *, require: Callable[[Sequence[int]], None] = require_free_ports) -> int:
    """Return the first of `first`, `first` + 100, … whose ports are all free. Raises `ConfigurationError`."""
    for base in range(first, min(first + PORT_STEP * PORT_TRIES, 65_000), PORT_STEP):
        try:
            require([base + offset for offset in OFFSETS.values()])
        except ConfigurationError:
            continue
        return base
    raise ConfigurationError(f"No free block of ports was found from {first} on.")


def example_documents(examples: Path) -> list[Source]:
    """Return the documents of the examples folder, without the files that only describe them."""
    folder = examples / "documents"
    return [file for file in collect([folder if folder.is_dir() else examples]) if file.name not in NO_DOCUMENTS]


def demo_questions(examples: Path) -> Iterator[str]:
    """Yield the questions marked `demo` in `questions.jsonl`."""
    for line in (examples / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        entry: Mapping[str, object] = json.loads(line)
        if entry.get("demo"):
            yield str(entry["question"])


def own_questions(output: Output) -> Iterator[str]:
    """Yield the typed questions until an empty line. Yield nothing without a terminal."""
    if not sys.stdin.isatty():
        return
    output.show("\n请输入问题,直接回车结束 / Type a question, or just Enter to end", style="bold")
    while True:
        try:
            question = input("? ").strip()
        except EOFError:
            return
        if not question:
            return
        yield question


def _add(client: Client, output: Output, kb: str, files: Sequence[Source]) -> None:
    try:
        client.get_knowledge_base(kb)
    except NotFoundError:
        client.create_knowledge_base(kb)
    _headline(output, f"添加 {len(files)} 个文件到知识库 {kb} / Adding {len(files)} files to the knowledge base")
    results = add_files(client, output, kb, files)
    if all(result.outcome == "unchanged" for result in results):
        output.show(
            f"全部 {len(results)} 个文档都没有变化,没有重新计算任何向量。\n"
            f"All {len(results)} documents are unchanged; nothing was embedded again.",
            style="green",
        )
        return
    output.results(results)
    if usable(results) == 0:
        raise Usage("None of the documents could be indexed.")


def usable(results: Sequence[AddedDocument]) -> int:
    """Return how many of the documents are ready to answer."""
    return sum(result.outcome not in BAD for result in results)


def _ask_all(client: Client, output: Output, kb: str, questions: Iterator[str]) -> None:
    for question in questions:
        _headline(output, f"问 / Question: {question}")
        print_answer(output, client.ask_stream(kb, question))


def _headline(output: Output, text: str) -> None:
    output.show(f"\n{text}", style="bold cyan")


def main() -> None:
    """Entry point of `python -m zhiwen.cli.demo`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(demo)
    app()


if __name__ == "__main__":
    main()
