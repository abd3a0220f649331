"""Tokens: made, recognised, used up, revoked; and never to be read out of the store."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.access import ANONYMOUS, Tokens
from entrepot.access.tokens import KEY
from entrepot.errors import Denied, EntrepotError, Invalid, NotFound, Unavailable
from entrepot.index import ANY, Store
from entrepot.stores.documents import read_bytes
from entrepot.stores.memory import Memory
from tests.access.test_grants import basic
from tests.stores import conftest as stores

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(params=stores.FEW)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with stores.DRIVERS[request.param](tmp_path) as store:
        yield store


@pytest.fixture
def tokens(store: Store) -> Tokens:
    return Tokens(store)


def bearer(secret: str) -> bytes:
    return b"Bearer " + secret.encode()


# Made


async def test_a_new_token_is_recognised_with_all_that_was_said_of_it(tokens: Tokens) -> None:
    secret, made = await tokens.create(
        "ci", can=("read", "upload"), now=NOW, indexes=("private",), projects=("acme-*",), lifetime=DAY
    )
    assert re.fullmatch(r"entrepot_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", secret)
    assert secret.split("_")[1] == made.id
    for header in (bearer(secret), basic("__token__", secret)):
        caller = await tokens.caller(header, now=NOW)
        assert caller.token == made
    assert (made.name, made.can, made.created, made.expires) == ("ci", ("read", "upload"), NOW, NOW + DAY)
    assert (made.indexes, made.projects, made.provisional) == (("private",), ("acme-*",), False)


async def test_the_store_holds_no_secret_only_a_hash_of_it(store: Store, tokens: Tokens) -> None:
    secret, made = await tokens.create("ci", can=("read",), now=NOW)
    data = await read_bytes(store, KEY)
    assert secret.encode() not in data
    assert secret.split("_", 2)[2].encode() not in data
    assert made.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    held = msgspec.json.decode(data)
    assert held["schema"] == 1
    [kept] = held["tokens"]
    assert sorted(kept) == ["can", "created", "id", "indexes", "name", "projects", "sha256"]


async def test_no_two_tokens_are_alike(tokens: Tokens) -> None:
    made = [await tokens.create("ci", can=("read",), now=NOW) for _ in range(20)]
    assert len({secret for secret, _ in made}) == len({token.id for _, token in made}) == 20
    assert await tokens.list() == tuple(token for _, token in made)


async def test_tokens_made_at_once_by_several_processes_are_all_kept(store: Store) -> None:
    holders = [Tokens(store) for _ in range(3)]
    made = await asyncio.gather(
        *(holders[number % 3].create(f"t{number}", can=("read",), now=NOW) for number in range(15))
    )
    for secret, token in made:
        assert (await holders[0].caller(bearer(secret), now=NOW)).token == token


@pytest.mark.parametrize("name", ["", "a\nb", "a\rb", "a\0", "\x1b[31mred", "a\x7f", "a\u2028b", "x" * 101, "\udc80"])
async def test_a_name_that_could_forge_a_line_of_a_log_is_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(Invalid, match=r"is no name for a token \(1 to 100 characters, none of them control"):
        await tokens.create(name, can=("read",), now=NOW)
    assert await tokens.list() == ()


@pytest.mark.parametrize("name", ["ci", "Álvaro's laptop", "x" * 100, "team/ci", "token: 5"])
async def test_any_other_name_will_do(tokens: Tokens, name: str) -> None:
    assert (await tokens.create(name, can=("read",), now=NOW))[1].name == name


# Recognised


async def test_without_credentials_it_is_nobody(tokens: Tokens) -> None:
    for header in (None, b"", b"Digest x", b"Basic ????"):
        assert await tokens.caller(header, now=NOW) is ANONYMOUS


@pytest.mark.parametrize("change", ["other secret", "other id", "cut", "longer", "other prefix", "without a prefix"])
async def test_a_token_that_is_not_quite_right_is_not_known(tokens: Tokens, change: str) -> None:
    secret, made = await tokens.create("ci", can=("manage",), now=NOW)
    wrong = {
        "other secret": secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        "other id": secret.replace(made.id, "0" * 12),
        "cut": secret[:-1],
        "longer": secret + "x",
        "other prefix": secret.replace("entrepot_", "pypi_"),
        "without a prefix": secret.removeprefix("entrepot_"),
    }[change]
    with pytest.raises(Denied) as refused:
        await tokens.caller(bearer(wrong), now=NOW)
    assert str(refused.value) == "the token is not known here (`entrepot token list` shows the ones that are)"


async def test_the_hash_that_the_store_holds_is_no_token(tokens: Tokens) -> None:
    _, made = await tokens.create("ci", can=("manage",), now=NOW)
    for wrong in (made.sha256, f"entrepot_{made.id}_{made.sha256}", made.id, f"entrepot_{made.id}_"):
        with pytest.raises(Denied):
            await tokens.caller(bearer(wrong), now=NOW)


async def test_hashes_are_compared_in_constant_time(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, made = await tokens.create("ci", can=("read",), now=NOW)
    real, compared = hmac.compare_digest, list[object]()

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    await tokens.caller(bearer(secret), now=NOW)
    with pytest.raises(Denied):
        await tokens.caller(bearer(secret + "x"), now=NOW)
    assert compared == [made.sha256.encode()] * 2


async def test_a_token_ends_at_its_time(tokens: Tokens) -> None:
    secret, _ = await tokens.create("ci", can=("read",), now=NOW, lifetime=DAY)
    assert (await tokens.caller(bearer(secret), now=NOW + DAY - timedelta(microseconds=1))).token
    with pytest.raises(Denied) as refused:
        await tokens.caller(bearer(secret), now=NOW + DAY)
    assert str(refused.value) == "the token expired at 2026-11-21 12:00 UTC (ask for a new one)"


async def test_a_lifetime_of_nothing_is_not_for_ever(tokens: Tokens) -> None:
    secret, _ = await tokens.create("ci", can=("read",), now=NOW, lifetime=timedelta(0))
    with pytest.raises(Denied, match="expired"):
        await tokens.caller(bearer(secret), now=NOW)


@given(st.binary(max_size=60))
def test_no_header_leads_to_another_error_than_ours(header: bytes) -> None:
    async def ask() -> None:
        store = Memory()
        tokens = Tokens(store)
        await tokens.create("ci", can=("read",), now=NOW)
        for each in (header, b"Bearer " + header, b"Basic " + header, b"Bearer entrepot_" + header):
            try:
                assert await tokens.caller(each, now=NOW) is ANONYMOUS
            except EntrepotError as error:
                assert isinstance(error, Denied)  # noqa: PT017
        await store.close()

    asyncio.run(ask())


# The first one


async def test_the_first_token_may_everything_for_a_day(tokens: Tokens) -> None:
    secret = await tokens.create_first(now=NOW)
    assert secret is not None
    [first] = await tokens.list()
    assert (first.name, first.can, first.expires, first.provisional) == ("first", ("manage",), NOW + DAY, True)
    with pytest.raises(Denied, match="expired"):
        await tokens.caller(bearer(secret), now=NOW + DAY)


async def test_the_first_token_stays_once_it_was_used(store: Store, tokens: Tokens) -> None:
    secret = await tokens.create_first(now=NOW)
    assert secret is not None
    assert (await tokens.caller(bearer(secret), now=NOW + DAY / 2)).may("manage", indexes=("private",))
    [first] = await tokens.list()
    assert (first.expires, first.provisional) == (None, False)
    before = (await store.stat(KEY)).etag
    assert (await tokens.caller(bearer(secret), now=NOW + 1000 * DAY)).token == first
    assert (await store.stat(KEY)).etag == before


async def test_a_wrong_token_does_not_make_the_first_one_stay(tokens: Tokens) -> None:
    secret = await tokens.create_first(now=NOW)
    assert secret is not None
    with pytest.raises(Denied):
        await tokens.caller(bearer(secret + "x"), now=NOW)
    assert [token.provisional for token in await tokens.list()] == [True]


async def test_there_is_one_first_token_only(tokens: Tokens, store: Store) -> None:
    assert await tokens.create_first(now=NOW) is not None
    assert await tokens.create_first(now=NOW) is None
    assert await Tokens(store).create_first(now=NOW + 10 * DAY) is None
    assert len(await tokens.list()) == 1


async def test_of_servers_that_start_at_once_one_makes_the_first_token(store: Store) -> None:
    made = await asyncio.gather(*(Tokens(store).create_first(now=NOW) for _ in range(5)))
    [secret] = [secret for secret in made if secret is not None]
    assert (await Tokens(store).caller(bearer(secret), now=NOW)).token


async def test_where_tokens_were_there_is_no_first_one_not_even_when_all_were_revoked(tokens: Tokens) -> None:
    """Else whoever can restart the server would get everything."""
    await tokens.create("ci", can=("read",), now=NOW)
    await tokens.revoke("ci")
    assert await tokens.list() == ()
    assert await tokens.create_first(now=NOW) is None


async def test_two_requests_at_once_with_the_first_token_both_pass(tokens: Tokens) -> None:
    secret = await tokens.create_first(now=NOW)
    assert secret is not None
    callers = await asyncio.gather(*(tokens.caller(bearer(secret), now=NOW) for _ in range(5)))
    assert all(caller.token for caller in callers)
    assert [token.provisional for token in await tokens.list()] == [False]


# Revoked


async def test_a_revoked_token_is_not_known_any_more_to_anybody_at_once(store: Store, tokens: Tokens) -> None:
    elsewhere = Tokens(store)
    secret, made = await tokens.create("ci", can=("read",), now=NOW)
    kept, _ = await tokens.create("other", can=("read",), now=NOW)
    assert (await elsewhere.caller(bearer(secret), now=NOW)).token == made
    assert await tokens.revoke("ci") == (made,)
    for holder in (tokens, elsewhere):
        with pytest.raises(Denied, match="not known"):
            await holder.caller(bearer(secret), now=NOW)
        assert (await holder.caller(bearer(kept), now=NOW)).token


async def test_a_name_revokes_all_its_tokens_and_an_id_only_one(tokens: Tokens) -> None:
    _, one = await tokens.create("ci", can=("read",), now=NOW)
    _, two = await tokens.create("ci", can=("read",), now=NOW)
    _, three = await tokens.create("ci", can=("read",), now=NOW)
    assert await tokens.revoke(two.id) == (two,)
    assert await tokens.list() == (one, three)
    assert await tokens.revoke("ci") == (one, three)
    assert await tokens.list() == ()


async def test_what_is_not_there_cannot_be_revoked(tokens: Tokens) -> None:
    with pytest.raises(NotFound) as refused:
        await tokens.revoke("nobody")
    assert str(refused.value) == "no token 'nobody' (see `entrepot token list`)"


async def test_a_first_token_that_is_used_while_it_is_revoked_is_revoked(store: Store) -> None:
    """Its first use changes it: whoever revokes it must not miss it for that."""

    class Slow(Tokens):
        async def list(self) -> tuple[object, ...]:  # type: ignore[override]
            held = await super().list()
            assert secret is not None
            await Tokens(store).caller(bearer(secret), now=NOW)
            return held

    tokens = Slow(store)
    secret = await tokens.create_first(now=NOW)
    await tokens.revoke("first")
    assert await Tokens(store).list() == ()


# Damaged


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", r"cannot be read: .* \(bring it back from a backup\)"),
        (b'{"schema":1,"tokens":5}', r"cannot be read: "),
        (b'{"schema":1,"tokens":[{"id":"x"}]}', r"cannot be read: "),
        (b'{"schema":2,"tokens":{}}', r"has schema 2, and this entrepot knows schema 1 \(run a newer entrepot\)"),
    ],
)
async def test_damaged_tokens_let_nobody_in_and_are_not_overwritten(
    store: Store, tokens: Tokens, data: bytes, fault: str
) -> None:
    await store.write(KEY, data, expect=ANY)
    asking = (
        tokens.caller(b"Bearer entrepot_a_b", now=NOW),
        tokens.list(),
        tokens.create("ci", can=("read",), now=NOW),
        tokens.create_first(now=NOW),
        tokens.revoke("ci"),
    )
    for ask in asking:
        with pytest.raises(Unavailable, match=rf"^access/tokens\.json: {fault}"):
            await ask
    assert await read_bytes(store, KEY) == data


async def test_a_hash_that_is_no_text_of_a_hash_matches_nothing(store: Store, tokens: Tokens) -> None:
    secret, made = await tokens.create("ci", can=("read",), now=NOW)
    data = await read_bytes(store, KEY)
    await store.write(KEY, data.replace(made.sha256.encode(), "ü".encode() * 32), expect=ANY)
    with pytest.raises(Denied, match="not known"):
        await tokens.caller(bearer(secret), now=NOW)
