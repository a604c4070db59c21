"""Where words begin and end, for both halves of retrieval: runs of Chinese characters and words of other scripts."""

from __future__ import annotations

import re
from functools import lru_cache
from threading import local
from typing import Final

import Stemmer

from zhiwen.common.lexical.folding import fold_text

HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUNS: Final = re.compile(f"([{HAN}]+)|([^\\W_{HAN}]+)")
_CHINESE: Final = re.compile(f"[{HAN}]")
_LONGEST_WORD: Final = 64
_threads: Final = local()


def runs(text: str) -> list[tuple[str, str]]:
    """Return the folded text's runs in order, each as (Chinese characters, "") or ("", other word or number)."""
    return _RUNS.findall(fold_text(text))


def character_pairs(run: str) -> list[str]:
    """Return every two neighbouring characters."""
    return [run[i : i + 2] for i in range(len(run) - 1)]


def is_chinese(text: str) -> bool:
    """Say whether the text is written in Chinese: at least one character for every two other words."""
    found = _RUNS.findall(text)
    chinese = sum(len(han) for han, _ in found)
    return chinese > 0 and 2 * chinese >= sum(1 for _, word in found if word)


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Return the English Snowball stem of a folded word, cut to 64 characters; digits stay as they are."""
    if not hasattr(_threads, "stemmer"):
        _threads.stemmer = Stemmer.Stemmer("english", 0)  # PyStemmer's objects are not shared between threads
    return str(_threads.stemmer.stemWord(word[:_LONGEST_WORD]))


def starts_chinese(term: str) -> bool:
    """Say whether the term's first character is a Chinese one."""
    return _CHINESE.match(term) is not None
