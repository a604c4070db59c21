"""Reports errors on the command line: the exit code, and a sentence for the user."""

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
    """Return the exit code for an error with this HTTP status. Status 0 means that no service answered."""
    return _EXIT_CODES.get(status, EXIT_FAILED)


def problem_of(error: ApiError) -> Json:
    """Return the problem of an error. If no service answers, its sentence also names the option for the address."""
    if not isinstance(error, UnreachableError):
        return error.problem
    service, title = error.service, TITLES[error.service]
    detail = (
        f"{title[0].upper()}{title[1:]} does not answer at {error.problem['instance']}: start it with `zhiwen up` "
        f"(or zhiwen-{service}), or name another address with --{service}-url or ZHIWEN_{service.upper()}_URL."
    )
    return {**error.problem, "detail": detail}
