"""Which chunks of a document a worker offers to the sample, and what it asks the ledger for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from zhiwen.common.embedding.background import slot_and_hash, vectors_of
from zhiwen.common.embedding.base import Vectors
from zhiwen.common.embedding.fake import HashEmbedder
from zhiwen.common.embedding.static import StaticEmbedder
from zhiwen.common.errors import ServiceError
from zhiwen.common.models import Sampled, chunk_id
from zhiwen.ingest.worker.sampling import FRESH_SECONDS, SampledHashes, Sampler

IDS = [chunk_id("d" * 32, 1, ordinal) for ordinal in range(6)]
TEXTS = [f"第{n}条。员工年假为{n}天。" for n in range(6)]


@dataclass
class Reading:
    """The ledger's answer, which counts how often it is asked, and a clock."""

    answer: dict[int, int]
    asked: list[int] = field(default_factory=list)
    now: float = 0.0

    def __call__(self, generation_id: int) -> dict[int, int]:
        self.asked.append(generation_id)
        return self.answer

    def clock(self) -> float:
        return self.now


def test_unknown_model_shows_its_skill_with_the_halves_and_a_known_one_does_not() -> None:
    embedder = HashEmbedder()
    sampler = Sampler(embedder, {})
    vectors = embedder.embed_passages(TEXTS)
    sampler.offer(IDS, TEXTS, vectors)
    chosen = sampler.chosen()
    assert [row.slot for row in chosen] == sorted({slot_and_hash(id)[0] for id in IDS})
    for row in chosen:
        assert vectors_of([row.vector])[0] == pytest.approx(vectors[row.ordinal], abs=1e-3)
        assert row.opening == _bytes(embedder, f"第{row.ordinal}条。")
        assert row.rest == _bytes(embedder, f"员工年假为{row.ordinal}天。")
    built_in = StaticEmbedder()
    known = Sampler(built_in, {})
    known.offer(IDS, TEXTS, built_in.embed_passages(TEXTS))
    assert {(row.opening, row.rest) for row in known.chosen()} == {(None, None)}


def _bytes(embedder: HashEmbedder, text: str) -> bytes:
    return bytes(embedder.embed_passages([text])[0].astype("<f2").tobytes())


def test_only_a_lower_hash_takes_a_slot() -> None:
    embedder = HashEmbedder()
    slot, value = slot_and_hash(IDS[0])
    for known, expected in ((value, 0), (value + 1, 1)):
        sampler = Sampler(embedder, {slot: known})
        sampler.offer(IDS[:1], TEXTS[:1], embedder.embed_passages(TEXTS[:1]))
        assert len(sampler.chosen()) == expected


def test_ledger_is_asked_once_a_minute() -> None:
    reading = Reading({3: 10})
    hashes = SampledHashes(reading, clock=reading.clock)
    assert hashes.known(1) == hashes.known(1) == {3: 10}
    hashes.learn(1, [Sampled(3, 5, 0, b""), Sampled(4, 7, 1, b"")])
    hashes.learn(1, [Sampled(3, 6, 2, b"")])
    assert hashes.known(1) == {3: 5, 4: 7}
    assert reading.asked == [1]
    reading.now = FRESH_SECONDS
    reading.answer = {4: 7}  # the document of slot 3 is gone
    assert hashes.known(1) == {4: 7}
    assert hashes.known(2) == {4: 7}
    assert reading.asked == [1, 1, 2]


class Refusing(HashEmbedder):
    """A server that refuses questions, as some refuse texts that are empty."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        raise ServiceError("embedding-failed", "The embedding server refused.", status=502)


def test_halves_that_cannot_be_embedded_stop_no_document() -> None:
    embedder = Refusing()
    sampler = Sampler(embedder, {})
    sampler.offer(IDS, TEXTS, embedder.embed_passages(TEXTS))
    chosen = sampler.chosen()
    assert chosen
    assert {(row.opening, row.rest) for row in chosen} == {(None, None)}


def test_text_of_one_character_has_no_halves() -> None:
    embedder = HashEmbedder()
    sampler = Sampler(embedder, {})
    sampler.offer(IDS[:1], ["好"], embedder.embed_passages(["好"]))
    assert [(row.opening, row.rest) for row in sampler.chosen()] == [(None, None)]
