"""Prompt templates, and the detection of refusals. Pure.

A prompt template is any text with `{context}` and `{question}`. It is filled in one pass. So a placeholder inside a
document or a question stays plain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from zhiwen.common.errors import InvalidRequest
from zhiwen.common.lexical.analysis import is_chinese

EXTRACTIVE_MODEL = "zhiwen-extractive"
"""The name of the gateway's built-in answerer. It quotes the documents and is not a language model."""

# Refusals: the texts that the templates ask a model for, and how to recognise them.

REFUSAL = "根据已知信息无法回答该问题"
"""The answer to a Chinese question when the documents do not hold one."""
_NOT_ENOUGH = "没有提供足够的相关信息"
ENGLISH_REFUSAL = "The question cannot be answered from the known information"
"""The answer to any other question when the documents do not hold one."""
_REFUSALS = (REFUSAL, _NOT_ENOUGH, ENGLISH_REFUSAL)
_BEFORE_REFUSAL = " \n\t“”\"'「『"
"""White space and quotation marks: models repeat the ones that the template puts around the refusal."""


def is_refusal(answer: str) -> bool:
    """Return whether an answer begins with a refusal. Quotation marks and white space before it are ignored."""
    return answer.lstrip(_BEFORE_REFUSAL).startswith(_REFUSALS)


def refusal_for(question: str) -> str:
    """Return the refusal in the language of the question."""
    return REFUSAL if is_chinese(question) else ENGLISH_REFUSAL


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
