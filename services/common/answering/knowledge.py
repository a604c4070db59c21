"""What quoting knows about words besides the passages: translations, how usual they are, and which are similar."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from zhiwen.common.embedding.base import Embedder
from zhiwen.common.lexical.translations import Translations


@dataclass(frozen=True, slots=True)
class WordKnowledge:
    """`translations` also says how usual words are. `embedder` compares a question with pieces that share few words.

    Either may be None: then quoting does without.
    """

    translations: Translations | None = None
    embedder: Embedder | None = None


@lru_cache(maxsize=1)
def built_in_knowledge() -> WordKnowledge:
    """Return the word table and the embedding table of the package. The first call loads them, in about 0.2 s."""
    from zhiwen.common.embedding.static import StaticEmbedder

    return WordKnowledge(Translations.load(), StaticEmbedder())
