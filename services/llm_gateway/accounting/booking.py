"""Books each request once, when it ends: against its key's limits, in the used tokens, and in the conversation log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from zhiwen.common.telemetry import current_request_id
from zhiwen.llm_gateway import metrics
from zhiwen.llm_gateway.accounting.conversation_log import Conversation, ConversationLog
from zhiwen.llm_gateway.accounting.limits import Admission, Limiter, estimated_tokens
from zhiwen.llm_gateway.accounting.usage import UNMETERED, UsageTotals, usage_from
from zhiwen.llm_gateway.config import KeyLimits
from zhiwen.llm_gateway.passthrough.answer_stream import choice_texts
from zhiwen.llm_gateway.request import Endpoint, ModelRequest, messages_of, prompt_text

Ending = Literal["complete", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Books:
    """The limiter, the used tokens and the conversation log. `conversations` is None when no log is kept."""

    limiter: Limiter
    usage: UsageTotals
    conversations: ConversationLog | None

    async def open(self, request: ModelRequest, *, key: str, model: str, limits: KeyLimits | None) -> Booking:
        """Admit a request and return the booking to close when it ends. Raises `TooMany` when it is over a limit.

        `key` is the key's name, `model` the name that clients use, and `limits` those of the key, None for no limits.
        """
        admission = None
        if limits is not None and limits.counts:
            admission = await self.limiter.admit(limits, key, estimated_tokens(request))
        return Booking(self, request, key, model, admission)


class Booking:
    """One request that was admitted. Set `usage` and `ending` when they are known, then call `close` once.

    `books` are the books of the gateway, `key` is the name of the API key, `model` is the model that the client named,
    and `admission` is what the limiter took from the key's budget, None for a key without limits.
    `texts` collects the answer's text; it is None when no text is logged. `ending` is how the answer ended.
    """

    __slots__ = ("_admission", "_books", "_key", "_model", "_request", "ending", "texts", "usage")

    def __init__(self, books: Books, request: ModelRequest, key: str, model: str, admission: Admission | None) -> None:
        self._books = books
        self._request = request
        self._key = key
        self._model = model
        self._admission = admission
        self.usage = UNMETERED
        self.texts: list[str] | None = (
            [] if books.conversations is not None and request.endpoint.generates_text else None
        )
        self.ending: Ending = "failed"

    def note_answer(self, payload: dict[str, Any]) -> None:
        """Take usage and text from an answer that is not streamed."""
        self.usage = usage_from(payload.get("usage"))
        if self.texts is not None:
            self.texts += choice_texts(payload.get("choices"))

    def close(self, *, answered: bool, seconds: float) -> None:
        """Book the request. Returns at once.

        `answered` is True when the client was sent the status of an answer. `seconds` is how long the request took.
        """
        books, usage = self._books, self.usage
        if self._admission is not None and (usage.metered or not answered):
            books.limiter.settle(self._admission, usage.total)
        if answered:
            if usage.metered:
                metrics.tokens_used(self._model, usage.prompt_tokens, usage.completion_tokens)
            books.usage.add(time.strftime("%Y-%m-%d", time.gmtime()), self._key, self._model, usage)
        if books.conversations is not None and self.texts is not None:
            books.conversations.put(self._conversation(self.texts, seconds))

    def _conversation(self, texts: list[str], seconds: float) -> Conversation:
        request, usage = self._request, self.usage
        asked: dict[str, Any] = (
            {"messages": messages_of(request)}
            if request.endpoint is Endpoint.CHAT
            else {"prompt": prompt_text(request)}
        )
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_id": current_request_id(),
            "key": self._key,
            "model": self._model,
            **asked,
            "answer": "".join(texts),
            "status": self.ending,
            "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
            "ms": round(seconds * 1000),
        }
