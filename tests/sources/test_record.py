"""Records and lists of names as they lie in a store: a public contract (docs/layout.md)."""

import asyncio
import json
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from entrepot.errors import NotFound, Unavailable
from entrepot.index import ANY, Body, Etag, Expect, Store
from entrepot.model import File, ProjectName, Removed, Status, normalise
from entrepot.sources import record as records
from entrepot.sources.hosted import Hosted, blob_key
from entrepot.sources.names import Names
from entrepot.sources.record import Record
from entrepot.stores.documents import read_bytes
from entrepot.stores.memory import Memory
from entrepot.wire import filenames
from tests.sources.samples import NOON, add
from tests.wire import strategies

DEMO = normalise("demo")


@st.composite
def made(draw: st.DrawFn) -> Record:
    """Records with everything that a page can carry, and what only records do."""
    page = draw(strategies.projects())
    more = {"by": st.none() | strategies.texts, "legacy": st.none() | strategies.texts}
    files = [replace(file, **{key: draw(value) for key, value in more.items()}) for file in page.files]
    removed = draw(st.lists(st.sampled_from(files), max_size=3, unique_by=lambda file: file.filename)) if files else []
    return Record(
        name=page.name,
        status=page.status,
        files=tuple(file for file in files if file not in removed),
        removed=tuple(Removed(file=file, at=NOON, by=draw(strategies.texts)) for file in removed),
    )


@given(made())
def test_a_record_survives_the_store(record: Record) -> None:
    assert records.decode(records.encode(record), "key") == record


@given(made())
def test_each_file_stands_on_a_line_of_its_own(record: Record) -> None:
    lines = records.encode(record).decode().split("\n")
    found = [line for line in lines if line.startswith('{"f')]
    assert len(found) == len(record.files) + len(record.removed)
    for line in found:
        assert isinstance(json.loads(line.removesuffix(",")), dict)


@given(made())
def test_equal_records_are_equal_bytes(record: Record) -> None:
    data = records.encode(record)
    assert records.encode(records.decode(data, "key")) == data
    assert data.endswith(b"}\n")
    assert msgspec.json.decode(data) == json.loads(data)


def test_a_record_as_a_person_sees_it() -> None:
    file = File(
        filename="demo-1.0.tar.gz", version="1.0", size=5, hashes={"sha256": "ab"}, uploaded=NOON, yanked="", by="ci"
    )
    gone = Removed(file=File(filename="demo-0.1.tar.gz", version="0.1"), at=NOON, by="alice")
    record = Record(name=DEMO, status=Status(status="archived", reason="old"), files=(file,), removed=(gone,))
    assert records.encode(record).decode() == (
        '{"schema":1,"name":"demo","status":{"status":"archived","reason":"old"},\n'
        '"files":[\n'
        '{"filename":"demo-1.0.tar.gz","version":"1.0","size":5,"hashes":{"sha256":"ab"},'
        '"uploaded":"2026-11-20T12:00:00Z","yanked":"","by":"ci"}\n'
        "],\n"
        '"removed":[\n'
        '{"file":{"filename":"demo-0.1.tar.gz","version":"0.1"},"at":"2026-11-20T12:00:00Z","by":"alice"}\n'
        "]}\n"
    )
    assert records.encode(Record(name=DEMO)).decode() == (
        '{"schema":1,"name":"demo","status":{"status":"active","reason":null},\n"files":[],\n"removed":[]}\n'
    )


def test_the_origin_is_stamped_on_the_page_and_is_not_in_the_record() -> None:
    file = File(filename="demo-1.0.tar.gz", version="1.0")
    record = Record(name=DEMO, files=(file,))
    assert [shown.origin for shown in record.page("private").files] == ["private"]
    assert b"origin" not in records.encode(record)


@given(
    st.binary(max_size=50)
    | made().map(records.encode).flatmap(lambda data: st.integers(0, len(data) - 3).map(lambda n: data[:n]))
)
def test_what_cannot_be_read_is_unavailable_and_never_absent(data: bytes) -> None:
    with pytest.raises(Unavailable, match=r"^main/projects/demo\.json: the record cannot be read: "):
        records.decode(data, "main/projects/demo.json")


@pytest.mark.parametrize(
    "data",
    [
        b'{"schema":2,"name":"demo"}',
        b'{"schema":2,"name":"demo","files":{"other":"form"}}',
        b'{"schema":7}',
    ],
)
def test_a_record_of_a_later_schema_asks_for_a_later_program(data: bytes) -> None:
    with pytest.raises(Unavailable) as refused:
        records.decode(data, "main/projects/demo.json")
    schema = json.loads(data)["schema"]
    assert str(refused.value) == (
        f"main/projects/demo.json: has schema {schema}, and this entrepot knows schema 1 (run a newer entrepot)"
    )


