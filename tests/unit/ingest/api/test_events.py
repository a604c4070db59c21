"""A client that follows a document sees each change once, and an end only when the document is settled."""

from __future__ import annotations

from collections.abc import Callable

from tests.servers.ledgers import add, claim, new_base
from zhiwen.common.api.documents import DocumentOut, document_out
from zhiwen.common.errors import Unavailable
from zhiwen.common.ledger import Documents, Ledger
from zhiwen.common.models import Document, KnowledgeBase
from zhiwen.ingest.api.events import states_of

Step = Callable[[], object]


class Happening(Documents):
    """Documents to which one step happens before each look; when no step is left, the ledger answers as it is."""

    def __init__(self, documents: Documents, *steps: Step) -> None:
        super().__init__(documents.database)
        self.steps = list(steps)

    def get(self, knowledge_base_id: str, document_id: str) -> Document:
        if self.steps:
            self.steps.pop(0)()
        return super().get(knowledge_base_id, document_id)


async def followed(ledger: Ledger, base: KnowledgeBase, document: Document, *steps: Step) -> list[DocumentOut]:
    documents = Happening(ledger.documents, *steps)
    return [state async for state in states_of(document_out(document), documents, base.id, pause=0.0)]


def nothing() -> None:
    pass


def away() -> None:
    raise Unavailable("ledger-unavailable", "The ledger does not answer.")


async def test_each_change_is_told_once_and_the_last_is_settled(ledger: Ledger) -> None:
    base = new_base(ledger)
    document = add(ledger, base)
    states = await followed(
        ledger,
        base,
        document,
        nothing,
        lambda: claim(ledger),
        nothing,
        lambda: ledger.documents.cancel(base.id, document.id),
    )
    assert [(state.status, state.attempts) for state in states] == [("queued", 0), ("queued", 1), ("cancelled", 0)]


async def test_settled_document_is_told_once(ledger: Ledger) -> None:
    base = new_base(ledger)
    document = add(ledger, base)
    settled = ledger.documents.cancel(base.id, document.id)
    assert await followed(ledger, base, settled) == [document_out(settled)]


async def test_ledger_that_is_away_for_a_moment_does_not_end_the_stream(ledger: Ledger) -> None:
    base = new_base(ledger)
    document = add(ledger, base)
    states = await followed(ledger, base, document, away, away, lambda: ledger.documents.cancel(base.id, document.id))
    assert [state.status for state in states] == ["queued", "cancelled"]


async def test_document_of_a_dropped_knowledge_base_ends_deleted(ledger: Ledger) -> None:
    base = new_base(ledger)
    document = add(ledger, base)

    def drop() -> None:
        ledger.bases.begin_drop(base.name)
        ledger.endings.finish_drop(claim(ledger))

    states = await followed(ledger, base, document, drop)
    assert [state.status for state in states] == ["queued", "deleted"]
