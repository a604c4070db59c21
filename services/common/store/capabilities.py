"""The capabilities of the Milvus engine, and the translation of its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import pymilvus
import structlog

from zhiwen.common.errors import InvalidRequest, ServiceError, Unavailable

log = structlog.get_logger(__name__)

LITE_INDEXES = frozenset({"AUTOINDEX", "FLAT", "IVF_FLAT"})
LITE_3_INDEXES = frozenset({"AUTOINDEX", "FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8"})
SERVER_INDEXES = frozenset({"AUTOINDEX", "DISKANN", "FLAT", "HNSW", "IVF_FLAT", "IVF_PQ", "IVF_SQ8", "SCANN"})
COLLECTION_NOT_FOUND = 100
RATE_LIMIT = 8


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of the connected engine.

    `version` is empty for Milvus Lite 2. `sparse` and `aliases` say whether the engine has sparse vectors and aliases.
    `index_types` are the index types that it has.
    """

    version: str
    sparse: bool
    aliases: bool
    index_types: frozenset[str]

    @property
    def default_index(self) -> str:
        """HNSW if the engine has it, else AUTOINDEX, which is exact at the sizes that suit Milvus Lite."""
        return "HNSW" if "HNSW" in self.index_types else "AUTOINDEX"


class CollectionGone(ServiceError):
    """The collection does not exist, or was dropped."""


def require_full_text(capabilities: Capabilities) -> None:
    """Raise `InvalidRequest` (`full-text-not-available`) if the server has no sparse vectors."""
    if not capabilities.sparse:
        raise InvalidRequest(
            "full-text-not-available", f"Milvus {capabilities.version} has no full-text search; it needs 2.4 or newer."
        )


def probe(client: Any) -> Capabilities:
    """Return the capabilities of the engine that a `MilvusClient` is connected to."""
    try:
        version = str(client.get_server_version(timeout=5)).removeprefix("v")
    except grpc.RpcError as exc:
        if exc.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
        return Capabilities(version="", sparse=True, aliases=False, index_types=LITE_INDEXES)
    if version.startswith("milvus_lite-"):  # 3.x; 2.x does not report its version
        return Capabilities(version=version, sparse=True, aliases=True, index_types=LITE_3_INDEXES)
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    return Capabilities(version=version, sparse=numbers >= (2, 4), aliases=True, index_types=SERVER_INDEXES)


def translated(exc: Exception) -> ServiceError:
    """Return our error for an error of gRPC or pymilvus. An unexpected error is logged."""
    if _is_unauthorized(exc):
        return Unavailable("milvus-unauthorized", "Milvus refuses the token in ZHIWEN_MILVUS_TOKEN.")
    if is_busy(exc):
        return Unavailable("milvus-unavailable", "The vector store (Milvus) is over its rate limit; try again shortly.")
    if _is_outage(exc):
        return _away()
    refused = CollectionGone if getattr(exc, "code", None) == COLLECTION_NOT_FOUND else ServiceError
    if refused is ServiceError:
        log.error("milvus_refused", exc_info=exc)
    return refused("milvus-refused", "The vector store (Milvus) refused the call; see the log.")


def _away() -> Unavailable:
    return Unavailable("milvus-unavailable", "The vector store (Milvus) does not answer.")


def _is_unauthorized(exc: Exception) -> bool:
    for error in (exc, exc.__cause__):  # when a connection fails, only the cause has the code
        if isinstance(error, grpc.RpcError):
            return error.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
    return False


def timed_out(exc: BaseException | None) -> bool:
    """Return whether an error means that a call had no answer in time."""
    return isinstance(exc, grpc.RpcError) and exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def is_busy(exc: BaseException | None) -> bool:
    """Return whether an error means that a call was over the server's rate limit."""
    return getattr(exc, "code", None) == RATE_LIMIT


def _is_outage(exc: Exception) -> bool:
    if isinstance(exc, grpc.RpcError):
        return exc.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
    if isinstance(exc, ValueError):
        return "closed channel" in str(exc).lower()
    # 1: deadline or unexpected error; 2: no connection; the others: a collection or a node is not ready yet.
    return getattr(exc, "code", None) in {1, 2, 101, 106, 503, 700} or isinstance(
        exc, pymilvus.exceptions.ConnectError | pymilvus.exceptions.MilvusUnavailableException
    )