@given(st.lists(st.integers(0, 300), unique=True, max_size=20))
def test_files_stay_in_order_however_they_come(versions: list[int]) -> None:
    record = Record(name=DEMO)
    for version in versions:
        record = record.adding(File(filename=f"demo-{version}.tar.gz", version=str(version)))
    assert record.files == filenames.ordered(record.files)
    assert [int(file.version) for file in record.files] == sorted(versions)


# Names


@pytest.fixture
def names(store: Store) -> Names:
    return Names(store, "main")


async def test_no_name_is_known_at_first(names: Names) -> None:
    assert await names.all() == ()
    assert await names.etag() is None
    assert not await names.knows(DEMO)


async def test_names_that_were_entered_are_known_in_order(store: Store, names: Names) -> None:
    await names.enter(normalise("zebra"), normalise("acme"))
    await names.enter(normalise("demo"))
    assert await names.all() == ("acme", "demo", "zebra")
    assert await names.knows(DEMO)
    assert not await names.knows(normalise("dem"))
    assert await Names(store, "main").knows(DEMO)
    assert not await Names(store, "other").knows(DEMO)
    assert await read_bytes(store, "main/names.json") == b'{"schema":1,"names":["acme",\n"demo",\n"zebra"]}\n'


async def test_entering_a_known_name_changes_nothing(names: Names) -> None:
    await names.enter(DEMO)
    before = await names.etag()
    await names.enter(DEMO)
    await names.enter()
    assert await names.etag() == before


async def test_names_that_come_together_share_a_write() -> None:
    class Counting(Memory):
        writes = 0

        async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
            self.writes += 1
            await asyncio.sleep(0)  # as a disk would, let the others go on
            return await super().write(key, body, expect=expect)

    store = Counting()
    names = Names(store, "main")
    wanted = [ProjectName(f"p{number:02}") for number in range(50)]
    await asyncio.gather(*(names.enter(name) for name in wanted))
    assert await names.all() == tuple(wanted)
    assert store.writes <= 2
    await store.close()


async def test_names_entered_by_two_nodes_at_once_are_all_kept(store: Store, unsynced: None) -> None:
    nodes = [Names(store, "main"), Names(store, "main")]
    wanted = [ProjectName(f"p{number:02}") for number in range(20)]
    await asyncio.gather(*(nodes[number % 2].enter(name) for number, name in enumerate(wanted)))
    assert await nodes[0].all() == await nodes[1].all() == tuple(wanted)


async def test_a_name_is_not_known_before_it_is_durable() -> None:
    class Full(Memory):
        full = True

        async def write(self, key: str, body: Body, *, expect: Expect) -> Etag:
            if self.full:
                raise Unavailable("the disk is full", status=507)
            return await super().write(key, body, expect=expect)

    store = Full()
    names = Names(store, "main")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await names.enter(DEMO)
        assert not await names.knows(DEMO)
    store.full = False
    await names.enter(normalise("other"))
    await names.enter(DEMO)
    assert await names.all() == ("demo", "other")
    await store.close()


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "cannot be read: "),
        (b'{"schema":1,"names":"demo"}', "cannot be read: "),
        (b'{"schema":2,"names":[]}', "has schema 2, and this entrepot knows schema 1 .run a newer entrepot."),
        (b'{"schema":2,"names":{"demo":{}}}', "has schema 2"),
    ],
)
async def test_damaged_names_are_unavailable_and_never_absent(
    store: Store, names: Names, data: bytes, fault: str
) -> None:
    await store.write("main/names.json", data, expect=ANY)
    for asking in (names.all(), names.knows(DEMO), names.enter(DEMO)):
        with pytest.raises(Unavailable, match=rf"^main/names\.json: {fault}"):
            await asking
    assert await read_bytes(store, "main/names.json") == data


async def test_restoring_after_the_bytes_are_gone_says_so(store: Store) -> None:
    """`gc` keeps them for seven days; whoever comes later is told why."""

    hosted = Hosted("main", store)
    await add(hosted, "demo-1.0.tar.gz")
    [file] = await hosted.files(DEMO)
    await hosted.remove(DEMO, frozenset({file.filename}), by="x", now=NOON - timedelta(days=9))
    await store.delete(blob_key("main", file.hashes["sha256"], file.filename), expect=ANY)
    with pytest.raises(NotFound, match=r"^the bytes of demo-1\.0\.tar\.gz are gone: it was deleted too long ago$"):
        await hosted.restore(DEMO, frozenset({file.filename}))
    assert len(await hosted.removed(DEMO)) == 1
