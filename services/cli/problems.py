"""Reports errors on the command line: the exit code, and a sentence for the user."""

from __future__ import annotations

from zhiwen.cli.values import Json
from zhiwen.client import ApiError, UnauthorizedError, UnreachableError
from zhiwen.client.addresses import TITLES, is_address

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
    """Return the problem of an error. Where an option would help (an address, a key), its sentence names the option."""
    if isinstance(error, UnauthorizedError):
        return {**error.problem, "detail": f"{error.detail} Name a key with --api-key or ZHIWEN_API_KEY."}
    if not isinstance(error, UnreachableError) or not is_address(error.problem["instance"]):
        return error.problem
    service, title = error.service, TITLES[error.service]
    detail = (
        f"{title[0].upper()}{title[1:]} does not answer at {error.problem['instance']}: start it with `zhiwen up` "
        f"(or zhiwen-{service}), or name another address with --{service}-url or ZHIWEN_{service.upper()}_URL."
    )
    return {**error.problem, "detail": detail}
