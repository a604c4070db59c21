"""Words that say nothing about what a question is about: grammar and question words, Chinese and English.

They are left out of questions only (and only while something else remains), never out of documents. English words
are Snowball stems, Chinese ones Simplified, as `zhiwen.common.lexical.bm25` sees them.
"""

from __future__ import annotations

from typing import Final

ENGLISH: Final = frozenset(
    """a about after all also am an and ani are as at be becaus been befor be but by can could d did do doe dure each
    for from had has have he her him his how i if in into is it ll m mani me more most much my no nor not of on one or
    other our out over re s shall she should so some such t than that the their them then there these they this
    those to under until up us ve was we were what when where which while who whom whose whi will with would you
    your""".split()  # noqa: SIM905
)

CHINESE: Final = frozenset(
    """的 了 是 在 和 与 及 或 吗 呢 吧 啊 呀 嘛 么 什么 哪 哪些 哪个 哪里 哪儿 哪种 哪位 哪一 哪一个 哪年 谁 怎么 怎样
    怎么样 什么样 如何 为什么 为何 何 何时 多少 几 几个 有 被 把 对 从 到 由 于 以 为 之 其 而 也 都 就 这 那 这个 那个
    这些 那些 它 他 她 它们 他们 她们 我 你 您 我们 你们 请问 请 个 一个 中 上 下 里 时 时候 是否 有没有""".split()  # noqa: SIM905
)

FUNCTION_CHARACTERS: Final = frozenset("的了是在和与及或吗呢吧啊呀嘛么什哪谁怎何几些这那它他她我你您")
"""A pair of neighbouring characters with one of these is grammar, not a word (`是谁`, `的人`)."""
