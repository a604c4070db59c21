"""An index holds the terms of a text, their ids, its tokens and its vector. They must never change.

A knowledge base that was built before an upgrade works after it only if the same text still gives the same numbers. If
a test here fails, every index must be built again.

The tokens and vectors are those of the built-in model. They may change only together with its name (ADR 42): the worker
then rebuilds the knowledge bases of the old name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from zhiwen.common.embedding.static import DEFAULT_ARTIFACT, StaticEmbedder, Tokenizer
from zhiwen.common.lexical.analysis import analyze
from zhiwen.common.lexical.bm25 import document_vector, query_vector
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.lexical.translations import Translations


@dataclass(frozen=True, slots=True)
class Indexed:
    """A text, and what the index holds of it: `rows` are those of the embedder's table."""

    text: str
    terms: str
    length: float
    ids: tuple[int, ...]
    rows: tuple[int, ...]
    tokens: int
    vector: tuple[float, ...]
    """The first numbers of its embedding."""


INDEXED = [
    Indexed(
        "员工入职满一年后，每年享有 10 天带薪年假。",
        "员工 入 职满 一年 后 员工 工入 入职 职满 满一 一年 年后 每年 享有 每年 年享 享有 10 "
        "天 带薪 年 假 天带 带薪 薪年 年假",
        11.0,
        (
            *(19690704, 152422636, 418718726, 724168548, 889825784, 1618493315, 1622181689, 1634165682, 1800659186),
            *(2262906360, 2303319060, 2354102709, 2510232158, 2707236321, 2816179702, 2841880893, 2900667980),
            *(2954948656, 3251147050, 4262425709),
        ),
        (
            *(6005, 6016, 6078, 6093, 6229, 6293, 6567, 6802, 6841, 6939, 7198, 7205),
            *(7246, 7358, 8882, 13297, 20969, 25845, 26878, 29637, 31431, 48058, 98345),
        ),
        20,
        (0.00519644, -0.11953460, 0.04034508, -0.03629264),
    ),
    Indexed(
        "资料库與網絡：Ｍｉｌｖｕｓ 2.5.1 之後裡",
        "资料 资料库 与 网络 资料 料库 库与 与网 网络 milvus 2 5 1 之后 里 之后 后里",
        9 / 1.7 + 4,
        (
            *(62796793, 84782788, 450215437, 490006306, 725768567, 936686373, 1810419688, 2008427513, 2212294583),
            *(2226203566, 2319353734, 3384734650, 3488650526, 4067308586),
        ),
        (
            *(6078, 6110, 6134, 6149, 6165, 6396, 6467, 6468, 6482, 6586),
            *(6892, 6913, 6961, 6969, 9814, 14038, 28352, 77413, 99945),
        ),
        16,
        (0.00810949, 0.03205449, -0.03230618, -0.05228224),
    ),
    Indexed(
        "Universities' databases were running; café Skłodowska-Curie née naïve",
        "universiti databas were run cafe skłodowska curi nee naiv",
        9.0,
        (
            *(789873259, 1337818896, 1347213360, 1349952704, 1938485186, 2556048653, 3110191185, 3184366984),
            3203529436,
        ),
        (1492, 6367, 7130, 7589, 12466, 18868, 30531, 43391, 118947),
        16,
        (-0.01848709, -0.07449724, 0.03080769, -0.00918467),
    ),
    Indexed(
        "GPT4模型 v2.5.1，e.g. U.S. 3.14％ ①②",
        "gpt4 模型 模型 v2 5 1 e g u s 3 14 12",
        2 / 1.7 + 11,
        (
            *(30677878, 453955339, 1330857165, 1842515611, 2212294583, 2226203566, 2788221432, 3114479793, 4024072794),
            *(4033584399, 4067256894, 4275969148),
        ),
        (6098, 6110, 6130, 6140, 6224, 6482, 6642, 6709, 7009, 7825, 8732, 8847, 9199),
        22,
        (-0.04299938, -0.07526629, -0.05635924, 0.03698942),
    ),
    Indexed(
        "한국어 カタカナ ｶﾅ 𠀀𠀁 😀 snake_case",
        "한국어 カタカナ カナ 𠀀𠀁 𠀀𠀁 snake case",
        2 / 1.7 + 5,
        (1366125470, 2013829380, 2307436890, 2358697021, 3325655606, 4184791386),
        (6619, 31986, 78826),
        9,
        (-0.00589451, 0.00092951, 0.10915472, 0.08846655),
    ),
    Indexed("", "", 0.0, (), (), 0, (1.0, 0.0, 0.0, 0.0)),
]
EACH = pytest.mark.parametrize("indexed", INDEXED, ids=lambda indexed: indexed.text[:12])


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    return StaticEmbedder()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokens = (DEFAULT_ARTIFACT / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
    return Tokenizer({token: row for row, token in enumerate(tokens)})


@EACH
def test_terms_and_their_ids_stay(indexed: Indexed) -> None:
    analysis = analyze(indexed.text)
    assert " ".join(analysis.terms) == indexed.terms
    assert analysis.length == pytest.approx(indexed.length)
    assert tuple(sorted(document_vector(analysis))) == indexed.ids


@EACH
def test_tokens_of_the_static_embedder_stay(tokenizer: Tokenizer, embedder: StaticEmbedder, indexed: Indexed) -> None:
    assert tuple(tokenizer.rows(indexed.text)) == indexed.rows
    assert embedder.count_tokens(indexed.text) == indexed.tokens


@EACH
def test_vectors_of_the_static_embedder_stay(embedder: StaticEmbedder, indexed: Indexed) -> None:
    assert embedder.embed_passages([indexed.text])[0][:4] == pytest.approx(np.array(indexed.vector), abs=1e-6)


@pytest.mark.parametrize(
    ("question", "weights", "normaliser"),
    [
        ("年假有几天？", {2841880893: 3.79028, 19690704: 4.267364, 2262906360: 4.267364}, 23.056960),
        (
            "What is a university database?",
            {3184366984: 4.036325, 1347213360: 3.094308, 62796793: 3.840627},
            7.130633,
        ),
    ],
)
def test_questions_are_weighed_as_before(question: str, weights: dict[int, float], normaliser: float) -> None:
    statistics = TermStatistics.of([document_vector(analyze(indexed.text)) for indexed in INDEXED])
    query = query_vector(question, statistics, Translations.load())
    assert query.weights == pytest.approx(weights, rel=1e-5)
    assert query.normaliser == pytest.approx(normaliser, rel=1e-5)
