"""The checked search. Only this module checks what a client asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zhiwen.common.api.questions import AskBody, SearchBody
from zhiwen.common.errors import InvalidRequest
from zhiwen.common.models import Fusion, Hit, KnowledgeBase, Mode
from zhiwen.common.store.index_specs import validated_search
from zhiwen.query.search.filters import compile_filter

_NEARLY_NO_WORD = 0.01


@dataclass(frozen=True, slots=True)
class SearchRules:
    """What the service's settings say about every search."""

    max_question_characters: int
    min_confidence: float
    """Below this confidence, what was found is shown as the closest passages and not as an answer.

    A knowledge base may have a value of its own.
    """
    cross_language: bool
    """Whether to search texts in the other language, if neither the request nor the knowledge base says."""
    fusion: Fusion
    """What orders the hits of a hybrid search, if the request does not say."""
    has_reranker: bool

    def is_sure(self, confidence: float, base: KnowledgeBase) -> bool:
        """Return True when what was found with this confidence counts as an answer of the knowledge base."""
        least = self.min_confidence if base.min_confidence is None else base.min_confidence
        return confidence >= least

    def shares_nothing(self, hits: Sequence[Hit], chance_score: float) -> bool:
        """Return True only when neither a word nor the meaning of the question is in any hit.

        Then no hit matches a word or a translation, and the dense score of each is below `chance_score`, that of
        unrelated chunks. When the words were not searched, the meaning alone does not say enough to give up, unless
        there is no hit.
        """
        return all(_shares_nothing(hit, chance_score) for hit in hits)


@dataclass(frozen=True, slots=True)
class Search:
    """A checked search of one knowledge base. Nothing that receives one checks it again."""

    query: str
    top_k: int
    mode: Mode = "hybrid"
    """What to search. The connected Milvus may lack it, which only the retriever checks."""
    fusion: Fusion = "relevance"
    expression: str = ""
    """The filter in Milvus's filter language; "" for none."""
    min_score: float | None = None
    """Hits with a lower score are left out; None keeps all."""
    neighbours: int = 0
    """How many chunks before and after each hit are added to its text."""
    params: Mapping[str, int] = field(default_factory=dict)
    """Search parameters of the index. They override those of the knowledge base."""
    cross_language: bool = True
    rerank: bool = False
    dense_weight: float | None = None
    """The weight of the dense half in a hybrid search; None: that of the knowledge base."""

    def passes(self, hit: Hit) -> bool:
        """Return True when the hit scores enough."""
        return hit.score >= self.least_score

    @property
    def least_score(self) -> float:
        """The lowest score that can pass."""
        return self.min_score or 0.0


def checked_search(body: SearchBody | AskBody, base: KnowledgeBase, rules: SearchRules) -> Search:
    """Check a request and return its search.

    Raises `InvalidRequest` for the first mistake in this order: `empty-question`, `question-too-long`,
    `bad-search-parameter`, `bad-filter`, `rerank-not-configured`.
    """
    match body:
        case SearchBody():
            question, params, neighbours = body.query, body.params or {}, body.neighbours
        case AskBody():
            question, params, neighbours = body.question, {}, 0
    _check_question(question, rules.max_question_characters)
    params = validated_search(base.live.index, params)
    expression = compile_filter(body.filter)
    rerank = _reranks(body.rerank, rules)
    return Search(
        query=question,
        top_k=body.top_k,
        mode=body.mode,
        fusion=body.fusion or rules.fusion,
        expression=expression,
        min_score=body.min_score,
        neighbours=neighbours,
        params=params,
        cross_language=_crosses_languages(body.cross_language, base, rules),
        rerank=rerank,
        dense_weight=body.dense_weight,
    )


def _shares_nothing(hit: Hit, chance_score: float) -> bool:
    if hit.full_text_score is None:
        return False
    return hit.full_text_score < _NEARLY_NO_WORD and (hit.dense_score or 0.0) < chance_score


def _check_question(question: str, max_characters: int) -> None:
    if not question.strip():
        raise InvalidRequest("empty-question", "The question is empty.")
    if len(question) > max_characters:
        raise InvalidRequest("question-too-long", f"A question may be at most {max_characters} characters long.")


def _reranks(asked: bool | None, rules: SearchRules) -> bool:
    """Return whether to rerank: as the request says, or by default when a reranker is configured."""
    if asked and not rules.has_reranker:
        raise InvalidRequest(
            "rerank-not-configured", "No reranker is configured; see ZHIWEN_RERANK_MODEL and ZHIWEN_RERANK_URL."
        )
    return rules.has_reranker if asked is None else asked


def _crosses_languages(asked: bool | None, base: KnowledgeBase, rules: SearchRules) -> bool:
    """Return whether to search texts in the other language: request, then knowledge base, then service decide."""
    if asked is not None:
        return asked
    return rules.cross_language if base.cross_language is None else base.cross_language
