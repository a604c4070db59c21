"""Which marks an answer has, which statement each stands for, and whether its passage carries it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.common.answering.examples import chunks_of
from zhiwen.common.answering.citations import citations_of
from zhiwen.common.answering.marks import MOST_MARKS, marks_of
from zhiwen.common.answering.pieces import cut
from zhiwen.common.api.questions import Citation, SourceOut
from zhiwen.common.lexical.translations import Translations


def passage(n: int, text: str, heading: str = "", source: str = "手册.md") -> SourceOut:
    return SourceOut(
        chunk_id=f"d{n}:1:0",
        document_id=f"d{n}",
        source=source,
        page=n,
        heading=heading,
        text=text,
        score=0.5,
        rerank_score=None,
        metadata={},
        n=n,
    )


LEAVE = "入职满一年的员工每年有十天带薪年假，须提前三天申请。工作满二十年的，享有二十五天。"
SICK = "病假需要医院证明，三天以内可以用诊所的单据。"
TEN_DAYS = "The annual leave policy grants ten days of paid leave per year."
ENGLISH = f"{TEN_DAYS} Apply three days ahead to Ms. Chen in HR. Prices rose 3.5% in March 2024 to 1,200 yuan."
PRICES = "产品,价格\n水泵,1200 元\n阀门,300 元\n"
PROJECT = "项目于2024年3月5日启动，预算为1.2万元，占百分之五十。系统使用 Milvus 2.6 存储向量。"
PASSAGES = [
    passage(1, LEAVE, "员工手册 > 年假"),
    passage(2, SICK, "病假"),
    passage(3, ENGLISH, "Leave", "guide.txt"),
    passage(4, PRICES),
    passage(5, PROJECT),
]
TABLE = Translations.load()


def checked(answer: str, translations: Translations | None = TABLE) -> list[Citation]:
    return citations_of(answer, PASSAGES, translations)


# Which marks there are


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("", []),
        ("年假十天。", []),
        ("年假十天。[1]", [1]),
        ("年假十天[1]。病假[2]。", [1, 2]),
        ("年假[2]病假[1][2]", [2, 1, 2]),
        ("年假[1, 2]", [1, 2]),
        ("年假[1,2，3]", [1, 2, 3]),
        ("年假[1、2]", [1, 2]),
        ("年假[1; 3]", [1, 3]),
        ("年假[1-3]", [1, 2, 3]),
        ("年假[1–3, 5]", [1, 2, 3, 5]),
        ("年假[3-1]", [3, 1]),
        ("年假[1-900]", [1, 900]),
        ("年假【1】", [1]),
        ("年假［1］", [1]),
        ("年假［１］【２】", [1, 2]),
        ("年假[１２]", [12]),
        ("年假[^1]", [1]),
        ("年假[ 1 ]", [1]),
        ("leave [1] and [2].", [1, 2]),
        ("**年假十天**[1]", [1]),
        ("年假十天。[0][9]", [0, 9]),
        ("年假[1](https://example.org)", []),
        ("see [text](https://example.org) and [1](#one)", []),
        ("[1]: https://example.org\n年假[2]", [2]),
        ("[^1]: 员工手册", []),
        ("`arr[1]`", []),
        ("```\narr[1] = 2\n```\n年假[2]", [2]),
        ("~~~py\narr[1]\n~~~", []),
        ("```\narr[1]", []),
        ("[2024] [12345] [n] [] [a1] [1a] [-1] [1.5]", []),
        ("<think>第一条说[3]</think>年假十天。[1]", [1]),
        ("[1" * 50, []),
    ],
    ids=ascii,
)
def test_marks(answer: str, numbers: list[int]) -> None:
    assert [mark.n for mark in checked(answer)] == numbers
    assert [n for mark in marks_of(answer) for n in mark.numbers] == numbers
    assert all(answer[mark.end - 1] in "]】］" for mark in marks_of(answer))


# Which statement a mark stands for: only one of the two passages carries it


@pytest.mark.parametrize(
    ("answer", "supported"),
    [
        ("每年有十天年假[1]。病假需要医院证明[2]。", [True, True]),
        ("每年有十天年假。[1]病假需要医院证明。[2]", [True, True]),
        ("每年有十天年假。[1]\n病假需要医院证明。[2]", [True, True]),
        ("每年有十天年假。[2]病假需要医院证明。[1]", [False, False]),
        ("每年有十天年假，[1]病假需要医院证明。[2]", [True, True]),
        ("病假需要医院证明。每年有十天年假。[1]", [True]),
        ("病假需要医院证明。每年有十天年假。[2]", [False]),
        ("每年有十天年假[1][2]", [True, False]),
        ("每年有十天年假[1]、[2]", [True, False]),
        ("每年有十天年假[1, 2]", [True, False]),
        ("每年有十天年假[1]。[1]", [True, True]),
        ("1. 每年有十天年假[1]\n2. 病假需要医院证明[2]", [True, True]),
        ("- 每年有十天年假 [1]\n- 病假需要医院证明 [2]", [True, True]),
        ("[1] 每年有十天年假。\n[2] 病假需要医院证明。", [True, True]),
        ("根据[1]，每年有十天年假。根据[2]，病假需要医院证明。", [True, True]),
        ("According to [3], there are ten days of paid leave per year.", [True]),
        ("年假：\n每年有十天[1]", [True]),
        ("| 年假 | 每年十天 [1] |\n| 病假 | 医院证明 [2] |", [True, True]),
        ("[1]", [False]),
        ("。[1]", [False]),
    ],
    ids=ascii,
)
def test_mark_stands_for_the_statement_before_it(answer: str, supported: list[bool]) -> None:
    assert [mark.supported for mark in checked(answer)] == supported


# Whether a passage carries a statement


@pytest.mark.parametrize(
    ("statement", "n", "quote"),
    [
        ("每年有10天年假", 1, "入职满一年的员工每年有十天带薪年假，须提前三天申请。"),
        ("員工每年有十天帶薪年假", 1, "入职满一年的员工每年有十天带薪年假，须提前三天申请。"),
        ("工作满20年享有25天", 1, "工作满二十年的，享有二十五天。"),
        ("根据已知信息，病假需要提供医院的证明", 2, SICK),
        ("三天以内的病假可用诊所单据", 2, SICK),
        (
            "Employees get 10 days of paid annual leave",
            3,
            "The annual leave policy grants ten days of paid leave per year.",
        ),
        ("Leave must be applied for three days ahead", 3, "Apply three days ahead to Ms. Chen in HR."),
        ("Ms. Chen in HR takes applications", 3, "Apply three days ahead to Ms. Chen in HR."),
        ("The price went up 3.5 percent in March 2024", 3, "Prices rose 3.5% in March 2024 to 1,200 yuan."),
        ("It is 1200 yuan since the price rose", 3, "Prices rose 3.5% in March 2024 to 1,200 yuan."),
        ("水泵的价格是1200元", 4, "水泵,1200 元"),
        ("阀门价格为三百元", 4, "阀门,300 元"),
        ("产品：水泵；价格：1200 元", 4, "水泵,1200 元"),
        ("产品:阀门,价格:300 元", 4, "阀门,300 元"),
        ("水泵的价格是1200元，阀门的价格是300元", 4, "阀门,300 元"),
        ("项目2024-03-05启动", 5, "项目于2024年3月5日启动，预算为1.2万元，占百分之五十。"),
        ("预算12000元，占50%", 5, "项目于2024年3月5日启动，预算为1.2万元，占百分之五十。"),
        ("向量存储在 Milvus 中", 5, "系统使用 Milvus 2.6 存储向量。"),
        # across languages
        ("员工每年有10天带薪假期", 3, TEN_DAYS),
        ("价格在2024年3月上涨了3.5%", 3, "Prices rose 3.5% in March 2024 to 1,200 yuan."),
        ("Employees have ten days of paid leave a year", 1, "入职满一年的员工每年有十天带薪年假，须提前三天申请。"),
        ("The vectors are stored by the system in Milvus", 5, "系统使用 Milvus 2.6 存储向量。"),
    ],
    ids=ascii,
)
def test_supported_statements_have_their_sentence(statement: str, n: int, quote: str) -> None:
    (mark,) = checked(f"{statement}。[{n}]")
    assert (mark.supported, mark.quote) == (True, quote)
    source = PASSAGES[n - 1]
    assert (mark.n, mark.document_id, mark.page, mark.heading) == (n, f"d{n}", n, source.heading)
    assert mark.start is not None
    assert source.text[mark.start : mark.end] == quote


@pytest.mark.parametrize(
    ("statement", "n"),
    [
        ("每年有15天年假", 1),
        ("每年有十五天年假", 1),
        ("工作满二十年的员工每年有十天", 1),
        ("工作满二十年的员工，每年享有十天", 1),
        ("病假每年有十天", 2),
        ("病假需要提前五天申请", 2),
        ("婚假需要结婚证明原件和户口本", 2),
        ("年假十天", 2),
        ("Employees get 12 days of paid leave", 3),
        ("Apply three days ahead to Mr. Wang", 3),
        ("Sick leave needs a doctor's note", 3),
        ("The price rose in April 2023", 3),
        ("水泵的价格是300元", 4),
        ("阀门的价格是1200元", 4),
        ("产品:水泵,价格:300 元", 4),
        ("水泵1200元，阀门400元", 4),
        ("项目于2024年3月6日启动", 5),
        ("预算为12万元", 5),
        ("系统使用 Qdrant 存储向量", 5),
        # across languages
        ("员工每年有12天带薪假期", 3),
        ("病假需要医院证明", 3),
        ("Sick leave needs a certificate of a hospital", 1),
        ("年假十天。", 9),
    ],
    ids=ascii,
)
def test_statements_without_support(statement: str, n: int) -> None:
    (mark,) = checked(f"{statement}[{n}]")
    assert (mark.n, mark.supported, mark.quote, mark.start, mark.end) == (n, False, None, None, None)
    assert mark.document_id == (None if n == 9 else f"d{n}")


@pytest.mark.parametrize(
    ("statement", "n", "supported"),
    [
        ("员工每年有10天带薪假期", 3, True),
        ("员工每年有11天带薪假期", 3, False),
        ("带薪假期", 3, False),
        ("The budget is 12000 yuan", 5, True),
        ("Vectors are in Milvus", 5, True),
        ("Vectors are stored", 5, False),
    ],
)
def test_without_a_table_numbers_and_names_decide_across_languages(statement: str, n: int, supported: bool) -> None:
    assert [mark.supported for mark in checked(f"{statement}[{n}]", None)] == [supported]


def test_rows_stay_apart_and_wrapped_lines_come_together() -> None:
    wrapped = "Employees who have worked for ten years are\nentitled to fifteen days of annual leave."
    text = f"{wrapped}\n\n名称 价格\n水泵 1200\n"
    answer = "After ten years employees get fifteen days of leave.[1]\n水泵的价格是1200[1]"
    (sentence, row) = citations_of(answer, [passage(1, text)])
    assert sentence.quote == wrapped
    assert row.quote == "水泵 1200"


def test_marks_after_the_first_two_hundred_are_left_out() -> None:
    assert len(checked("年假十天[1]。" * 500)) == MOST_MARKS
    assert len(checked("年假[1-50]" * 50)) == MOST_MARKS


pieces = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["[1]", "[1-2]", "【2】", "年假十天。", "ten days. ", "\n", "`", "1.2万", "百分之五", "İ", "ﬁ", "\0", "[^2]"]
    ),
)
texts = st.lists(pieces, max_size=12).map("".join)


@settings(deadline=None)
@given(texts, texts, st.booleans())
def test_quotes_are_where_they_say_in_any_text(said: str, text: str, repeats: bool) -> None:
    answer = f"{text}[1]{said}[1]" if repeats else f"{said}[1][2]"
    for mark in citations_of(answer, [passage(1, text)], TABLE):
        assert mark.supported is (mark.quote is not None)
        if mark.quote is not None:
            assert mark.start is not None
            assert text[mark.start : mark.end] == mark.quote == mark.quote.strip() != ""


@pytest.mark.parametrize(
    "unit",
    [
        "[1]",
        "[",
        "[1,",
        "[1-",
        "1",
        "一",
        "十分",
        "百分之",
        "`",
        "```",
        "年假十天。",
        "a[1]",
        "\n[1]:",
        " ",
        ">",
        "1,000",
    ],
    ids=ascii,
)
def test_hostile_text_costs_little(unit: str) -> None:
    long = unit * (60_000 // len(unit))
    started = time.process_time()
    citations_of(f"{long}[1]", [passage(1, long)])
    assert time.process_time() - started < 3.0


def test_every_row_of_a_table_carries_its_own_quote() -> None:
    for chunk in [
        *chunks_of("员工手册.docx"),
        *chunks_of("lab-equipment-inventory.xlsx"),
        *chunks_of("产品价格表.csv"),
    ]:
        rows = [piece for piece in cut(0, chunk) if piece.columns]
        answer = " ".join(f"{row.quoted.rstrip(';；,，:：')}[1]" for row in rows)
        found = citations_of(answer, [passage(1, chunk.text).model_copy(update={"heading": chunk.heading})])
        assert [(mark.start, mark.end, mark.supported) for mark in found] == [(r.start, r.end, True) for r in rows]


def test_a_row_with_the_cells_of_others_is_not_supported() -> None:
    text = "工作年限 | 每年年假天数 | 一次最长连休\n满10年不满20年 | 15天 | 10天\n满20年 | 20天 | 15天"
    (wrong,) = citations_of("工作年限：满20年；每年年假天数：25天；一次最长连休：16天[1]", [passage(1, text)])
    assert not wrong.supported


@pytest.mark.parametrize(
    ("document", "mark", "answer", "supported"),
    [
        ("员工手册.docx", "工作年限", "工作满二十年的员工每年有20天年假。[1]", True),
        ("员工手册.docx", "工作年限", "工作满二十年的员工每年有25天年假。[1]", False),
        ("员工手册.docx", "工作年限", "工作满5年不满10年的，年假为10天。[1]", True),
        ("产品价格表.csv", "LS-P411", "LS-P411 的含税单价为7800元，交货期30天。[1]", True),
        ("产品价格表.csv", "LS-P411", "LS-P411 的含税单价为5900元。[1]", False),
        ("lab-equipment-inventory.xlsx", "EQ-0140", "The autoclave is in room C207.[1]", True),
        ("swift-e2-ebike-manual.docx", "E55", "E55 means a charger error.[1]", True),
        ("swift-e2-ebike-manual.docx", "E55", "E55 means that the motor is too hot.[1]", False),
    ],
)
def test_a_row_carries_what_a_model_makes_of_it(document: str, mark: str, answer: str, supported: bool) -> None:
    chunk = next(chunk for chunk in chunks_of(document) if mark in chunk.text)
    (found,) = citations_of(answer, [passage(1, chunk.text, chunk.heading)])
    assert found.supported == supported
