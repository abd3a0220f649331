"""What is wrong in a store that is copied is told, and the rest goes on."""

import pytest

from entrepot.errors import Unavailable
from entrepot.index import ABSENT, ANY, Body, Etag, Expect, Store
from entrepot.model import normalise
from entrepot.moving.copying import copy
from entrepot.moving.objects import Options
from entrepot.sources.hosted import Hosted, record_key
from entrepot.stores.documents import read_bytes
from entrepot.stores.memory import Memory
from tests.moving.samples import SDIST, WHEEL, blob_of, copied, held, rot, troubles
from tests.sources.samples import DEMO, NOON, add, faults, grave, shown


async def test_wrong_bytes_are_told_and_not_copied_and_the_rest_is(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(main, SDIST)
    await add(main, "other-1.0.tar.gz")
    await rot(source, blob_of(SDIST))
    tally = await copy(source, target, Options())
    [trouble] = tally.troubles
    assert (trouble.kind, trouble.at) == ("fault", blob_of(SDIST))
    assert trouble.why.startswith("its bytes have the sha256 ")
    assert await shown(Hosted("main", target)) == [WHEEL]
    assert await shown(Hosted("main", target), normalise("other")) == ["other-1.0.tar.gz"]
    assert await faults(target) == []


async def test_wrong_metadata_is_told_and_its_file_not_copied(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(main, SDIST)
    await rot(source, blob_of(WHEEL) + ".metadata")
    assert await troubles(source, target) == [("fault", blob_of(WHEEL) + ".metadata")]
    assert await shown(Hosted("main", target)) == [SDIST]
    assert await grave(target) == []


async def test_missing_bytes_are_told_and_come_when_they_are_back(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    await add(main, SDIST)
    await source.delete(blob_of(SDIST), expect=ANY)
    tally = await copy(source, target, Options())
    assert [(one.at, one.why) for one in tally.troubles] == [
        (blob_of(SDIST), "is missing in the source, but its record lists it")
    ]
    await source.write(blob_of(SDIST), SDIST.encode(), expect=ABSENT)
    await copied(source, target)
    assert await held(target) == await held(source)


async def test_a_project_of_which_nothing_can_be_copied_gets_no_record(
    main: Hosted, source: Store, target: Store
) -> None:
    await add(main, SDIST)
    await source.delete(blob_of(SDIST), expect=ANY)
    assert await troubles(source, target) == [("fault", blob_of(SDIST))]
    assert list(await held(target)) == ["main/names.json"]


async def test_the_bytes_of_a_deleted_file_may_be_gone(main: Hosted, source: Store, target: Store) -> None:
    await add(main, SDIST)
    await main.remove(DEMO, frozenset({SDIST}), by="x", now=NOON)
    await source.delete(blob_of(SDIST), expect=ANY)
    await copied(source, target)
    assert [one.file.filename for one in await Hosted("main", target).removed(DEMO)] == [SDIST]
    assert await faults(target) == []


@pytest.mark.parametrize("record", [b"{}", b'{"schema": 2, "name": "demo"}', b"not JSON"])
async def test_a_record_that_cannot_be_read_is_told(main: Hosted, source: Store, target: Store, record: bytes) -> None:
    await add(main, WHEEL)
    await add(main, "other-1.0.tar.gz")
    await source.write(record_key("main", DEMO), record, expect=ANY)
    assert await troubles(source, target) == [("fault", record_key("main", DEMO))]
    assert await shown(Hosted("main", target), normalise("other")) == ["other-1.0.tar.gz"]


async def test_a_record_that_does_not_say_where_bytes_are_is_told(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    text = (await read_bytes(source, record_key("main", DEMO))).replace(b'"sha256":"', b'"sha256":"../', 1)
    await source.write(record_key("main", DEMO), text, expect=ANY)
    assert await troubles(source, target) == [("fault", record_key("main", DEMO))]
    assert not [key for key in await held(target) if "blobs" in key]


async def test_what_a_later_version_wrote_into_a_record_comes_along(main: Hosted, source: Store, target: Store) -> None:
    await add(main, WHEEL)
    text = (await read_bytes(source, record_key("main", DEMO))).replace(b'"schema":1', b'"schema":1,"new":[1]')
    await source.write(record_key("main", DEMO), text, expect=ANY)
    await copied(source, target)
    assert await read_bytes(target, record_key("main", DEMO)) == text


class Full(Memory):
    """A store whose disk is full."""

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:  # noqa: ARG002
        raise Unavailable("the disk is full", status=507)


class Gone(Memory):
    """A store that does not answer."""

    async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:  # noqa: ARG002
        raise Unavailable("nobody answers")


@pytest.mark.parametrize("broken", [Full, Gone])
async def test_a_destination_that_takes_nothing_ends_the_copy(broken: type[Memory]) -> None:
    source = Memory()
    for number in range(40):
        await add(Hosted("main", source), f"p{number}-1.0.tar.gz")
    with pytest.raises(Unavailable, match=r"full|nobody"):
        await copy(source, broken(), Options(jobs=2))


# --verify


async def test_wrong_bytes_in_the_destination_are_found_only_when_they_are_looked_at(
    main: Hosted, source: Store, target: Store
) -> None:
    await add(main, WHEEL)
    await copied(source, target)
    await rot(target, blob_of(WHEEL))
    assert (await copied(source, target)).copied == 0
    verified = await copied(source, target, verify=True)
    assert (verified.copied, verified.repaired) == (1, 1)
    assert await faults(target) == []


async def test_bytes_of_another_length_are_replaced(main: Hosted, source: Store, target: Store) -> None:
    await add(main, SDIST)
    await copied(source, target)
    await target.write(blob_of(SDIST), b"cut", expect=ANY)
    assert (await copied(source, target)).repaired == 1
    assert await faults(target) == []
