"""Which keys are accepted, and how long a key is cached."""

from __future__ import annotations

import pytest

from tests.servers.ledgers import Clock
from zhiwen.common.auth.keyring import MEMORY_SECONDS, KeyRing, Principal
from zhiwen.common.errors import Forbidden, Unauthorized
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import Scope


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


def new_key(ledger: Ledger, scope: Scope = "read", kb: str | None = None) -> tuple[str, str]:
    key, secret = ledger.keys.create(name=f"{scope} key", scope=scope, knowledge_base=kb)
    return key.id, secret


async def test_without_any_key_everybody_is_an_admin(ledger: Ledger, clock: Clock) -> None:
    ring = KeyRing(ledger, "", clock=clock)
    assert (await ring.authenticate(None)).scope == "admin"
    assert (await ring.authenticate("Bearer nonsense")).scope == "admin"
    assert not ring.has_key()


async def test_first_key_ends_open_access_within_the_memory(ledger: Ledger, clock: Clock) -> None:
    ring = KeyRing(ledger, "", clock=clock)
    await ring.authenticate(None)
    new_key(ledger)
    clock.pass_by(MEMORY_SECONDS)
    with pytest.raises(Unauthorized, match="missing-key") as caught:
        await ring.authenticate(None)
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("form", ["Bearer {}", "{}", "Bearer  {} ", "bearer {}", "BEARER {}"])
async def test_key_is_known_in_every_form(ledger: Ledger, clock: Clock, form: str) -> None:
    key_id, secret = new_key(ledger, "write", "手册")
    principal = await KeyRing(ledger, "", clock=clock).authenticate(form.format(secret))
    assert principal == Principal("write key", "write", "手册", key_id)


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic abc", "wrong", "Bearer é"])
async def test_unknown_key_is_refused(ledger: Ledger, clock: Clock, header: str) -> None:
    new_key(ledger)
    with pytest.raises(Unauthorized, match="unknown-key"):
        await KeyRing(ledger, "", clock=clock).authenticate(header)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer "])
async def test_request_without_a_key_is_told_to_send_one(ledger: Ledger, clock: Clock, header: str | None) -> None:
    new_key(ledger)
    with pytest.raises(Unauthorized, match="missing-key"):
        await KeyRing(ledger, "", clock=clock).authenticate(header)


async def test_revoked_key_ends_within_the_memory_and_not_later(ledger: Ledger, clock: Clock) -> None:
    ring = KeyRing(ledger, "", clock=clock)
    new_key(ledger)
    key_id, secret = new_key(ledger)
    await ring.authenticate(secret)
    ledger.keys.revoke(key_id)
    clock.pass_by(MEMORY_SECONDS)
    with pytest.raises(Unauthorized, match="unknown-key"):
        await ring.authenticate(secret)


async def test_revoking_the_last_key_does_not_open_access(ledger: Ledger, clock: Clock) -> None:
    ring = KeyRing(ledger, "", clock=clock)
    key_id, secret = new_key(ledger)
    await ring.authenticate(secret)
    ledger.keys.revoke(key_id)
    clock.pass_by(MEMORY_SECONDS)
    for started_before_or_after in (ring, KeyRing(ledger, "", clock=clock)):
        with pytest.raises(Unauthorized, match="zhiwen keys create"):
            await started_before_or_after.authenticate(None)
    assert not ring.has_key()
    _, another = new_key(ledger)
    assert (await ring.authenticate(another)).scope == "read"


async def test_new_key_that_was_refused_before_is_accepted_within_the_memory(ledger: Ledger, clock: Clock) -> None:
    ring = KeyRing(ledger, "admin-secret", clock=clock)
    with pytest.raises(Unauthorized):
        await ring.authenticate("zw_something")
    _, secret = new_key(ledger)
    assert (await ring.authenticate(secret)).scope == "read"


async def test_known_key_is_not_looked_up_again_within_the_memory(ledger: Ledger, clock: Clock) -> None:
    ring = KeyRing(ledger, "", clock=clock)
    _, secret = new_key(ledger)
    await ring.authenticate(secret)
    ledger.close()
    clock.pass_by(MEMORY_SECONDS - 0.1)
    assert (await ring.authenticate(secret)).scope == "read"


async def test_key_of_the_settings_is_an_admin_and_ends_open_access(clock: Clock) -> None:
    ring = KeyRing(None, "s3cret", clock=clock)
    assert (await ring.authenticate("Bearer s3cret")).scope == "admin"
    with pytest.raises(Unauthorized):
        await ring.authenticate(None)
    with pytest.raises(Unauthorized):
        await ring.authenticate("Bearer other")


async def test_key_of_query_may_ask_and_lets_nobody_else_in_or_out(ledger: Ledger, clock: Clock) -> None:
    ring = KeyRing(ledger, "", query_key="of-query", clock=clock)
    assert (await ring.authenticate(None)).scope == "admin"
    assert not ring.has_key()
    _, secret = new_key(ledger, "write")
    clock.pass_by(MEMORY_SECONDS)
    assert await ring.authenticate("Bearer of-query") == Principal("query", "read")
    assert (await ring.authenticate(secret)).name == "write key"
    for wrong in (None, "Bearer other"):
        with pytest.raises(Unauthorized):
            await ring.authenticate(wrong)


@pytest.mark.parametrize(
    ("has", "needs", "allowed"),
    [
        ("read", "read", True),
        ("read", "write", False),
        ("read", "admin", False),
        ("write", "read", True),
        ("write", "write", True),
        ("write", "admin", False),
        ("admin", "read", True),
        ("admin", "write", True),
        ("admin", "admin", True),
    ],
)
def test_scopes_include_the_smaller_ones(has: Scope, needs: Scope, allowed: bool) -> None:
    if allowed:
        Principal("k", has).require(needs)
    else:
        with pytest.raises(Forbidden, match="scope-too-small"):
            Principal("k", has).require(needs)


def test_key_of_one_base_opens_no_other(ledger: Ledger) -> None:
    principal = Principal("k", "admin", "手册")
    principal.require("read", "手册")
    for other in ("别的", None):
        with pytest.raises(Forbidden, match="other-knowledge-base"):
            principal.require("read", other)
