"""The parts that the query API is built of, and how its routes reach them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, TypedDict

from fastapi import Depends
from starlette.requests import HTTPConnection

from zhiwen.common.ledger import Ledger
from zhiwen.common.models import KnowledgeBase
from zhiwen.common.store import ChunkStore
from zhiwen.query.answer.answerer import Answerer
from zhiwen.query.answer.generation import Generator
from zhiwen.query.search.request import SearchRules
from zhiwen.query.search.retriever import Retriever


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the query API. `recalling` is held while a recall is measured."""

    ledger: Ledger
    store: ChunkStore
    rules: SearchRules
    retriever: Retriever
    generator: Generator
    answerer: Answerer
    recalling: asyncio.Lock

    async def close(self) -> None:
        """Close all connections and stop all threads."""
        await self.generator.close()
        self.retriever.close()
        self.store.close()
        self.ledger.close()


class State(TypedDict):
    """What the lifespan yields. Every request and web socket carries it."""

    parts: Parts


def parts_of(connection: HTTPConnection) -> Parts:
    """Return the parts. Routes call this directly, because a FastAPI dependency would cost each search 30 µs."""
    parts: Parts = connection.state.parts
    return parts


async def get_base(connection: HTTPConnection, kb: str) -> KnowledgeBase:
    """Return the knowledge base that the path names. Raises `NotFound` (`knowledge-base-not-found`)."""
    return await asyncio.to_thread(parts_of(connection).ledger.bases.get, kb)


BaseDep = Annotated[KnowledgeBase, Depends(get_base)]
