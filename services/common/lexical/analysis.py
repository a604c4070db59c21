"""Turns a text into terms: folds it, cuts it into words, stems English words, and drops the stop words of questions.

Documents and questions go through the same steps, so 「後裡」 finds 「后里」, "Ｍｉｌｖｕｓ" finds "milvus" and
"née" finds "nee". Terms are for matching only: the stored text does not change. An index holds the terms of its
documents, so after a change here every index must be built again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import local
from typing import Final
from zlib import crc32

FOLDING_TABLE: Final = Path(__file__).parents[1] / "data" / "folding" / "traditional_to_simplified.txt"
HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""The ranges of Chinese characters, for a character class of a regular expression."""

_COMBINING_MARKS: Final = re.compile("[\u0300-\u036f]+")
_RUNS: Final = re.compile(f"([{HAN}]+)|([^\\W_{HAN}]+)")
_CHINESE: Final = re.compile(f"[{HAN}]")
_LONGEST_WORD: Final = 64
_CHARACTERS_A_WORD: Final = 1.7  # the average length of a Chinese word
_LONGEST_PHRASE: Final = 3
_LARGEST_ID: Final = 2**32 - 2  # Milvus reserves 2**32 - 1
_threads: Final = local()

# Stop words: grammar, question words and the fillers of everyday questions (怎么办, please), which do not tell what a
# question is about. Only questions lose them, and only if other words remain. The English ones are Snowball stems, the
# Chinese ones are Simplified.
ENGLISH_STOPWORDS: Final = frozenset(
    """a about after all also am an and ani are as at be becaus been befor be but by can could d did do doe dure each
    for from had has have he hello her hi him his how i if in into is it just know ll m mani me more most much my no nor
    not of on one or other our out over pleas re s shall she should so some such t than thank that the their them then
    there these they this those to under until up us ve want was we were what when where which while who whom whose whi
    will with would you your""".split()
)
CHINESE_STOPWORDS: Final = frozenset(
    """的 了 是 在 和 与 及 或 吗 呢 吧 啊 呀 嘛 么 什么 哪 哪些 哪个 哪里 哪儿 哪种 哪位 哪一 哪一个 哪年 谁 怎么 怎样
    怎么样 什么样 如何 为什么 为何 何 何时 多少 几 几个 有 被 把 对 从 到 由 于 以 为 之 其 而 也 都 就 这 那 这个 那个
    这些 那些 它 他 她 它们 他们 她们 我 你 您 我们 你们 请问 请 个 一个 中 上 下 里 时 时候 是否 有没有 咋 咋办 咋样
    咋回事 啥 为啥 怎么办 么办 怎么回事 干嘛 求助 急 谢谢 你好 您好 大家 大家好 呗 嘞 哈 哦 啦 一下 问 问一下 想问 想
    知道 是不是 能不能 可不可以 会不会 要不要 咱 咱们 该""".split()
)
FUNCTION_CHARACTERS: Final = frozenset("的了是在和与及或吗呢吧啊呀嘛么什哪谁怎何几些这那它他她我你您咋啥")
"""A pair of neighbouring characters that holds one of these is grammar, not a word (`是谁`, `的人`)."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """The terms of a text in order, with repeats, and the length of the text in words, Chinese or other."""

    terms: tuple[str, ...]
    length: float


@dataclass(frozen=True, slots=True)
class Question:
    """The distinct terms of a question, and its distinct words and phrases to translate."""

    terms: tuple[str, ...]
    phrases: tuple[str, ...]


def analyze(text: str) -> Analysis:
    """Return the terms of a document: Chinese words and character pairs, stems of other words, digits.

    The pairs match where the segmenter cuts a question and a document differently. A word of two characters is both a
    word and a pair, so it counts twice.
    """
    terms: list[str] = []
    length = 0.0
    for han, word in runs(text):
        if han:
            terms += segmented(han)
            terms += character_pairs(han)
            length += len(han) / _CHARACTERS_A_WORD
        else:
            terms.append(stem(word))
            length += 1
    return Analysis(tuple(terms), length)


def analyze_question(text: str) -> Question:
    """Return the terms of a question without stop words; if it has only stop words, return all of its terms.

    The phrases are its words, and two or three neighbouring stems joined by spaces. Stems of stop words are included.
    """
    terms: list[str] = []
    phrases: list[str] = []
    everything: list[str] = []
    stems: list[str] = []
    for han, word in runs(text):
        if han:
            words = segmented(han)
            telling = [w for w in words if w not in CHINESE_STOPWORDS]
            pairs = character_pairs(han)
            terms += telling
            terms += [pair for pair in pairs if not FUNCTION_CHARACTERS.intersection(pair)]
            phrases += telling
            everything += [*words, *pairs]
        else:
            stems.append(stem(word))
    telling = [s for s in stems if s not in ENGLISH_STOPWORDS]
    terms += telling
    everything += stems
    phrases += telling
    phrases += [" ".join(stems[i : i + n]) for n in range(2, _LONGEST_PHRASE + 1) for i in range(len(stems) - n + 1)]
    return Question(_distinct(terms) or _distinct(everything), _distinct(phrases))


def _distinct(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def term_id(term: str) -> int:
    """Return the number of a term in a sparse vector, 0..2**32-2: the CRC-32 of its UTF-8 bytes."""
    return min(crc32(term.encode()), _LARGEST_ID)


# Words


def runs(text: str) -> list[tuple[str, str]]:
    """Return the runs of the folded text in order: (Chinese characters, "") or ("", another word or a number)."""
    return _RUNS.findall(fold_text(text))


def segmented(han: str) -> list[str]:
    """Return the words of a run of Chinese characters, and shorter words inside long ones (jieba's search mode)."""
    import rjieba  # it takes 0.25 s, and not every process needs it

    return list(rjieba.cut_for_search(han, True))


def tagged(text: str) -> list[tuple[str, str]]:
    """Return the words of a text in order, each with jieba's part of speech (`上海`, `ns`).

    Spaces and punctuation marks are words too. The words are in lower case and Simplified. They join up to a text of
    the same length, so their places are those of the given text.
    """
    import rjieba

    plain = "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
    return list(rjieba.tag(plain.translate(traditional_to_simplified()), True))


def character_pairs(run: str) -> list[str]:
    """Return every pair of neighbouring characters."""
    return [run[i : i + 2] for i in range(len(run) - 1)]


def stem(word: str) -> str:
    """Return the English Snowball stem of a folded word, cut to 64 characters. Digits do not change."""
    return _stem(word if len(word) <= _LONGEST_WORD else word[:_LONGEST_WORD])


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    if not hasattr(_threads, "stemmer"):
        import Stemmer  # the ingest API is installed without it

        _threads.stemmer = Stemmer.Stemmer("english", 0)  # PyStemmer's objects must not be shared between threads
    return str(_threads.stemmer.stemWord(word))


def is_chinese(text: str) -> bool:
    """Return whether the text is in Chinese: it has at least one Chinese character for every two other words."""
    found = _RUNS.findall(text)
    chinese = sum(len(han) for han, _ in found)
    return chinese > 0 and 2 * chinese >= sum(1 for _, word in found if word)


def starts_chinese(term: str) -> bool:
    """Return whether the first character of a term is Chinese."""
    return _CHINESE.match(term) is not None


# Folding


def fold_text(text: str) -> str:
    """Return the text in lower case, compatibility-normalised, without Latin accents, and in Simplified Chinese.

    Folding a folded text changes nothing. Only the combining marks U+0300-036F are dropped (Unicode NFKD, then NFC), so
    Hangul and kana keep their parts.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    bare = unicodedata.normalize("NFC", _COMBINING_MARKS.sub("", decomposed))
    return bare.translate(traditional_to_simplified()).lower()


@lru_cache(maxsize=1)
def traditional_to_simplified() -> dict[int, int]:
    """Return the code-point table {Traditional: Simplified} for `str.translate`.

    Its file has two lines of equal length, made from OpenCC's `TSCharacters` (Apache-2.0). The table leaves out
    characters that are also correct in Simplified text (乾, 著, 瞭).
    """
    traditional, simplified = FOLDING_TABLE.read_text(encoding="utf-8").splitlines()
    return {ord(old): ord(new) for old, new in zip(traditional, simplified, strict=True)}
