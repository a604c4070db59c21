"""Prompt templates (design section 5). Pure.

A template is any text with `{context}` and `{question}`. Filling is one pass over the template, so that braces or
template words inside a document or a question are text, never syntax.
"""

from __future__ import annotations

import re

from services.common.errors import InvalidRequest

CHINESE_TEMPLATE = """已知信息:{context}
根据上述已知信息,简洁和专业的来回答用户的问题。如果无法从中得到答案,请说 “根据已知信息无法回答该问题” 或 “没有提供足够的相关信息”,不允许在答案中添加编造成分,答案请使用中文。
问题是:{question}"""  # noqa: E501

ENGLISH_TEMPLATE = """Known information:
{context}
Based on the known information above, answer the user's question concisely and professionally. If the answer cannot be found there, say "The question cannot be answered from the known information" and do not make anything up. Answer in English.
Question: {question}"""  # noqa: E501

REFUSAL = "根据已知信息无法回答该问题"

_PLACEHOLDER = re.compile(r"\{(context|question)\}")


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
