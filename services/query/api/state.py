"""What the query API runs on, and how its routes get hold of it."""

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
        """Let go of all connections and threads."""
        await self.generator.close()
        self.retriever.close()
        self.store.close()
        self.ledger.close()


class State(TypedDict):
    """What the lifespan yields, and every request and web socket carries."""

    parts: Parts


def parts_of(connection: HTTPConnection) -> Parts:
    """Return the parts behind a route. Routes call this: as a dependency of FastAPI it would cost a search 30 µs."""
    parts: Parts = connection.state.parts
    return parts


async def get_base(connection: HTTPConnection, kb: str) -> KnowledgeBase:
    """Return the knowledge base that the path names. Raises `NotFound` (`knowledge-base-not-found`)."""
    return await asyncio.to_thread(parts_of(connection).ledger.bases.get, kb)


BaseDep = Annotated[KnowledgeBase, Depends(get_base)]
