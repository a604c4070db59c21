"""What all commands share: common options, the client, the output, and what an error does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import httpx
import typer
from pydantic import ValidationError

from zhiwen.cli.output import Output
from zhiwen.cli.problems import EXIT_FAILED, EXIT_USAGE, exit_code_of, problem_of
from zhiwen.cli.settings import CliSettings
from zhiwen.cli.values import Json, Usage
from zhiwen.client import ApiError, Client
from zhiwen.client.errors import problem
from zhiwen.common.errors import ConfigurationError, ServiceError

P = ParamSpec("P")

Kb = Annotated[
    str | None,
    typer.Option("--kb", help="Knowledge base; default: ZHIWEN_KB, or the only one there is.", show_default=False),
]
JSON_OPTION = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, messages on stderr.")]
CONNECTION: dict[str, Any] = {
    "ingest_url": Annotated[str | None, typer.Option(help="Address of the ingest API [ZHIWEN_INGEST_URL].")],
    "query_url": Annotated[str | None, typer.Option(help="Address of the query API [ZHIWEN_QUERY_URL].")],
    "gateway_url": Annotated[str | None, typer.Option(help="Address of the LLM gateway [ZHIWEN_GATEWAY_URL].")],
    "api_key": Annotated[str | None, typer.Option(help="API key [ZHIWEN_API_KEY].")],
}
DATA: dict[str, Any] = {
    "data_dir": Annotated[
        Path | None, typer.Option(help="Data folder [ZHIWEN_DATA_DIR].", file_okay=False, show_default=False)
    ]
}


@dataclass(frozen=True, slots=True)
class Session:
    """What one running command uses."""

    settings: CliSettings
    output: Output
    client: Client

    def base(self, name: str | None) -> str:
        """Return the name of the knowledge base to use. Raises `Usage` when that is not clear."""
        chosen = name or self.settings.kb
        return chosen or the_only_base([base.name for base in self.client.list_knowledge_bases()])

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is deleted. Raises `Usage` without a terminal, `typer.Exit` when the answer is no."""
        if yes:
            return
        if self.output.as_json or not self.output.err.is_terminal:
            raise Usage("This command deletes. Add --yes to run it without a question.")
        if not typer.confirm(question, err=True):
            raise typer.Exit(EXIT_FAILED)


def the_only_base(names: list[str]) -> str:
    """Return the name of the only knowledge base. Raises `Usage` when there is none or more than one."""
    match names:
        case [name]:
            return name
        case []:
            raise Usage("There is no knowledge base yet: create one with `zhiwen kb create NAME`.")
        case _:
            raise Usage(f"There are {len(names)} knowledge bases; name one with --kb: {', '.join(names[:10])}.")


def command(
    app: typer.Typer, name: str, *, options: dict[str, Any] | None = None
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Register a function as a command. Its first argument is a `Session`; `--json` and `options` are added."""
    common = {**(CONNECTION if options is None else options), "as_json": JSON_OPTION}

    def register(function: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        def run(ctx: typer.Context, **values: Any) -> None:
            chosen = {key: values.pop(key) for key in common}
            output = Output(as_json=chosen.pop("as_json"))
            with errors_end_the_command(output), _opened(chosen, output, ctx.obj) as session:
                call: Callable[..., None] = function
                call(session, **values)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = [_keyword(key, option, default=False if key == "as_json" else None) for key, option in common.items()]
        first = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__signature__ = inspect.Signature([first, *keywords, *shared])  # type: ignore[attr-defined]  # typer reads it; mypy knows no such attribute
        run.__doc__ = function.__doc__
        app.command(name)(run)
        return function

    return register


def _keyword(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


@contextmanager
def _opened(chosen: dict[str, Any], output: Output, transport: httpx.BaseTransport | None) -> Iterator[Session]:
    settings = load_settings(chosen)
    with client_of(settings, transport) as client:
        yield Session(settings, output, client)


def client_of(settings: CliSettings, transport: httpx.BaseTransport | None = None) -> Client:
    """Return the client for the settings. It never retries, so that the user sees an error at once."""
    return Client(
        ingest_url=settings.ingest_url,
        query_url=settings.query_url,
        gateway_url=settings.gateway_url,
        api_key=settings.api_key.get_secret_value(),
        retries=0,
        transport=transport,
    )


def load_settings(chosen: dict[str, Any]) -> CliSettings:
    """Return the settings of the environment; the given options override them. Raises `Usage`."""
    try:
        return CliSettings(**{key: value for key, value in chosen.items() if value is not None})
    except ValidationError as exc:
        wrong = "; ".join(f"ZHIWEN_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in exc.errors())
        raise Usage(f"The settings are wrong: {wrong}.") from exc


@contextmanager
def errors_end_the_command(output: Output) -> Iterator[None]:
    """Print an exception as one sentence, or with `--json` as its problem, and exit with its code."""
    try:
        yield
    except ApiError as exc:
        _end(output, problem_of(exc), exit_code_of(exc.status))
    except Usage as exc:
        _end(output, problem("usage", "Usage", str(exc)), EXIT_USAGE)
    except ConfigurationError as exc:
        _end(output, problem("configuration", "Configuration", str(exc)), EXIT_USAGE)
    except ServiceError as exc:
        _end(output, problem(exc.code, exc.title, exc.detail, status=exc.status), exit_code_of(exc.status))
    except KeyboardInterrupt:
        output.say("Interrupted.")
        raise typer.Exit(130) from None


def _end(output: Output, made: Json, exit_code: int) -> None:
    output.error(made)
    raise typer.Exit(exit_code)
