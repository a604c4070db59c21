"""`zhiwen kb …`: knowledge bases."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.progress import Progress

from zhiwen.cli.problems import EXIT_FAILED
from zhiwen.cli.session import Session, command
from zhiwen.cli.values import Json, Usage, integers, optional_text_file
from zhiwen.client import KnowledgeBaseOptions, KnowledgeBaseOut

app = typer.Typer(help="Knowledge bases.", no_args_is_help=True)

FOLLOW_SECONDS = 0.3
Name = Annotated[str, typer.Argument(help="Name of the knowledge base.", show_default=False)]
Weight = Annotated[
    float | None, typer.Option(help="Weight of the embedding model beside the words, 0 to 10.", show_default=False)
]
Confidence = Annotated[
    float | None, typer.Option(help="How sure the built-in answerer must be, 0 to 1.", show_default=False)
]


@command(app, "create")
def create(
    session: Session,
    name: Name,
    description: Annotated[str, typer.Option(help="What it holds.")] = "",
    embedding_model: Annotated[str | None, typer.Option(help="Name or folder of a model.")] = None,
    index_type: Annotated[str | None, typer.Option(help="Milvus's index type, such as HNSW.")] = None,
    metric: Annotated[str | None, typer.Option(help="COSINE, IP or L2.")] = None,
    index_params: Annotated[str | None, typer.Option(help='JSON, such as {"M": 16}.')] = None,
    search_params: Annotated[str | None, typer.Option(help='JSON, such as {"ef": 64}.')] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Tokens in a chunk.")] = None,
    chunk_overlap: Annotated[
        int, typer.Option(help="Tokens that neighbouring chunks share; used with --chunk-size.")
    ] = 40,
    prompt_template: Annotated[
        typer.FileText | None, typer.Option(help="File with {context} and {question}; - is stdin.")
    ] = None,
    dense_weight: Weight = None,
    min_confidence: Confidence = None,
) -> None:
    """Create a knowledge base."""
    index: Json | None = None
    if index_type or metric or index_params or search_params:
        index = {
            "type": index_type,
            "metric": metric,
            "params": integers("--index-params", index_params),
            "search": integers("--search-params", search_params),
        }
    base = session.client.create_knowledge_base(
        name,
        description=description,
        embedding_model=embedding_model,
        index=index,
        chunking={"size": chunk_size, "overlap": chunk_overlap} if chunk_size else None,
        prompt_template=optional_text_file(prompt_template),
        dense_weight=dense_weight,
        min_confidence=min_confidence,
    )
    if session.output.as_json:
        session.output.data(base)
    else:
        session.output.show(f"Created the knowledge base {base.name} ({base.embedding_model}).")


@command(app, "list")
def list_(session: Session) -> None:
    """List the knowledge bases."""
    bases = list(session.client.list_knowledge_bases())
    if session.output.as_json:
        session.output.data({"items": bases})
        return
    rows = [(b.name, documents_of(b), b.chunks, b.embedding_model, b.description) for b in bases]
    session.output.table(("name", "documents", "chunks", "model", "description"), rows, right=("chunks",))


@command(app, "show")
def show(session: Session, name: Name) -> None:
    """Show one knowledge base."""
    base = session.client.get_knowledge_base(name)
    if session.output.as_json:
        session.output.data(base)
        return
    shown = {**base.model_dump(mode="json"), "documents": documents_of(base)}
    session.output.table(("field", "value"), [(key, value) for key, value in shown.items() if value is not None])


@command(app, "update")
def update(
    session: Session,
    name: Name,
    description: Annotated[str | None, typer.Option(help="What it holds.")] = None,
    dense_weight: Weight = None,
    min_confidence: Confidence = None,
    untuned: Annotated[bool, typer.Option("--untuned", help="Forget the tuned values that are not named.")] = False,
) -> None:
    """Change what needs no rebuild. What is not named stays as it is."""
    changes: KnowledgeBaseOptions = {"dense_weight": None, "min_confidence": None} if untuned else {}
    if description is not None:
        changes["description"] = description
    if dense_weight is not None:
        changes["dense_weight"] = dense_weight
    if min_confidence is not None:
        changes["min_confidence"] = min_confidence
    if not changes:
        raise Usage("Nothing is to change: name --description, --dense-weight, --min-confidence or --untuned.")
    base = session.client.update_knowledge_base(name, **changes)
    if session.output.as_json:
        session.output.data(base)
    else:
        session.output.show(f"Changed the knowledge base {base.name}.")


@command(app, "rebuild")
def rebuild(
    session: Session,
    name: Name,
    embedding_model: Annotated[str | None, typer.Option(help="Name or folder of a model.")] = None,
    index_type: Annotated[str | None, typer.Option(help="Milvus's index type, such as HNSW.")] = None,
    metric: Annotated[str | None, typer.Option(help="COSINE, IP or L2; used with --index-type.")] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Tokens in a chunk.")] = None,
    chunk_overlap: Annotated[
        int, typer.Option(help="Tokens that neighbouring chunks share; used with --chunk-size.")
    ] = 40,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the running rebuild.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end.")] = True,
) -> None:
    """Index a knowledge base anew; the present index answers until the new one is complete."""
    if cancel:
        base = session.client.cancel_rebuild(name)
    else:
        changes: KnowledgeBaseOptions = {}
        if embedding_model is not None:
            changes["embedding_model"] = embedding_model
        if index_type:
            changes["index"] = {"type": index_type, "metric": metric}
        if chunk_size:
            changes["chunking"] = {"size": chunk_size, "overlap": chunk_overlap}
        if not changes:
            raise Usage("Nothing is to change: name --embedding-model, --index-type or --chunk-size.")
        base = session.client.update_knowledge_base(name, **changes)
        base = _followed(session, base) if wait else base
    if session.output.as_json:
        session.output.data(base)
    elif base.rebuild_error:
        session.output.show(f"The rebuild of {name} was cancelled: {base.rebuild_error}")
    elif base.rebuild:
        session.output.show(f"{name} is being rebuilt.")
    else:
        session.output.show(f"{name} answers with {base.embedding_model}, {base.chunks} chunks.")
    if base.rebuild_error:
        raise typer.Exit(EXIT_FAILED)


def _followed(session: Session, base: KnowledgeBaseOut) -> KnowledgeBaseOut:
    """Show a progress bar until the rebuild ends, and return the knowledge base in its new state."""
    with Progress(console=session.output.err, transient=True, disable=session.output.as_json) as bars:
        task = bars.add_task("rebuilding", total=None)
        while base.rebuild:
            bars.update(task, completed=base.rebuild.done, total=base.rebuild.total)
            time.sleep(FOLLOW_SECONDS)
            base = session.client.get_knowledge_base(base.name)
    return base


@command(app, "recall")
def recall(
    session: Session,
    name: Name,
    queries: Annotated[int, typer.Option(help="Stored chunks to ask with.")] = 100,
    k: Annotated[int, typer.Option("-k", help="Neighbours to ask for.")] = 10,
    search_params: Annotated[str | None, typer.Option(help='Parameters to try, as JSON: {"ef": 128}.')] = None,
) -> None:
    """Compare the live index with an exact search: how many of its results the index finds, and how fast."""
    found = session.client.recall(name, queries=queries, k=k, params=search_params)
    if session.output.as_json:
        session.output.data(found)
        return
    index, took = found.index, found.took_ms
    row = (
        f"{index['type']} {index['metric']}",
        str({**index["params"], **index["search"]}),
        found.chunks,
        found.queries,
        f"{found.recall:.4f}",
        took.p50,
        took.p99,
    )
    columns = ("index", "parameters", "chunks", "queries", f"recall@{k}", "p50 ms", "p99 ms")
    session.output.table(columns, [row], right=columns[2:])


@command(app, "delete")
def delete(
    session: Session, name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a knowledge base with all of its documents."""
    session.client.get_knowledge_base(name)
    session.confirm(f"Delete the knowledge base {name} with everything in it?", yes=yes)
    session.client.delete_knowledge_base(name)
    if session.output.as_json:
        session.output.data({"name": name, "status": "deleting"})
    else:
        session.output.show(f"{name} is hidden; its documents are being removed.")


def documents_of(base: KnowledgeBaseOut) -> str:
    """Return how many documents are in each status, such as `12 ready, 1 failed`."""
    return ", ".join(f"{count} {status}" for status, count in base.documents.items() if count) or "none"
