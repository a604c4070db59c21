"""The quotes hold the answer: on the example documents, and whatever the text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.common.answering.examples import chunks_with
from zhiwen.common.answering.knowledge import WordKnowledge, built_in_knowledge
from zhiwen.common.answering.pieces import LONGEST_PIECE, LONGEST_ROW, Passage
from zhiwen.common.answering.quoting import LONGEST_ANSWER, MAX_QUOTES, Quote, choose_quotes

HANDBOOK, PRICES, PARTS = "员工手册.docx", "产品价格表.csv", "spare-parts-price-list.csv"
INVENTORY, EBIKE, SUPPLIERS = "lab-equipment-inventory.xlsx", "swift-e2-ebike-manual.docx", "供应商质量培训.pptx"


def quotes(question: str, passages: list[Passage]) -> tuple[Quote, ...]:
    return choose_quotes(question, passages, built_in_knowledge()).quotes


@pytest.mark.parametrize(
    ("question", "document", "mark", "row"),
    [
        ("工作满二十年有几天年假？", HANDBOOK, "工作年限", "工作年限：满20年；每年年假天数：20天；一次最长连休：15天"),
        (
            "工龄三十年的老员工年假几天？",
            HANDBOOK,
            "工作年限",
            "工作年限：满20年；每年年假天数：20天；一次最长连休：15天",
        ),
        (
            "工作满十五年有几天年假？",
            HANDBOOK,
            "工作年限",
            "工作年限：满10年不满20年；每年年假天数：15天；一次最长连休：10天",
        ),
        (
            "工作满6年的员工一年有几天年假？",
            HANDBOOK,
            "工作年限",
            "工作年限：满5年不满10年；每年年假天数：10天；一次最长连休：8天",
        ),
        (
            "工作滿二十年有幾天年假？",
            HANDBOOK,
            "工作年限",
            "工作年限：满20年；每年年假天数：20天；一次最长连休：15天",
        ),
        (
            "得分82分是哪一级，检验方式是什么？",
            SUPPLIERS,
            "年度得分",
            "级别：B级；年度得分：75至89分；检验方式：按AQL 1.0抽样检验；付款周期：45天",
        ),
        (
            "LS-P411的价格是多少？",
            PRICES,
            "LS-P411",
            "产品编号：LS-P411；产品名称：隔膜计量泵；规格：0至120升每小时，PVDF泵头；单位：台；"
            "含税单价（元）：7800.00；起订量：1；交货期（天）：30；备注：适用于强酸强碱",
        ),
        (
            "When was the freezer bought?",
            INVENTORY,
            "EQ-0135",
            "Asset: EQ-0135; Equipment: Freezer minus 80 degrees, 700 litres; Room: C205; Purchased: 2018-10-12; "
            "Price (EUR): 13400; Calibration due: not needed; Responsible group: Biology; "
            "Remarks: Defrost every December; alarm goes to extension 4477",
        ),
        (
            "What does error E21 mean?",
            EBIKE,
            "E21",
            "Code: E21; Meaning: Motor too hot; What to do: Ride without assistance for 10 minutes",
        ),
        (
            "What is the weight with battery?",
            EBIKE,
            "Weight with battery",
            "Item: Weight with battery; Value: 22.8 kg",
        ),
    ],
)
def test_the_row_that_is_meant_is_quoted_alone_with_its_columns(
    question: str, document: str, mark: str, row: str
) -> None:
    found = [quote.text for quote in quotes(question, chunks_with(document, mark))]
    assert row in found
    columns = row.split("：" if "：" in row else ": ")[0]
    assert [text for text in found if text.startswith(columns)] == [row]


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("球阀DN50多少钱一个", "LS-V103"),
        ("LS-P402 满20台有多少折扣？", "LS-P402"),  # another row holds the number 20
    ],
)
def test_code_decides_where_the_number_means_another_row(question: str, row: str) -> None:
    assert row in quotes(question, chunks_with(PRICES, "LS-V101", "LS-P402"))[0].text


@pytest.mark.parametrize(
    ("question", "document", "marks", "answer"),
    [
        ("报销单要在多久之内提交？", HANDBOOK, ["报销单应在", "带薪年假"], "报销单应在费用发生后的30天内提交"),
        ("試用期員工離職要提前幾天通知？", HANDBOOK, ["书面通知", "试用期工资"], "试用期员工提前3天"),
        ("how many days of paternity leave do employees get", HANDBOOK, ["陪产假为15天"], "陪产假为15天"),
        ("充满电要多长时间？", EBIKE, ["Charging time", "frozen battery"], "4 h 15 min to 100 percent"),
        ("How long is the warranty of the motor?", EBIKE, ["ten years", "Wipe and oil"], "the motor of three years"),
        ("Which cable is the longest?", PARTS, ["BW-1052", "BW-1001"], "Longest length supported"),
        ("图书逾期每天收多少滞纳金？", "社区图书馆借阅规则.txt", ["滞纳金0.2元"], "滞纳金0.2元"),
        (
            "Who may decide to restore over production?",
            "database-backup-runbook.txt",
            ["Only the incident lead", "base backup runs"],
            "Only the incident lead may decide to restore over production.",
        ),
    ],
)
def test_the_sentence_with_the_answer_is_quoted(question: str, document: str, marks: list[str], answer: str) -> None:
    assert answer in " ".join(quote.text for quote in quotes(question, chunks_with(document, *marks)))


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        ("哪年建成？", "大桥很长。大桥建于桥头。大桥于1957年建成。大桥的建成很重要。", "大桥于1957年建成。"),
        ("大桥有多长？", "大桥横跨长江。大桥全长1670米。", "大桥全长1670米。"),
        ("When was it opened?", "It was opened by the mayor. The bridge was opened in May 1957.", "in May 1957."),
        ("Why was it closed?", "It was closed. It was closed because of ice.", "because of ice."),
        ("谁设计了大桥？", "大桥设计得很好。大桥由茅以升设计。", "大桥由茅以升设计。"),
    ],
)
def test_what_is_asked_for_is_preferred(question: str, text: str, answer: str) -> None:
    best = choose_quotes(question, [Passage(1, "", text)], built_in_knowledge())
    assert best.described.pieces[best.chosen[0]].quoted.endswith(answer)


@pytest.mark.parametrize(
    ("question", "first", "second", "code"),
    [
        ("What should I do when the charger shows E55?", (EBIKE, "E55"), (EBIKE, "Charge the battery only"), "E55"),
        ("LS-P411的价格是多少？", (PRICES, "LS-P411"), (SUPPLIERS, "价格占20分"), "LS-P411"),
    ],
)
def test_the_row_with_the_asked_code_rules_out_the_rest(
    question: str, first: tuple[str, str], second: tuple[str, str], code: str
) -> None:
    passages = [*chunks_with(*first), *(Passage(2, p.heading, p.text) for p in chunks_with(*second))]
    found = quotes(question, passages)
    assert found
    assert all(code in quote.text for quote in found)


def test_headings_and_table_headers_are_not_quoted() -> None:
    passages = chunks_with(HANDBOOK, "工作年限") + chunks_with(PRICES, "LS-P411")
    for question in ("三、假期", "产品编号 产品名称 含税单价", "每年年假天数是多少？"):
        for quote in quotes(question, passages):
            assert quote.text not in {"三、假期", "一、入职与试用期"}
            assert "工作年限：工作年限" not in quote.text
            assert not quote.text.startswith("产品编号：产品编号")


def test_the_same_sentence_of_two_chunks_is_quoted_once() -> None:
    sentence = "报销单应在费用发生后的30天内提交。"
    found = quotes("报销单多久提交？", [Passage(1, "", sentence), Passage(2, "", f"前一句话。{sentence}")])
    assert [quote.text for quote in found].count(sentence) == 1


def test_an_english_sentence_that_shares_only_a_translation_does_not_stand_beside_a_chinese_answer() -> None:
    passages = [
        Passage(1, "", "发票遗失的，凭开票方盖章的存根复印件报销。"),
        Passage(2, "", "No accident with lost time in 214 days. Lost invoices were found again."),
    ]
    assert {quote.number for quote in quotes("发票丢了怎么报销？", passages)} == {1}


def test_nothing_shared_gives_no_quote() -> None:
    assert quotes("月球到地球的距离是多少？", [Passage(1, "", "报销须在三十天内提交。")]) == ()
    assert quotes("年假？", []) == ()
    assert quotes("", [Passage(1, "", "报销须在三十天内提交。")]) == ()


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        (
            "how heavy is the Swift E2?",
            "Swift E2 electric bicycle: owner's manual\nThank you for riding.\nThe Swift E2 weighs 22.8 kg.",
            "The Swift E2 weighs 22.8 kg.",
        ),
        (
            "When is the garden open?",
            "Rooftop garden: a guide > Opening hours\nOpening hours\nThe garden is open until 22:00.",
            "The garden is open until 22:00.",
        ),
        ("What colour is the pump?", "Pump colour: dark blue\nPump weight: 4 kg", "Pump colour: dark blue"),
        (
            "What is the correction fee for a heavier parcel?",
            "Islands add a day. A parcel that is heavier costs a correction fee of 4.80 euros plus the\n"
            "difference in price.",
            "A parcel that is heavier costs a correction fee of 4.80 euros plus the difference in price.",
        ),
        (
            "How many pupils may visit?",
            "Residents may buy shares from 250 euros; 412 signed\nSchool visits: at most 25 pupils at a time",
            "School visits: at most 25 pupils at a time",
        ),
    ],
)
def test_titles_are_no_answers_and_broken_lines_are_whole(question: str, text: str, answer: str) -> None:
    found = [quote.text for quote in quotes(question, [Passage(1, "", text)])]
    assert answer in found
    assert text.partition("\n")[0] not in found or text.startswith(answer)


def test_a_long_sentence_is_cut_at_clauses() -> None:
    text = (
        "，".join(f"第{n}条规定的内容写在附录里" for n in range(60)) + "，押金为一百元，" + "其余不变，" * 80 + "完。"
    )
    found = quotes("押金是多少元？", [Passage(1, "", text)])
    assert any("押金为一百元" in quote.text for quote in found)
    assert all(len(quote.text) <= LONGEST_PIECE for quote in found)


def test_a_row_with_endless_cells_is_not_quoted_with_all_its_columns() -> None:
    names = [f"the name of column {chr(97 + n % 26)}" for n in range(120)]
    cells = ["x"] * 118 + ["deposit", "100"]
    found = quotes("how much is the deposit?", [Passage(1, "", f"{' | '.join(names)}\n{' | '.join(cells)}")])
    assert len(found[0].text) <= LONGEST_ROW
    assert "deposit" in found[0].text


def test_without_tables_the_words_themselves_still_match() -> None:
    found = choose_quotes("押金是多少？", [Passage(3, "", "办证免费。押金为一百元。")], WordKnowledge()).quotes
    assert found[0].text == "押金为一百元。"
    assert found[0].number == 3


def _compact(text: str) -> str:
    return "".join(text.split())


TEXTS = st.text(
    st.sampled_from("年假有十天工作满二 \n.。!？;，|-#:：12 ab ABC the is of（）\t'\"“”") | st.characters(),
    max_size=300,
)


@given(st.text(max_size=60) | TEXTS, st.lists(TEXTS, max_size=4))
def test_any_text_gives_few_quotes_that_stand_in_their_passages(question: str, texts: list[str]) -> None:
    passages = [Passage(number, "", text) for number, text in enumerate(texts, 1)]
    found = quotes(question, passages)
    assert found == quotes(question, passages)
    assert len(found) <= MAX_QUOTES
    assert sum(len(quote.text) for quote in found) <= LONGEST_ANSWER
    for quote in found:
        source = passages[quote.number - 1].text[quote.start : quote.end]
        if "|" in source:
            for cell in re.split(r"[|]", source):
                assert _compact(cell) in _compact(quote.text)
        else:
            assert quote.text == " ".join(source.split())


@pytest.mark.parametrize(
    "text",
    [
        "年" * 200_000,
        "1" * 200_000,
        "满" * 200_000,
        "a " * 100_000,
        "." * 200_000,
        "| " * 100_000,
        "一二三十百" * 40_000,
        "满1年不" * 40_000,
        "how many days " * 15_000,
        "，" * 200_000,
        "A.B " * 50_000,
        "\n" * 200_000,
    ],
)
@pytest.mark.parametrize("question", ["工作满二十年有几天年假？", "how many days"])
def test_hostile_text_costs_little(question: str, text: str) -> None:
    quotes("年", [Passage(1, "", "年")])
    started = time.process_time()
    quotes(question, [Passage(number, "", text) for number in range(1, 6)])
    assert time.process_time() - started < 2.0


def test_a_hostile_question_costs_little() -> None:
    started = time.process_time()
    quotes("年假" * 50_000, [Passage(1, "", "年假有十天。" * 50)])
    assert time.process_time() - started < 2.0
