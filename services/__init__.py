"""Zhiwen 知问: answers questions from your own documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zhiwen.client import ApiError, AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["ApiError", "AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    """Import the client when it is asked for: a service that starts does without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from zhiwen import client

    value: object = getattr(client, name)
    return value


def __dir__() -> list[str]:
    """Name the client, too, so that an editor or a notebook offers it before it is imported."""
    return sorted({*globals(), *__all__})
