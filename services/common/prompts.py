"""Prompt templates, the texts that surround an answer, and the detection of refusals. Pure.

A prompt template is any text with `{context}` and `{question}`. It is filled in one pass. So a placeholder inside a
document or a question stays plain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from zhiwen.common.errors import InvalidRequest
from zhiwen.common.lexical.analysis import fold_text, is_chinese
from zhiwen.common.lexical.sentences import split_sentences

EXTRACTIVE_MODEL = "zhiwen-extractive"
"""The name of the gateway's built-in answerer. It quotes the documents and is not a language model."""

# Refusals: the texts that the templates ask a model for, and how to recognise what models make of them.

REFUSAL = "根据已知信息无法回答该问题"
"""The answer to a Chinese question when the documents do not hold one."""
_NOT_ENOUGH = "没有提供足够的相关信息"
ENGLISH_REFUSAL = "The question cannot be answered from the known information"
"""The answer to any other question when the documents do not hold one."""

_LONGEST_REFUSAL: Final = 600
"""How many characters of an answer are looked at."""
_QUOTES: Final = "\"'“”‘’「」『』«»‹›`*_#>~"
_AROUND: Final = _QUOTES + " \t\r\n\u3000"
_MARK: Final = re.compile(r"\[\^?\d{1,3}\]|【\d{1,3}】")
_THOUGHT: Final = re.compile(r"</think>", re.IGNORECASE)
_GREETING: Final = re.compile(
    r"(?:(?:answer|回答|答案?)\s*[:：]\s*)?"
    r"(?:(?:非常|十分|很|真的)?(?:抱歉|对不起|不好意思|遗憾)|(?:(?:i'm|i am|we're|we are)\s+(?:very |so )?)?sorry"
    r"|my apologies|(?:i|we) apologi[sz]e|unfortunately|regrettably)?"
    r"[\s,，。.!！:：;；、-]*(?:(?:but|that)\s+)?"
)
# Where a refusal ends: with the text or its line, or before a comma, a bracket or a reason.
_END: Final = (
    rf"(?=[{re.escape(_QUOTES)})\]】]*"
    r"(?:\s*\Z|[ \t]*\n|\s*[,，。.!！?？;；:：、…(（\[【—-]|\s+(?:because|since|as|due)\b))"
)


def _one_of(words: str) -> str:
    """Return a pattern of any of these words. A longer word comes before its beginning."""
    return f"(?:{'|'.join(sorted(words.split(), key=len, reverse=True))})"


