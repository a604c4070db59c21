"""The command `zhiwen`: runs all services on this machine, and is a client of the services."""

from __future__ import annotations

from typing import Annotated

import typer

from zhiwen import __version__
from zhiwen.cli.commands import bases, documents, evaluate, keys, operations, questions, usage


def _version(asked: bool) -> None:
    if asked:
        print(f"zhiwen {__version__}")
        raise typer.Exit


def create_app() -> typer.Typer:
    """Return the command with all its subcommands."""
    app = typer.Typer(
        name="zhiwen",
        help="Zhiwen 知问 answers questions from your own documents.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
    ) -> None:
        pass

    operations.register(app)
    documents.register_add(app)
    questions.register(app)
    evaluate.register(app)
    usage.register(app)
    app.add_typer(bases.app, name="kb")
    app.add_typer(documents.app, name="docs")
    app.add_typer(keys.app, name="keys")
    return app


def main() -> None:
    """Entry point of the program `zhiwen`."""
    create_app()()


if __name__ == "__main__":
    main()
