"""What the destination of a copy has is not lost: where the source has it not, that is told and left alone."""

from collections.abc import Callable

import msgspec
import pytest

from entrepot.access import Tokens
from entrepot.index import ABSENT, ANY, Store
from entrepot.model import Status, normalise
from entrepot.moving.copying import copy
from entrepot.moving.objects import Options
from entrepot.sources.hosted import Hosted, record_key
from entrepot.stores.documents import read_bytes
from tests.moving.samples import SDIST, WHEEL, copied, held, troubles
from tests.sources.samples import DEMO, NOON, add, faults, grave, shown


async def yank(hosted: Hosted) -> None:
    await hosted.amend(DEMO, lambda file: msgspec.structs.replace(file, yanked="bad"))


async def upload(hosted: Hosted) -> None:
    await add(hosted, "demo-9.0.tar.gz")


async def upload_something_else(hosted: Hosted) -> None:
    await add(hosted, SDIST, data=b"other bytes")


async def delete(hosted: Hosted) -> None:
    await hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)


async def quarantine(hosted: Hosted) -> None:
    await hosted.mark(DEMO, Status(status="quarantined"))


@pytest.mark.parametrize("change", [yank, upload, upload_something_else, delete, quarantine])
async def test_a_record_that_has_what_the_source_has_not_is_a_conflict_and_stays(
    main: Hosted, source: Store, target: Store, change: Callable[[Hosted], object]
) -> None:
    await add(main, WHEEL)
    await copied(source, target)
    await change(Hosted("main", target))  # type: ignore[misc]
    await add(main, SDIST)
    await add(main, "other-1.0.tar.gz")
    before = await held(target)
    assert await troubles(source, target) == [("conflict", record_key("main", DEMO))]
    after = await held(target)
    assert {key: after[key] for key in before if not key.endswith("names.json")} == {
        key: data for key, data in before.items() if not key.endswith("names.json")
    }
    assert await shown(Hosted("main", target), normalise("other")) == ["other-1.0.tar.gz"]
    assert await grave(target) == []


async def test_tokens_of_the_destination_alone_are_a_conflict_and_stay(source: Store, target: Store) -> None:
    await Tokens(source).create("ours", can=("read",), now=NOON)
    await copied(source, target)
    await Tokens(source).create("new", can=("read",), now=NOON)
    await copied(source, target)
    assert [token.name for token in await Tokens(target).list()] == ["ours", "new"]
    await Tokens(source).revoke("ours")
    before = await held(target)
    tally = await copy(source, target, Options())
    [trouble] = tally.troubles
    assert (trouble.kind, trouble.at) == ("conflict", "access/tokens.json")
    assert trouble.why.startswith("token ours (")
    assert "`entrepot token revoke` it there too" in trouble.why
    assert await held(target) == before


async def test_names_of_both_stores_are_kept(main: Hosted, source: Store, target: Store) -> None:
    await add(Hosted("main", target), "there-1.0.tar.gz")
    await add(main, WHEEL)
    await copied(source, target)
    assert [name async for name in Hosted("main", target).projects()] == ["demo", "there"]
    assert await faults(target) == []


async def test_other_bytes_of_unknown_kind_are_a_conflict_and_stay(source: Store, target: Store) -> None:
    for store, data in ((source, b"one"), (target, b"two")):
        await store.write("main/archives/x", data, expect=ABSENT)
        await store.write("main/archives/y.json", msgspec.json.encode({"channel": data.decode()}), expect=ABSENT)
    before = await held(target)
    assert await troubles(source, target) == [("conflict", "main/archives/x"), ("conflict", "main/archives/y.json")]
    assert await held(target) == before


async def test_a_document_of_unknown_kind_may_grow(source: Store, target: Store) -> None:
    await source.write("main/archives/y.json", b'{"versions": [{"v": 1}], "a": {"b": 1}}', expect=ABSENT)
    await copied(source, target)
    grown = b'{"versions": [{"v": 2}, {"v": 1}], "a": {"b": 1, "c": 2}}'
    await source.write("main/archives/y.json", grown, expect=ANY)
    await copied(source, target)
    assert await read_bytes(target, "main/archives/y.json") == grown
