"""A stand-in for spaCy, for `unstructured` only and inside a parser child only.

`unstructured` uses spaCy to guess whether a paragraph is a title or narrative text, and downloads an English model at
its first use. Its guesses are wrong for Chinese, and our reader ignores them: a title is what the document marks as a
title. So `unstructured` gets a blank pipeline without a download and without tags. It saves 3 s and 200 MB over the
real package with a blank model.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

WORD = re.compile(r"[A-Za-z0-9_'-]+|[^\sA-Za-z0-9_'-]")


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a sentence, without a tag."""

    text: str
    tag_: str = ""


@dataclass(frozen=True, slots=True)
class Doc:
    """A text that iterates over its words, as spaCy's `Doc` does."""

    text: str

    def __iter__(self) -> Iterator[Token]:
        return (Token(word) for word in WORD.findall(self.text))

    @property
    def sents(self) -> list[Token]:
        return [Token(part) for part in re.split(r"(?<=[.!?。！？])\s*", self.text) if part]


class BlankPipeline:
    """The result of `spacy.load`: it makes a `Doc` of each text."""

    max_length = 1_000_000

    def __call__(self, text: str) -> Doc:
        return Doc(text)


def install() -> None:
    """Install the stand-in as the module `spacy`. Call this before `unstructured` is imported."""
    if "spacy" not in sys.modules:
        module = ModuleType("spacy", __doc__)
        vars(module)["load"] = lambda *_args, **_kwargs: BlankPipeline()
        sys.modules["spacy"] = module
