"""A server without sparse vectors: hybrid search answers from dense and says so, full text is refused by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.conftest import DIMENSION, Spares
from tests.servers.ledgers import add_ready, new_base
from zhiwen.common.embedding.fake import HashEmbedder
from zhiwen.common.embedding.registry import Embedders
from zhiwen.common.errors import InvalidRequest
from zhiwen.common.ledger import Ledger, NewGeneration
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.models import Chunk, ChunkingSpec, KnowledgeBase
from zhiwen.common.store import ChunkRow, ChunkStore
from zhiwen.query.search.request import Search
from zhiwen.query.search.retriever import Retriever

pytestmark = pytest.mark.parametrize("engine", ["milvus-2.3.5"], indirect=True)
EMBEDDER = HashEmbedder(DIMENSION)


@pytest.fixture
def base(own_ledger: Ledger, store: ChunkStore, spares: Spares) -> KnowledgeBase:
    """A knowledge base with one chunk."""
    live = spares.take()
    made = NewGeneration(live.collection, EMBEDDER.model, DIMENSION, live.index, ChunkingSpec())
    base = new_base(own_ledger, generation=made)
    document = add_ready(own_ledger, base)
    vector = EMBEDDER.embed_passages(["年假十天"])[0]
    store.upsert(live.collection, [ChunkRow(document.id, 1, Chunk(0, "年假十天", "", None), "手册", {}, vector, {})])
    assert store.count(live.collection) == 1
    return base


@pytest.fixture
def retriever(own_ledger: Ledger, store: ChunkStore) -> Iterator[Retriever]:
    embedders = Embedders(lambda _model: EMBEDDER)
    retriever = Retriever(own_ledger, store, embedders, Translations.load(), candidates=100, dense_weight=None)
    yield retriever
    retriever.close()


def test_hybrid_answers_from_dense_and_says_so(retriever: Retriever, base: KnowledgeBase) -> None:
    found = retriever.search(base, Search("年假十天", 5, mode="hybrid"))
    assert (found.mode, [hit.text for hit in found.hits]) == ("dense", ["年假十天"])
    assert found.hits[0].score == pytest.approx(1.0, abs=1e-5)


def test_full_text_is_refused_by_name(retriever: Retriever, base: KnowledgeBase) -> None:
    with pytest.raises(InvalidRequest, match=r"full-text-not-available.*2\.3\.5"):
        retriever.search(base, Search("年假十天", 5, mode="full_text"))
