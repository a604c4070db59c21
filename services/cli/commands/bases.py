"""`zhiwen kb …`: knowledge bases."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.problems import Json
from services.cli.session import Session, command
from services.cli.values import integers, optional_text_file

app = typer.Typer(help="Knowledge bases.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the knowledge base.", show_default=False)]


@command(app, "create")
def create(
    session: Session,
    name: Name,
    description: Annotated[str, typer.Option(help="What it holds.")] = "",
    embedding_model: Annotated[str | None, typer.Option(help="Name or folder of a model.")] = None,
    index_type: Annotated[str | None, typer.Option(help="Milvus's index type, such as HNSW.")] = None,
    metric: Annotated[str, typer.Option(help="COSINE, IP or L2.")] = "COSINE",
    index_params: Annotated[str | None, typer.Option(help='JSON, such as {"M": 16}.')] = None,
    search_params: Annotated[str | None, typer.Option(help='JSON, such as {"ef": 64}.')] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Tokens in a chunk.")] = None,
    chunk_overlap: Annotated[int, typer.Option(help="Tokens that neighbouring chunks share.")] = 40,
    prompt_template: Annotated[
        typer.FileText | None, typer.Option(help="File with {context} and {question}; - is stdin.")
    ] = None,
) -> None:
    """Create a knowledge base."""
    index: Json | None = None
    if index_type or metric != "COSINE" or index_params or search_params:
        index = {
            "type": index_type,
            "metric": metric,
            "params": integers("--index-params", index_params),
            "search": integers("--search-params", search_params),
        }
    base = session.client.create_base(
        name,
        description=description,
        embedding_model=embedding_model,
        index=index,
        chunking={"size": chunk_size, "overlap": chunk_overlap} if chunk_size else None,
        prompt_template=optional_text_file(prompt_template),
    )
    if session.output.as_json:
        session.output.data(base)
    else:
        session.output.show(f"Created the knowledge base {base['name']} ({base['embedding_model']}).")


@command(app, "list")
def list_(session: Session) -> None:
    """List the knowledge bases."""
    bases = list(session.client.bases())
    if session.output.as_json:
        session.output.data({"items": bases})
        return
    rows = [(b["name"], documents_of(b), b["chunks"], b["embedding_model"], b["description"]) for b in bases]
    session.output.table(("name", "documents", "chunks", "model", "description"), rows, right=("chunks",))


@command(app, "show")
def show(session: Session, name: Name) -> None:
    """Show one knowledge base."""
    base = session.client.base(name)
    if session.output.as_json:
        session.output.data(base)
        return
    shown = {**base, "documents": documents_of(base)}
    session.output.table(("field", "value"), [(key, value) for key, value in shown.items() if value is not None])


@command(app, "delete")
def delete(
    session: Session, name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a knowledge base with all of its documents."""
    session.client.base(name)
    session.confirm(f"Delete the knowledge base {name} with everything in it?", yes=yes)
    session.client.delete_base(name)
    if session.output.as_json:
        session.output.data({"name": name, "status": "deleting"})
    else:
        session.output.show(f"{name} is hidden; its documents are being removed.")


def documents_of(base: Json) -> str:
    """Return how many documents are in which status: 12 ready, 1 failed."""
    return ", ".join(f"{count} {status}" for status, count in base["documents"].items() if count) or "none"
