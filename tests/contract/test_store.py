"""What the chunk store promises, whatever engine is behind it. Another engine is another parameter of `engine`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.contract.conftest import DIMENSION, ENGINES, Indexed, Spares, generation
from tests.servers.milvus import ROOT_TOKEN
from tests.servers.stores import Server, running, socket_path, wait_until
from zhiwen.common.errors import InvalidRequest, ServiceError, Unavailable
from zhiwen.common.models import Chunk, Generation, IndexSpec, chunk_id, parse_chunk_id
from zhiwen.common.store import ChunkRow, ChunkStore, CollectionGone, Ranking, alias_of
from zhiwen.common.store.index_specs import BUILD, METRICS
from zhiwen.query.search.filters import compile_filter


@pytest.fixture
def live(spares: Spares) -> Generation:
    """An empty collection."""
    return spares.take()


def vector(*numbers: float) -> NDArray[np.float32]:
    """Return a unit vector in the direction of these numbers, padded with zeros."""
    padded = np.zeros(DIMENSION, np.float32)
    padded[: len(numbers)] = numbers
    return np.asarray(padded / np.linalg.norm(padded), np.float32)


def angled(cosine: float) -> NDArray[np.float32]:
    """Return a unit vector with this cosine to `vector(1)`."""
    return vector(cosine, math.sqrt(1 - cosine * cosine))


def row(
    document: str = "d1",
    ordinal: int = 0,
    *,
    version: int = 1,
    text: str = "正文",
    dense: NDArray[np.float32] | None = None,
    sparse: dict[int, float] | None = None,
    source: str = "手册.txt",
    page: int | None = None,
    heading: str = "",
    metadata: dict[str, Any] | None = None,
) -> ChunkRow:
    chunk = Chunk(ordinal, text, heading, page)
    vector_ = vector(1) if dense is None else dense
    return ChunkRow(document, version, chunk, source, metadata or {}, vector_, sparse or {})


# By how much a compressed vector's score may be off.
LOSSES = {"IVF_PQ": 0.2, "IVF_SQ8": 0.02}
SEARCHED = {
    **{name: {"nprobe": 32} for name in ("IVF_FLAT", "IVF_SQ8", "IVF_PQ")},
    "HNSW": {"ef": 128},
    "SCANN": {"nprobe": 32, "reorder_k": 100},
    "DISKANN": {"search_list": 100},
}


def ids(ranking: Ranking) -> list[str]:
    """Return the documents that were found, best first."""
    return [parse_chunk_id(id)[0] for id in ranking]


# Collections


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("index_type", BUILD)
def test_every_index_and_metric_finds_with_the_same_scores_and_order(
    store: ChunkStore, indexed: Indexed, index_type: str, metric: str
) -> None:
    if index_type not in store.capabilities().index_types:
        with pytest.raises(InvalidRequest, match=f"index-not-available.*{index_type}"):
            indexed.spec(index_type, metric)
        return
    made = indexed[index_type, metric]
    hits = store.search_dense(made, indexed.vectors[0], limit=10)
    expected = np.maximum(indexed.vectors @ indexed.vectors[0], 0.0)
    best = [f"d{n}" for n in np.argsort(-expected, kind="stable")[:10]]
    loss = LOSSES.get(index_type, 1e-4)
    assert ids(hits)[0] == "d0"
    scores = list(hits.values())
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([expected[int(id[1:])] for id in ids(hits)], abs=loss)
    assert len(set(ids(hits)) & set(best)) >= 8
    tuned = store.search_dense(made, indexed.vectors[0], limit=10, params=SEARCHED.get(index_type, {}))
    assert ids(tuned)[0] == "d0"


def test_creating_what_is_there_leaves_it_as_it_is(store: ChunkStore, live: Generation) -> None:
    store.upsert(live.collection, [row()])
    store.create(live.collection, DIMENSION, IndexSpec("FLAT"))
    assert store.count(live.collection) == 1


def test_dropping_is_final_and_dropping_nothing_is_fine(store: ChunkStore) -> None:
    made = generation()
    store.create(made.collection, DIMENSION, made.index)
    assert made.collection in store.collections()
    for _ in range(2):
        store.drop(made.collection)
    assert made.collection not in store.collections()
    with pytest.raises(CollectionGone, match="milvus-refused"):
        store.count(made.collection)
    with pytest.raises(CollectionGone):
        store.search_dense(made, vector(1), limit=1)


# Rows


def test_row_comes_back_as_it_was_written(store: ChunkStore, live: Generation) -> None:
    metadata = {"部门": "人事", "年": 2026, "公开": True, "空": None, "列": [1, "二"], "深": {'引号"': "\\"}, "浮": 0.5}
    text = "第一行\n第二行 “引号” \"quote\" 'single' \\ 反斜杠 \t制表 😀 {context} \u3000全角"
    written = row(
        "d" * 32, 7, version=3, text=text, source="手册/年假 (1).txt", page=12, heading="一 > 二", metadata=metadata
    )
    store.upsert(live.collection, [written])
    hit = store.chunks(live.collection, "d" * 32, 3, first=0, count=10)[0]
    assert hit.chunk_id == chunk_id("d" * 32, 3, 7)
    assert (hit.version, hit.ordinal, hit.text, hit.source) == (3, 7, text, "手册/年假 (1).txt")
    assert (hit.page, hit.heading, dict(hit.metadata)) == (12, "一 > 二", metadata)


def test_longest_fields_fit(store: ChunkStore, live: Generation) -> None:
    store.upsert(live.collection, [row(text="中" * 21_000, source="名" * 1024, heading="题" * 5000)])
    hit = store.chunks(live.collection, "d1", 1, first=0, count=1)[0]
    assert (len(hit.text), len(hit.source), len(hit.heading)) == (21_000, 1024, 1024)


def test_page_that_is_none_comes_back_as_none(store: ChunkStore, live: Generation) -> None:
    store.upsert(live.collection, [row()])
    assert store.chunks(live.collection, "d1", 1, first=0, count=1)[0].page is None


def test_writing_again_replaces(store: ChunkStore, live: Generation) -> None:
    for text in ("old", "old", "new"):
        store.upsert(live.collection, [row("d1", n, text=f"{text} {n}") for n in range(300)])
    assert store.count(live.collection) == 300
    texts = [hit.text for hit in store.chunks(live.collection, "d1", 1, first=0, count=1000)]
    assert texts == [f"new {n}" for n in range(300)]
    assert len(store.search_dense(live, vector(1), limit=500)) == 300


def test_writing_nothing_is_fine(store: ChunkStore, live: Generation) -> None:
    store.upsert(live.collection, [])
    assert store.count(live.collection) == 0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_vector_that_is_no_vector_is_refused_and_nothing_is_written(
    store: ChunkStore, live: Generation, number: float
) -> None:
    bad = vector(1)
    bad[3] = number
    with pytest.raises(ServiceError, match="bad-vector"):
        store.upsert(live.collection, [row("d1"), row("d2", dense=bad)])
    assert store.count(live.collection) == 0


def test_vector_of_another_length_is_refused(store: ChunkStore, live: Generation) -> None:
    with pytest.raises(ServiceError, match="milvus-refused"):
        store.upsert(live.collection, [row(dense=np.ones(DIMENSION + 1, np.float32))])


def test_count_sees_every_write_at_once(store: ChunkStore, live: Generation) -> None:
    for written in range(1, 21):
        store.upsert(live.collection, [row(f"d{written}", 0), row(f"d{written}", 1, version=2)])
        assert store.count(live.collection) == 2 * written
        assert store.count(live.collection, f"d{written}") == 2
        assert store.count(live.collection, f"d{written}", 2) == 1


def test_delete_takes_the_document_and_no_other(store: ChunkStore, live: Generation) -> None:
    store.upsert(live.collection, [row("d1", n, version=v) for n in range(5) for v in (1, 2)] + [row("d11")])
    store.delete(live.collection, "d1", 1)
    assert (store.count(live.collection, "d1"), store.count(live.collection, "d1", 2)) == (5, 5)
    store.delete(live.collection, "d1")
    assert (store.count(live.collection, "d1"), store.count(live.collection)) == (0, 1)
    store.delete(live.collection, "d1")
    assert ids(store.search_dense(live, vector(1), limit=10)) == ["d11"]


def delete_as_a_job_does(store: ChunkStore, collection: str, document_id: str) -> None:
    """Delete, again while Milvus says that it should be tried again."""
    give_up = time.monotonic() + 20
    while True:
        try:
            store.delete(collection, document_id)
            return
        except Unavailable:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)


def test_deleted_rows_can_be_written_again(store: ChunkStore, live: Generation) -> None:
    for _ in range(3):
        store.upsert(live.collection, [row("d1", n) for n in range(10)])
        assert store.count(live.collection, "d1") == 10
        delete_as_a_job_does(store, live.collection, "d1")
    assert store.count(live.collection) == 0


def test_chunks_come_in_order_and_in_pages(store: ChunkStore, live: Generation) -> None:
    store.upsert(live.collection, [row("d1", n, text=str(n)) for n in reversed(range(250))])
    store.upsert(live.collection, [row("d1", n, version=2, text="another") for n in range(5)])
    pages = [store.chunks(live.collection, "d1", 1, first=first, count=100) for first in (0, 100, 200, 300)]
    assert [len(page) for page in pages] == [100, 100, 50, 0]
    assert [hit.text for page in pages for hit in page] == [str(n) for n in range(250)]


def test_keys_lists_every_row_once_past_any_page(store: ChunkStore, live: Generation) -> None:
    rows = [row(f"d{n % 7}", n) for n in range(2300)]
    store.upsert(live.collection, rows)
    keys = list(store.keys(live.collection))
    assert len(keys) == 2300
    assert {key.id for key in keys} == {chunk_id(r.document_id, 1, r.chunk.ordinal) for r in rows}
    assert {(key.document_id, key.ordinal) for key in keys} == {(r.document_id, r.chunk.ordinal) for r in rows}


def test_hits_come_in_the_order_asked_for_with_their_scores(store: ChunkStore, live: Generation) -> None:
    store.upsert(live.collection, [row(f"d{n}", n, text=f"text {n}", page=n or None) for n in range(40)])
    asked = {chunk_id(f"d{n}", 1, n): 1 - n / 100 for n in (7, 0, 39)}
    hits = store.hits(live.collection, {**asked, chunk_id("d7", 2, 7): 0.1, chunk_id("gone", 1, 0): 0.05})
    assert [(hit.chunk_id, hit.score) for hit in hits] == list(asked.items())
    assert [(hit.text, hit.page) for hit in hits] == [("text 7", 7), ("text 0", None), ("text 39", 39)]
    assert store.hits(live.collection, {}) == []


def test_hits_hold_what_was_written_a_moment_before(store: ChunkStore, live: Generation) -> None:
    for n in range(10):
        store.upsert(live.collection, [row(f"d{n}")])
        assert len(store.hits(live.collection, {chunk_id(f"d{n}", 1, 0): 1.0})) == 1
        assert len(store.search_dense(live, vector(1), limit=20, strong=True)) == n + 1


# Sparse search


def test_sparse_search_ranks_by_inner_product(store: ChunkStore, live: Generation, sparse: None) -> None:
    big = 2**32 - 2
    store.upsert(
        live.collection,
        [
            row("d1", sparse={7: 0.5, big: 0.5}),
            row("d2", sparse={7: 0.9}),
            row("d3", sparse={8: 1.0}),
            row("d4", sparse={}),
        ],
    )
    hits = store.search_sparse(live, {7: 2.0, big: 3.0}, limit=10)
    assert list(hits.values()) == pytest.approx([2.5, 1.8], rel=1e-3)
    assert ids(hits) == ["d1", "d2"]


def test_sparse_search_for_nothing_finds_nothing(store: ChunkStore, live: Generation, sparse: None) -> None:
    store.upsert(live.collection, [row("d1", sparse={7: 0.5})])
    assert store.search_sparse(live, {}, limit=10) == {}
    assert store.search_sparse(live, {9: 1.0}, limit=10) == {}


def test_search_of_an_empty_collection_finds_nothing(store: ChunkStore, live: Generation) -> None:
    assert store.search_dense(live, vector(1), limit=10) == {}


def test_full_text_that_the_engine_lacks_is_refused_by_name(store: ChunkStore, live: Generation) -> None:
    if store.capabilities().sparse:
        assert store.search_sparse(live, {7: 1.0}, limit=10) == {}
    else:
        with pytest.raises(InvalidRequest, match=r"full-text-not-available.*2\.3\.5"):
            store.search_sparse(live, {7: 1.0}, limit=10)


# Filters, evaluated by the engine


@dataclass(frozen=True)
class Filtered:
    """The collection on which filters are tried."""

    store: ChunkStore
    live: Generation

    def matching(self, filter: dict[str, Any]) -> set[str]:
        """Return the documents that dense search, sparse search and nothing else agree on."""
        expression = compile_filter(filter)
        dense = self.store.search_dense(self.live, vector(1), limit=100, expression=expression)
        if self.store.capabilities().sparse:
            sparse = self.store.search_sparse(self.live, {1: 1.0}, limit=100, expression=expression)
            assert set(ids(dense)) == set(ids(sparse))
        return set(ids(dense))


HOSTILE = {
    "quote": 'say "hi"',
    "single": "it's",
    "backslash": "C:\\temp\\",
    "both": "\\\"' or true or '\"\\",
    "injection": '") or (true',
    "percent": "100%_off",
    "braces": "{context} ${x} {{y}}",
    "emoji": "😀 表情",
    "brackets": "a[0]['b']",
    "fullwidth": "全角\u3000空格",
}
HOSTILE_KEYS = ["部门", 'k"ey', "k'ey", "k\\ey", "a.b", "a b", "a]b", "k[0]", "source", "😀", "and", "%"]


@pytest.fixture(scope="module")
def filtered(store: ChunkStore) -> Iterator[Filtered]:
    made = generation()
    store.create(made.collection, DIMENSION, made.index)
    term = {1: 1.0}
    rows = [
        row(
            "p1",
            sparse=term,
            source="手册/年假.txt",
            page=1,
            heading="制度 > 年假",
            metadata={"部门": "人事", "年": 2024},
        ),
        row(
            "p2",
            sparse=term,
            source="手册/报销.txt",
            page=2,
            heading="制度 > 报销",
            metadata={"部门": "财务", "年": 2025},
        ),
        row("p3", sparse=term, source="guide.txt", page=3, metadata={"部门": "人事", "年": 2026.5, "公开": True}),
        row("p0", sparse=term, source="无页.txt", metadata={"公开": False, "年": "2024"}),
    ]
    rows += [row(f"v-{name}", sparse=term, source=f"x{v}", metadata={"v": v}, page=90) for name, v in HOSTILE.items()]
    rows += [
        row(f"k-{n}", sparse=term, source="k", metadata={key: "值"}, page=91) for n, key in enumerate(HOSTILE_KEYS)
    ]
    store.upsert(made.collection, rows)
    assert store.count(made.collection) == len(rows)  # a strong read: from here on every search sees them
    yield Filtered(store, made)
    store.drop(made.collection)


PAGES = {"page": {"lt": 10}}


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"source": {"eq": "guide.txt"}}, {"p3"}),
        ({"source": {"prefix": "手册/"}}, {"p1", "p2"}),
        ({"source": {"in": ["guide.txt", "手册/年假.txt", "没有"]}}, {"p1", "p3"}),
        ({"heading": {"prefix": "制度 > 报"}}, {"p2"}),
        ({"heading": {"eq": "制度 > 年假"}}, {"p1"}),
        ({"document_id": {"eq": "p1"}}, {"p1"}),
        ({"document_id": {"in": ["p1", "p3"]}}, {"p1", "p3"}),
        ({"page": {"eq": 2}}, {"p2"}),
        ({"page": {"lt": 2}}, {"p1"}),
        ({"page": {"lte": 2}}, {"p1", "p2"}),
        ({"page": {"gt": 1, "lt": 3}}, {"p2"}),
        ({"page": {"gte": 2, "lte": 3}}, {"p2", "p3"}),
        ({"page": {"in": [1, 3]}}, {"p1", "p3"}),
        ({"page": {"eq": 2.0}}, {"p2"}),
        ({"and": [PAGES, {"page": {"gte": 0}}]}, {"p1", "p2", "p3"}),
        ({"page": {"gt": -1, "lt": 3}}, {"p1", "p2"}),
        ({"page": {"in": [0, 1]}}, {"p1"}),
        ({"page": {"lt": 0}}, set()),
        ({"and": [PAGES, {"page": {"ne": 2}}]}, {"p1", "p3"}),
        ({"metadata.部门": {"eq": "人事"}}, {"p1", "p3"}),
        ({"metadata.部门": {"in": ["财务", "人事"]}}, {"p1", "p2", "p3"}),
        ({"metadata.部门": {"prefix": "人"}}, {"p1", "p3"}),
        ({"metadata.年": {"eq": 2024}}, {"p1"}),
        ({"metadata.年": {"eq": "2024"}}, {"p0"}),
        ({"metadata.年": {"gt": 2024, "lt": 2026}}, {"p2"}),
        ({"metadata.年": {"gte": 2025}}, {"p2", "p3"}),
        ({"metadata.年": {"lt": 2026.6, "gt": 2026.4}}, {"p3"}),
        ({"metadata.年": {"in": [2024, "2024"]}}, {"p1", "p0"}),
        ({"metadata.公开": {"eq": True}}, {"p3"}),
        ({"metadata.公开": {"eq": False}}, {"p0"}),
        ({"and": [{"metadata.部门": {"eq": "人事"}}, {"page": {"gt": 1}}]}, {"p3"}),
        ({"or": [{"page": {"eq": 1}}, {"metadata.部门": {"eq": "财务"}}]}, {"p1", "p2"}),
        ({"and": [PAGES, {"not": {"metadata.部门": {"eq": "人事"}}}]}, {"p2"}),
        ({"not": {"not": {"page": {"eq": 1}}}}, {"p1"}),
        ({"not": {"or": [{"page": {"gte": 2}}, {"source": {"eq": "无页.txt"}}]}}, {"p1"}),
        ({"and": [PAGES, {"not": {"page": {"in": [1, 2]}}}]}, {"p3"}),
        ({"and": [PAGES, {"not": {"source": {"prefix": "手册/"}}}]}, {"p3"}),
        ({"and": [PAGES, {"not": {"metadata.部门": {"prefix": "人"}}}]}, {"p2"}),
        ({"and": [PAGES, {"not": {"page": {"gt": 1, "lt": 3}}}]}, {"p1", "p3"}),
        ({"and": [PAGES, {"not": {"and": [{"page": {"gte": 2}}, {"metadata.部门": {"eq": "人事"}}]}}]}, {"p1", "p2"}),
        ({"page": {"eq": 1}, "metadata.部门": {"eq": "财务"}}, set()),
        ({"metadata.没有": {"eq": "x"}}, set()),
        ({"source": {"gt": "手册/", "lt": "手册0"}}, {"p1", "p2"}),
    ],
    ids=str,
)
def test_filters_mean_what_they_say(filtered: Filtered, filter: dict[str, Any], expected: set[str]) -> None:
    assert filtered.matching(filter) == expected


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", ["source", "metadata.v"])
def test_hostile_values_are_values(filtered: Filtered, field: str, name: str) -> None:
    value = HOSTILE[name] if field == "metadata.v" else f"x{HOSTILE[name]}"
    assert filtered.matching({field: {"eq": value}}) == {f"v-{name}"}
    assert filtered.matching({field: {"in": [value, "nothing"]}}) == {f"v-{name}"}


@pytest.mark.parametrize("number", range(len(HOSTILE_KEYS)), ids=HOSTILE_KEYS)
def test_hostile_keys_are_keys(filtered: Filtered, number: int) -> None:
    assert filtered.matching({f"metadata.{HOSTILE_KEYS[number]}": {"eq": "值"}}) == {f"k-{number}"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_prefixes_are_prefixes(filtered: Filtered, name: str) -> None:
    prefix = HOSTILE[name][:5]
    assert filtered.matching({"metadata.v": {"prefix": prefix}}) == {f"v-{name}"}


def test_ne_is_the_opposite_of_eq(filtered: Filtered) -> None:
    everything = filtered.matching({"page": {"ne": 0}})
    assert len(everything) == 4 + len(HOSTILE) + len(HOSTILE_KEYS)
    for field, value in (("source", "guide.txt"), ("page", 2)):
        assert filtered.matching({field: {"ne": value}}) == everything - filtered.matching({field: {"eq": value}})


def test_largest_filters_that_are_accepted_are_evaluated(filtered: Filtered) -> None:
    pages = [{"page": {"eq": number}} for number in range(2, 90)]
    assert filtered.matching({"or": pages}) == {"p2", "p3"}
    assert filtered.matching({"and": [PAGES, {"not": {"or": pages}}]}) == {"p1"}
    many = [f"{number} {'长' * 100}" for number in range(396)] + ["guide.txt"]
    assert filtered.matching({"source": {"in": many}}) == {"p3"}
    assert filtered.matching({"metadata.部门": {"in": [*many[:-1], "财务"]}}) == {"p2"}
    deep: dict[str, Any] = {"or": [{"page": {"eq": number}} for number in (1, 2, 4, 5, 6, 7, 8)]}
    for level in range(15):
        deep = {"and": [deep, {"page": {"lt": 99}}]} if level % 2 else {"or": [deep, {"page": {"eq": 3}}]}
    assert filtered.matching(deep) == {"p1", "p2", "p3"}


@pytest.mark.parametrize("number", [0, -1, 2**62, -(2**62), 1e300, -1e-300, 0.1], ids=str)
def test_every_number_is_taken(filtered: Filtered, number: float) -> None:
    assert filtered.matching({"metadata.年": {"eq": number}}) == set()
    if isinstance(number, int):
        assert filtered.matching({"page": {"eq": number}}) == set()


# Aliases


def test_alias_follows_the_collection_it_is_pointed_to(store: ChunkStore, spares: Spares) -> None:
    old, new = spares.take(), spares.take()
    for collection in (old.collection, new.collection, new.collection):
        store.point_alias("员工手册 2026", collection)
        assert store.aliases(collection) == [alias_of("员工手册 2026")] * store.capabilities().aliases
    for collection in (old.collection, new.collection):  # the second with its alias
        store.drop(collection)
        assert collection not in store.collections()
    another = spares.take()
    store.point_alias("员工手册 2026", another.collection)
    assert store.aliases(another.collection) == [alias_of("员工手册 2026")] * store.capabilities().aliases


def test_alias_that_cannot_be_pointed_is_no_error(store: ChunkStore) -> None:
    store.point_alias("员工手册", "kb_none")


# Failures


@pytest.mark.parametrize("engine", ["milvus-2.3.5"], indirect=True)
@pytest.mark.parametrize("token", ["root:wrong", "nobody:Milvus", ""])
def test_wrong_token_is_said_at_once(engine: Server, token: str) -> None:
    store = ChunkStore(engine.url, token=token, timeout=10)
    started = time.monotonic()
    for call in (store.ping, store.capabilities, store.collections):
        with pytest.raises(Unavailable, match=r"milvus-unauthorized.*ZHIWEN_MILVUS_TOKEN"):
            call()
    assert time.monotonic() - started < 5
    store.close()


@pytest.fixture(params=ENGINES)
def own_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """An engine that a test may kill."""
    with running(ENGINES[request.param](tmp_path)) as server:
        yield server
        server.kill()


def _answers(store: ChunkStore, collection: str) -> bool:
    try:
        return store.count(collection) >= 0
    except Unavailable:  # a real server answers before its collections are loaded again
        return False


def test_killed_engine_keeps_what_it_acknowledged_and_the_store_finds_it_again(own_engine: Server) -> None:
    store = ChunkStore(own_engine.url, token=ROOT_TOKEN, timeout=10)
    live = generation()
    store.create(live.collection, DIMENSION, live.index)
    for batch in range(5):
        store.upsert(live.collection, [row(f"d{batch}", n, sparse={1: 1.0}) for n in range(100)])
        if batch == 2:
            store.flush(live.collection)
    own_engine.kill()
    with pytest.raises(Unavailable, match="milvus-unavailable"):
        store.count(live.collection)
    own_engine.start()
    wait_until(lambda: _answers(store, live.collection), 90, "the collection did not come back")
    assert store.count(live.collection) == 500
    assert len(store.search_dense(live, vector(1), limit=1000)) == 500
    if store.capabilities().sparse:
        assert len(store.search_sparse(live, {1: 1.0}, limit=1000)) == 500
    store.upsert(live.collection, [row("d9")])
    assert store.count(live.collection) == 501
    store.drop(live.collection)
    store.close()


def test_engine_that_is_gone_is_unavailable_in_good_time() -> None:
    store = ChunkStore(f"unix:{socket_path('nobody.sock')}", timeout=2)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="milvus-unavailable"):
        store.ping()
    assert time.monotonic() - started < 12
    store.close()


def test_closed_store_may_be_closed_again(engine: Server) -> None:
    store = ChunkStore(engine.url, token=ROOT_TOKEN)
    store.ping()
    store.close()
    store.close()
