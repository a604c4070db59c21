"""Prompt templates (design section 5). Pure.

A template is any text with `{context}` and `{question}`. Filling is one pass over the template, so that braces or
template words inside a document or a question are text, never syntax.
"""

from __future__ import annotations

import re

from zhiwen.common.errors import InvalidRequest

CHINESE_TEMPLATE = """已知信息:{context}
根据上述已知信息,简洁和专业的来回答用户的问题。如果无法从中得到答案,请说 “根据已知信息无法回答该问题” 或 “没有提供足够的相关信息”,不允许在答案中添加编造成分,答案请使用中文。
问题是:{question}"""  # noqa: E501 (a prompt breaks its lines where the model is to read a break)

ENGLISH_TEMPLATE = """Known information:
{context}
Based on the known information above, answer the user's question concisely and professionally. If the answer cannot be found there, say "The question cannot be answered from the known information" and do not make anything up. Answer in English.
Question: {question}"""  # noqa: E501 (a prompt breaks its lines where the model is to read a break)

# A follow-up question becomes one that stands alone; `{history}` are the last turns, a line each.
CONDENSE_CHINESE = """下面是一段对话和用户接着提出的问题。请把这个问题改写成一个不看对话也能明白的完整问题：补全其中的指代和省略，不要回答它，也不要添加对话里没有的内容。如果它本来就完整，就原样输出。只输出改写后的问题。

对话:
{history}

接着的问题:{question}
完整问题:"""  # noqa: E501 (a prompt breaks its lines where the model is to read a break)

CONDENSE_ENGLISH = """Below are a conversation and the question that the user asks next. Rewrite that question so that it can be understood without the conversation: resolve what it refers to and leaves out, do not answer it, and add nothing that the conversation does not say. If it is complete already, repeat it as it is. Write the rewritten question only, in the language of the question.

Conversation:
{history}

Next question: {question}
Standalone question:"""  # noqa: E501 (a prompt breaks its lines where the model is to read a break)

REFUSAL = "根据已知信息无法回答该问题"
"""The answer where the documents hold none."""
REFUSALS = (REFUSAL, "没有提供足够的相关信息", "The question cannot be answered from the known information")
"""What the templates ask a model to say then."""
EXTRACTIVE_MODEL = "zhiwen-extractive"
"""The name of the gateway's built-in answerer, which quotes and is no language model."""

_PLACEHOLDER = re.compile(r"\{(context|question)\}")
_CONDENSING = re.compile(r"\{(history|question)\}")


def validated_template(template: str) -> str:
    """Return `template`. Raises `InvalidRequest` (`bad-template`) unless it has both placeholders once or more."""
    found = set(_PLACEHOLDER.findall(template))
    if missing := {"context", "question"} - found:
        names = " and ".join(f"{{{name}}}" for name in sorted(missing))
        raise InvalidRequest("bad-template", f"The prompt template lacks {names}.")
    return template


def fill(template: str, *, context: str, question: str) -> str:
    """Put `context` and `question` into a template."""
    values = {"context": context, "question": question}
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)


def fill_condensing(template: str, *, history: str, question: str) -> str:
    """Put `history` and `question` into a template that condenses a follow-up question."""
    values = {"history": history, "question": question}
    return _CONDENSING.sub(lambda match: values[match.group(1)], template)
