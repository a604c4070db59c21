"""Asks an HTTP server again when it is busy or does not answer.

The pause is what Retry-After says, or a random part of one that doubles with each attempt:
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
    """Return the response to a POST, which is sent again after 429, 5xx and a lost connection.

    `attempts` is how often it is sent at most, `timeout` the seconds that each attempt may take; None: as the client
    says. `sleep` waits between attempts. A response with an error status is returned when no attempt is left. Raises
    `httpx.TransportError` when the last attempt had no response.
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
    return random.uniform(0, longest)  # noqa: S311 (spreads retries, guards nothing)


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that Retry-After asks for; None without one, or where it is a date."""
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