# What a refusal calls too little: 根据上述已知信息，, 文档中, "based on the provided documents,".
_HAN_NOUN: Final = _one_of("信息 资讯 资料 内容 文档 文件 材料 上下文 知识库 段落 片段")
_HAN_BASIS: Final = (
    r"仅?只?" + _one_of("根据 基于 依据 按照 从 由 在 就 凭 以") + "?"
    rf"{_one_of('上述 以上 目前 当前 现有 您 你 所 我 已知 提供 给出 给定 检索到 参考 相关 有 的')}{{0,5}}"
    rf"{_HAN_NOUN}{{1,2}}{_one_of('当中 之中 中 里 内 来看 而言')}?\s*[,，、]?\s*"
)
_NOUN: Final = (
    r"(?:the |this |these |your |our |any )?"
    r"(?:(?:above|known|provided|given|available|supplied|retrieved|relevant|current|numbered) ){0,3}"
    r"(?:information|context|documents?|passages?|sources?|texts?|knowledge base|data|materials?)"
    r"(?: (?:above|provided|given|available|supplied))?"
)
_BASIS: Final = (
    rf"(?:based |solely |only ){{0,2}}(?:on|from|with|using|by|given|according to|in|within) (?:only )?{_NOUN}"
)
_THE_QUESTION: Final = "(?:the|this|that|your) question"
_HAN_QUESTION: Final = _one_of("该 这个 这一 此 您 您的 你 你的 上述 用户 用户的 本 的") + r"?(?:问题|提问|答案)"
_HAN_CANNOT: Final = _one_of("无法 不能 没法 难以 不足以 不能够 无从")
_CANNOT: Final = r"(?:can ?not|can't|could ?not|couldn't|(?:am|are) (?:not able|unable) to)"
_REFUSES: Final = re.compile(
    "(?:"
    + "|".join(
        (
            rf"(?:{_HAN_BASIS})?我?{_one_of('并 还 暂时 目前 实在 尚')}?{_HAN_CANNOT}"
            rf"{_one_of('直接 准确 确切 完整 明确 从中')}?地?{_one_of('回答 解答 得出 得到 给出 作答')}"
            rf"(?:出|到)?(?:关于)?(?:{_HAN_QUESTION})?(?:的?答案)?",
            rf"(?:{_HAN_BASIS})?(?:并|还|暂)?{_one_of('没有 未能 未 缺乏 缺少')}"
            rf"{_one_of('提供 包含 给出 找到 检索到 查到')}?"
            rf"(?:足够|充分|充足|任何)?的?(?:相关|有关|可用|所需)?的?{_one_of('信息 资讯 资料 内容 答案')}"
            rf"(?:{_one_of('来 以 用来 可以 用于')}?(?:回答|解答)(?:{_HAN_QUESTION})?)?",
            rf"(?:{_BASIS},? )?{_THE_QUESTION} (?:can ?not|can't|could ?not|couldn't) be (?:fully |directly )?answered"
            rf"(?: {_BASIS})?",
            rf"(?:{_BASIS},? )?(?:i|we) {_CANNOT} (?:fully |directly )?answer(?: {_THE_QUESTION}| this| that| it)?"
            rf"(?: {_BASIS})?",
            rf"(?:{_BASIS},? )?it is (?:not possible|impossible) to answer {_THE_QUESTION}(?: {_BASIS})?",
            rf"(?:(?:there is|there's|{_NOUN} (?:does not|doesn't|do not|don't) (?:contain|provide|include|have)) )?"
            r"(?:not enough|insufficient|no|enough|any|sufficient) (?:relevant |sufficient )?information"
            rf"(?: (?:is |was )?(?:provided|given|available))?"
            rf"(?: (?:to answer|for answering|about|on) {_THE_QUESTION})?",
            r"我?不知道|i (?:do not|don't) know",
        )
    )
    + ")"
    + _END
)
# A whole sentence that says that something is not there: 文档中没有提到病假。
_SAYS_NOTHING: Final = re.compile(
    rf"{_HAN_BASIS}(?:都|均|并|还)?(?:没有|未曾?|不)(?:明确|具体|直接)?地?"
    rf"{_one_of('提到 提及 涉及 包含 包括 说明 提供 给出 记载 找到 写明 列出')}[^,，;；。]{{0,80}}"
    rf"|{_HAN_BASIS}(?:无法|不能)(?:从中)?{_one_of('确定 得知 判断 知道 获知 查到')}[^,，;；。]{{0,80}}"
    rf"|{_NOUN} (?:does not|doesn't|do not|don't|did not) (?:explicitly |directly |specifically )?"
    r"(?:mention|say|state|specify|contain|include|provide|cover|discuss|indicate)[^,;]{0,160}"
)
_GOES_ON: Final = re.compile(
    r"[\s,，。.;；:：]*(?:但是?|不过|然而|可是|只能|but|however|though|although|nevertheless|still)"
)


def is_refusal(answer: str) -> bool:
    """Return whether a model said that it cannot answer.

    A refusal is an answer whose first sentence refuses, or a short answer that says in every sentence that nothing is
    there. Letter case, Traditional characters, quotation marks, Markdown, `<think>…</think>` and a polite opening do
    not matter. An answer that only mentions a refusal, or that refuses a part and goes on to cite, is not one.
    """
    text = _spoken(answer)
    folded = _opened(text[:_LONGEST_REFUSAL])
    if refuses := _REFUSES.match(folded):
        return not (_GOES_ON.match(folded, refuses.end()) and _MARK.search(folded, refuses.end()))
    return len(text) < _LONGEST_REFUSAL and _says_nothing(text)


def _spoken(answer: str) -> str:
    """Return an answer without the thinking before it, and without what surrounds it."""
    thought = _THOUGHT.search(answer)
    return (answer[thought.end() :] if thought else answer).strip(_AROUND)


def _opened(text: str) -> str:
    """Return a text folded, and without a polite opening."""
    folded = fold_text(text).replace("’", "'").strip(_AROUND)
    greeting = _GREETING.match(folded)
    return folded[greeting.end() :].lstrip(_AROUND) if greeting else folded


def _says_nothing(text: str) -> bool:
    """Return whether every sentence of a text refuses or says that something is not there."""
    sentences = [_opened(_MARK.sub("", sentence)).rstrip(".。!！" + _AROUND) for sentence in split_sentences(text)]
    found = [sentence for sentence in sentences if sentence]
    return bool(found) and all(_REFUSES.match(s) or _SAYS_NOTHING.fullmatch(s) for s in found)


