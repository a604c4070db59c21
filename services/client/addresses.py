"""The services, their names for people, and their default addresses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Literal

import httpx

from zhiwen.common.addresses import is_loopback

Service = Literal["ingest", "query", "gateway"]
TITLES: Final[Mapping[Service, str]] = {
    "ingest": "the ingest API",
    "query": "the query API",
    "gateway": "the LLM gateway",
}
DEFAULT_URLS: Final[Mapping[Service, str]] = {
    "ingest": "http://127.0.0.1:8001",
    "query": "http://127.0.0.1:8002",
    "gateway": "http://127.0.0.1:8003",
}


def url_of(service: Service, given: str | None) -> str:
    """Return the address of a service: `given`, or that of the environment (`ZHIWEN_QUERY_URL`), or the default."""
    url = given or os.environ.get(f"ZHIWEN_{service.upper()}_URL") or DEFAULT_URLS[service]
    return url.rstrip("/")


def is_address(url: str) -> bool:
    """True for an address that a service can have: `http://` or `https://`, and a host."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in {"http", "https"} and bool(parsed.host)


def is_on_this_machine(url: str) -> bool:
    """Return True for an address on loopback, False for any other text."""
    try:
        return is_loopback(httpx.URL(url).host)
    except httpx.InvalidURL:
        return False
