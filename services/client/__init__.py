"""The client of Zhiwen's REST API for Python programs: `Client` blocks, `AsyncClient` is for asyncio.

It needs httpx, httpx-sse and pydantic, and no code of the services. To chat over OpenAI's protocol, use OpenAI's own
client with the address of the gateway.
"""

from zhiwen.client.addresses import Service
from zhiwen.client.async_client import AsyncClient
from zhiwen.client.client import Client
from zhiwen.client.errors import (
    ApiError,
    ConflictError,
    ConnectionLostError,
    ForbiddenError,
    InvalidRequestError,
    NoAnswerError,
    NotFoundError,
    ServiceFailedError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    UnsupportedError,
)
from zhiwen.client.files import BytesFile, File, LocalFile
from zhiwen.client.following import DocumentEvent, Watcher
from zhiwen.client.options import AskOptions, KnowledgeBaseOptions, OnDuplicate, SearchOptions
from zhiwen.client.streaming import AnswerEvent
from zhiwen.client.uploading import AddedDocument
from zhiwen.common.api.documents import ChunkOut, DocumentOut, ErrorOut, ProgressOut, UploadItem
from zhiwen.common.api.fsck import FsckReport
from zhiwen.common.api.knowledge_bases import Chunking, Index, KnowledgeBaseOut, RebuildOut
from zhiwen.common.api.operations import Health, Readiness
from zhiwen.common.api.questions import (
    Answer,
    Citation,
    HitOut,
    Message,
    Outcome,
    SearchOut,
    SourceOut,
    SourcesEvent,
    TokenEvent,
)
from zhiwen.common.api.recall import RecallOut
from zhiwen.common.models import DocumentStatus

__all__ = [
    "AddedDocument",
    "Answer",
    "AnswerEvent",
    "ApiError",
    "AskOptions",
    "AsyncClient",
    "BytesFile",
    "ChunkOut",
    "Chunking",
    "Citation",
    "Client",
    "ConflictError",
    "ConnectionLostError",
    "DocumentEvent",
    "DocumentOut",
    "DocumentStatus",
    "ErrorOut",
    "File",
    "ForbiddenError",
    "FsckReport",
    "Health",
    "HitOut",
    "Index",
    "InvalidRequestError",
    "KnowledgeBaseOptions",
    "KnowledgeBaseOut",
    "LocalFile",
    "Message",
    "NoAnswerError",
    "NotFoundError",
    "OnDuplicate",
    "Outcome",
    "ProgressOut",
    "Readiness",
    "RebuildOut",
    "RecallOut",
    "SearchOptions",
    "SearchOut",
    "Service",
    "ServiceFailedError",
    "SourceOut",
    "SourcesEvent",
    "TokenEvent",
    "TooLargeError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "UnsupportedError",
    "UploadItem",
    "Watcher",
]
