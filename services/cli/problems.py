"""How the command line tells that something went wrong: exit codes, and the sentence for the person at the keyboard."""

from __future__ import annotations

from zhiwen.cli.values import Json
from zhiwen.client import ApiError, UnreachableError
from zhiwen.client.addresses import TITLES

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_ALLOWED = 4
EXIT_NOT_FOUND = 5
EXIT_CONFLICT = 6
_EXIT_CODES = {
    0: EXIT_UNREACHABLE,
    401: EXIT_NOT_ALLOWED,
    403: EXIT_NOT_ALLOWED,
    404: EXIT_NOT_FOUND,
    409: EXIT_CONFLICT,
}


def exit_code_of(status: int) -> int:
    """Return what a command ends with that met an error of this HTTP status; 0 is no answer at all."""
    return _EXIT_CODES.get(status, EXIT_FAILED)


def problem_of(error: ApiError) -> Json:
    """Return the problem of an error; where a service does not answer, it names the option for another address, too."""
    if not isinstance(error, UnreachableError):
        return error.problem
    service, title = error.service, TITLES[error.service]
    detail = (
        f"{title[0].upper()}{title[1:]} does not answer at {error.problem['instance']}: start it with `zhiwen up` "
        f"(or zhiwen-{service}), or name another address with --{service}-url or ZHIWEN_{service.upper()}_URL."
    )
    return {**error.problem, "detail": detail}