def refusal_for(question: str) -> str:
    """Return the refusal in the language of a question."""
    return REFUSAL if is_chinese(question) else ENGLISH_REFUSAL


_CLOSEST_CHINESE = "没有找到确切的答案，最接近的内容是：\n"
_CLOSEST_ENGLISH = "No certain answer was found. The closest passages say:\n"


def closest_note(question: str) -> str:
    """Return the line before quotes that may not answer a question, in the language of the question."""
    return _CLOSEST_CHINESE if is_chinese(question) else _CLOSEST_ENGLISH


CHINESE_TEMPLATE = (
    "已知信息:{context}\n"
    f"根据上述已知信息,简洁和专业的来回答用户的问题。如果无法从中得到答案,请说 “{REFUSAL}” 或 “{_NOT_ENOUGH}”,"
    "不允许在答案中添加编造成分,答案请使用中文。\n"
    "问题是:{question}"
)

ENGLISH_TEMPLATE = (
    "Known information:\n"
    "{context}\n"
    "Based on the known information above, answer the user's question concisely and professionally. If the answer "
    f'cannot be found there, say "{ENGLISH_REFUSAL}" and do not make anything up. Answer in English.\n'
    "Question: {question}"
)

_CITE_CHINESE = "请在每个陈述之后用 [n] 标明它所依据的信息的编号。\n"
_CITE_ENGLISH = "After each statement, give the number of the information that it rests on as [n].\n"


def prompt_for(question: str, context: str, *, template: str | None = None, ask_for_citations: bool = True) -> str:
    """Return the message that asks a model to answer `question` from the numbered passages `context`.

    `template` is a knowledge base's own, which is sent as it is. Without one, the question's language decides between
    the two templates, and with `ask_for_citations` a line before the template asks for marks [n]. Nothing follows the
    question.
    """
    if template is not None:
        return fill(template, context=context, question=question)
    chinese = is_chinese(question)
    line = (_CITE_CHINESE if chinese else _CITE_ENGLISH) if ask_for_citations else ""
    return line + fill(CHINESE_TEMPLATE if chinese else ENGLISH_TEMPLATE, context=context, question=question)


# Condensing: a follow-up question becomes one that stands alone; `{history}` are the last turns, one on each line.

CONDENSE_CHINESE = (
    "下面是一段对话和用户接着提出的问题。请把这个问题改写成一个不看对话也能明白的完整问题：补全其中的指代和省略，"
    "不要回答它，也不要添加对话里没有的内容。如果它本来就完整，就原样输出。只输出改写后的问题。\n"
    "\n"
    "对话:\n"
    "{history}\n"
    "\n"
    "接着的问题:{question}\n"
    "完整问题:"
)

CONDENSE_ENGLISH = (
    "Below are a conversation and the question that the user asks next. Rewrite that question so that it can be "
    "understood without the conversation: resolve what it refers to and leaves out, do not answer it, and add nothing "
    "that the conversation does not say. If it is complete already, repeat it as it is. Write the rewritten question "
    "only, in the language of the question.\n"
    "\n"
    "Conversation:\n"
    "{history}\n"
    "\n"
    "Next question: {question}\n"
    "Standalone question:"
)

_PLACEHOLDER = re.compile(r"\{(context|question)\}")
_CONDENSING_PLACEHOLDER = re.compile(r"\{(history|question)\}")


def validated_template(template: str) -> str:
    """Return `template`. Raises `InvalidRequest` (`bad-template`) if it lacks `{context}` or `{question}`."""
    found = set(_PLACEHOLDER.findall(template))
    if missing := {"context", "question"} - found:
        names = " and ".join(f"{{{name}}}" for name in sorted(missing))
        raise InvalidRequest("bad-template", f"The prompt template lacks {names}.")
    return template


def fill(template: str, *, context: str, question: str) -> str:
    """Put `context` and `question` into a template."""
    return _filled(template, _PLACEHOLDER, {"context": context, "question": question})


def fill_condensing(template: str, *, history: str, question: str) -> str:
    """Put `history` and `question` into a template that condenses a follow-up question."""
    return _filled(template, _CONDENSING_PLACEHOLDER, {"history": history, "question": question})


def _filled(template: str, placeholder: re.Pattern[str], values: Mapping[str, str]) -> str:
    return placeholder.sub(lambda match: values[match.group(1)], template)
