"""Repeats an HTTP request when the server is busy or does not answer.

The pause before a retry is what Retry-After says. Without it the pause is random, below a limit that doubles with each
attempt:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

ATTEMPTS: Final = 4
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 20.0


def post_json(
    client: httpx.Client,
    url: str,
    body: Mapping[str, Any],
    *,
    attempts: int = ATTEMPTS,
    timeout: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> httpx.Response:
    """POST `body` as JSON to `url`, and return the response. Try again after 429, 5xx or a lost connection.

    `client` sends it. `attempts` is the largest number of attempts. `timeout` is the number of seconds that each may
    take; None: the timeout of the client. `sleep` waits between attempts. When no attempt is left, a response with an
    error status is returned. Raises `httpx.TransportError` when the last attempt had no response.
    """
    limit = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout, connect=client.timeout.connect)
    for attempt in range(attempts - 1):
        pause = jittered_pause(attempt)
        with contextlib.suppress(httpx.TransportError):
            response = client.post(url, json=body, timeout=limit)
            if not is_busy(response):
                return response
            asked = retry_after(response)
            pause = pause if asked is None else asked
        sleep(min(pause, LONGEST_PAUSE))
    return client.post(url, json=body, timeout=limit)


def is_busy(response: httpx.Response) -> bool:
    """Return whether the same request may succeed later."""
    return response.status_code == 429 or response.status_code >= 500


def jittered_pause(attempt: int) -> float:
    """Return the seconds to wait after the failed attempt of this number, counted from 0."""
    longest = min(FIRST_PAUSE * 2 ** min(attempt, 10), LONGEST_PAUSE)
    return random.uniform(0, longest)  # noqa: S311 (it spreads retries; no secret depends on it)


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that Retry-After asks for; None without the header, or if it holds a date."""
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, float(response.headers["Retry-After"]))
    return None


def refusal_of(response: httpx.Response) -> str:
    """Return the reason that a server gives for an error, in at most 200 characters."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:200]
    if isinstance(body, dict):
        error = body.get("error", body)
        said = error.get("message", error.get("detail", body)) if isinstance(error, dict) else error
        return str(said)[:200]
    return str(body)[:200]
