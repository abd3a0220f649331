"""`check` finds every fault of a store, names each in one line, and finds none in a sound one."""

import hashlib
import re
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from entrepot.index import ANY, Content, Span, Store
from entrepot.model import Status
from entrepot.sources import record as records
from entrepot.sources.hosted import Hosted, blob_key, record_key
from entrepot.stores.collecting import Fault
from entrepot.stores.documents import read_bytes
from entrepot.stores.memory import Memory
from tests.sources.samples import DEMO, NOON, add, addition, faults

WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"
RECORD = record_key("main", DEMO)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def key_of(filename: str) -> str:
    return blob_key("main", sha256(filename.encode()), filename)


BLOB = key_of(WHEEL)


async def stocked(store: Store) -> Hosted:
    """One of everything that a store may hold."""
    hosted = Hosted("main", store)
    for filename in (WHEEL, SDIST, "demo-0.9.tar.gz", "other-2.0.tar.gz", "third-1.tar.gz"):
        await add(hosted, filename)
    await hosted.remove(DEMO, frozenset({"demo-0.9.tar.gz"}), by="x", now=NOON)
    await hosted.mark(DEMO, Status(status="quarantined"))
    await add(Hosted("another", store), WHEEL)
    return hosted


async def edit(store: Store, key: str, old: str, new: str) -> None:
    """As somebody with an editor would."""
    text = (await read_bytes(store, key)).decode()
    assert old in text
    await store.write(key, text.replace(old, new, 1).encode(), expect=ANY)


async def test_an_empty_store_is_sound(store: Store) -> None:
    assert await faults(store) == []


async def test_a_sound_store_has_no_faults(store: Store) -> None:
    await stocked(store)
    assert await faults(store) == []


Damage = Callable[[Store], Awaitable[object]]


async def flip_a_byte(store: Store) -> None:
    data = bytearray(await read_bytes(store, BLOB))
    data[3] ^= 1
    await store.write(BLOB, bytes(data), expect=ANY)


async def cut_the_record(store: Store) -> None:
    data = await read_bytes(store, RECORD)
    await store.write(RECORD, data[: len(data) // 2], expect=ANY)


async def list_twice(store: Store) -> None:
    record = records.decode(await read_bytes(store, RECORD), RECORD)
    await store.write(RECORD, records.encode(replace(record, files=(record.files[0], *record.files))), expect=ANY)


async def unlist(store: Store) -> None:
    await edit(store, "main/names.json", '"demo",\n', "")


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a flipped byte": (
        flip_a_byte,
        rf"{BLOB}: its bytes have the sha256 [0-9a-f]{{64}}, not {sha256(WHEEL.encode())}",
    ),
    "a blob cut short": (
        lambda store: store.write(BLOB, WHEEL[:10].encode(), expect=ANY),
        rf"{BLOB}: has 10 bytes, its record says {len(WHEEL)}",
    ),
    "a blob that is gone": (
        lambda store: store.delete(BLOB, expect=ANY),
        rf"{BLOB}: is missing, but its record lists it",
    ),
    "metadata that is gone": (
        lambda store: store.delete(f"{BLOB}.metadata", expect=ANY),
        rf"{BLOB}\.metadata: is missing, but its record lists it",
    ),
    "other metadata": (
        lambda store: store.write(f"{BLOB}.metadata", b"Name: evil", expect=ANY),
        rf"{BLOB}\.metadata: its bytes have the sha256 {sha256(b'Name: evil')}, not [0-9a-f]{{64}}",
    ),
    "a record that is no JSON": (
        cut_the_record,
        rf"{RECORD}: the record cannot be read: .* \(bring it back from a backup\)",
    ),
    "a record of a later program": (
        lambda store: edit(store, RECORD, '"schema":1', '"schema":2'),
        rf"{RECORD}: has schema 2, and this entrepot knows schema 1 \(run a newer entrepot\)",
    ),
    "a record of another project": (
        lambda store: edit(store, RECORD, '"name":"demo"', '"name":"acme"'),
        rf"{RECORD}: the record calls its project 'acme'",
    ),
    "a project that is not listed": (
        unlist,
        rf"{RECORD}: demo is not in main/names\.json, so the index does not list it",
    ),
    "names that cannot be read": (
        lambda store: store.write("main/names.json", b"[", expect=ANY),
        r"main/names\.json: cannot be read: .* \(bring it back from a backup\)",
    ),
    "names of a later program": (
        lambda store: edit(store, "main/names.json", '"schema":1', '"schema":5'),
        r"main/names\.json: has schema 5, and this entrepot knows schema 1 \(run a newer entrepot\)",
    ),
    "a file listed twice": (list_twice, rf"{RECORD}: {WHEEL} is listed twice"),
    "a file without a digest": (
        lambda store: edit(store, RECORD, f'"sha256":"{sha256(WHEEL.encode())}"', '"sha256":""'),
        rf"{RECORD}: it does not say where the bytes of '{WHEEL}' are: it has no true sha256",
    ),
    "a filename that leads elsewhere": (
        lambda store: edit(store, RECORD, f'"filename":"{WHEEL}"', f'"filename":"../{WHEEL}"'),
        rf"{RECORD}: it does not say where the bytes of '\.\./{WHEEL}' are: it has no true sha256",
    ),
    "marks that cannot be read": (
        lambda store: store.write("gc/marks.json", b"{", expect=ANY),
        r"gc/marks\.json: cannot be read: .* \(delete it: marking starts anew\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_fault_is_found_and_is_one_line(store: Store, damage: str) -> None:
    await stocked(store)
    apply, expected = DAMAGES[damage]
    await apply(store)
    [fault] = [f"{fault.key}: {fault.what}" for fault in await faults(store) if fault.grave]
    assert re.fullmatch(expected, fault), fault
    assert "\n" not in fault


async def test_all_faults_are_found_and_a_fault_of_one_record_hides_none_of_another(store: Store) -> None:
    await stocked(store)
    await flip_a_byte(store)
    await store.delete(key_of(SDIST), expect=ANY)
    await store.write(record_key("main", DEMO).replace("demo", "other"), b"", expect=ANY)
    await store.delete(key_of("third-1.tar.gz"), expect=ANY)
    await store.write("another/names.json", b"", expect=ANY)
    found = {fault.key for fault in await faults(store) if fault.grave}
    assert found == {
        BLOB,
        key_of(SDIST),
        "main/projects/other.json",
        key_of("third-1.tar.gz"),
        "another/names.json",
    }


async def test_a_damaged_digest_in_a_record_is_found_from_both_sides(store: Store) -> None:
    """The bytes that it names are missing, and nothing names the bytes that are there."""
    await stocked(store)
    digest = sha256(WHEEL.encode())
    await edit(store, RECORD, digest, "0" * 64)
    meant = blob_key("main", "0" * 64, WHEEL)
    assert {(fault.key, fault.grave) for fault in await faults(store)} == {
        (meant, True),
        (f"{meant}.metadata", True),
        (BLOB, False),
        (f"{BLOB}.metadata", False),
    }


async def test_bytes_that_nothing_names_are_noted_and_are_no_fault(store: Store) -> None:
    await stocked(store)
    made = addition(store.traits.staging, "late-1.0-py3-none-any.whl")
    key = blob_key("main", made.staged.sha256, made.file.filename)
    await store.write(key, made.staged, expect=ANY)
    await store.write(f"{key}.metadata", b"", expect=ANY)
    what = "no record names it; `entrepot gc` removes it in time"
    assert await faults(store) == [
        Fault(key=key, what=what, grave=False),
        Fault(key=f"{key}.metadata", what=what, grave=False),
    ]


async def test_wrong_bytes_that_nothing_names_are_a_fault_of_the_disk(store: Store) -> None:
    key = blob_key("main", sha256(b"right"), "late-1.0.tar.gz")
    await store.write(key, b"wrong", expect=ANY)
    [fault] = await faults(store)
    assert fault.grave
    assert fault.what.startswith("no record names it, and its bytes have the sha256 ")


async def test_an_index_that_is_not_configured_any_more_is_checked_too(store: Store) -> None:
    await add(Hosted("former", store), WHEEL)
    await store.delete(blob_key("former", sha256(WHEEL.encode()), WHEEL), expect=ANY)
    assert [fault.key.partition("/")[0] for fault in await faults(store)] == ["former"]


async def test_bytes_of_a_removed_file_may_be_gone_but_must_not_be_wrong(store: Store) -> None:
    await stocked(store)
    gone = key_of("demo-0.9.tar.gz")
    await store.write(gone, b"wrong bytes for!", expect=ANY)
    assert [fault.key for fault in await faults(store)] == [gone]
    await store.delete(gone, expect=ANY)
    assert await faults(store) == []


async def test_other_things_in_a_store_are_left_alone(store: Store) -> None:
    await stocked(store)
    for key in ("notes.txt", "main/notes.txt", "main/seen/demo.json", "main/archives/model/1", "access/tokens.json"):
        await store.write(key, b"?", expect=ANY)
    assert await faults(store) == []


class Busy(Memory):
    """While it is checked, something happens to it: before the read number `at`."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.at = 0
        self.happens: Callable[[], Awaitable[object]] | None = None

    async def read(self, key: str, span: Span | None = None) -> Content:
        self.reads += 1
        if self.happens is not None and self.reads == self.at:
            await self.happens()
        return await super().read(key, span)


@pytest.mark.parametrize("change", ["add", "remove", "collect"])
async def test_what_changes_while_it_is_checked_is_no_fault(change: str) -> None:
    """At whatever moment: an upload, a removal, bytes that are collected."""
    at = 0
    while True:
        at += 1
        store = Busy()
        hosted = await stocked(store)
        orphan = blob_key("main", sha256(b"orphan"), "late-1.0.tar.gz")
        await store.write(orphan, b"orphan", expect=ANY)

        async def happens(store: Busy = store, hosted: Hosted = hosted, orphan: str = orphan) -> None:
            store.happens = None
            if change == "add":
                await hosted.mark(DEMO, Status())
                await add(hosted, "demo-1.1-py3-none-any.whl")
                await add(hosted, "new-1.0.tar.gz")
            elif change == "remove":
                await hosted.remove(DEMO, frozenset({WHEEL}), by="x", now=NOON)
            else:
                for key in (orphan, key_of("demo-0.9.tar.gz")):
                    await store.delete(key, expect=ANY)

        store.reads, store.at, store.happens = 0, at, happens
        assert [fault for fault in await faults(store) if fault.grave] == []
        came_to_it = store.happens is None
        await store.close()
        if not came_to_it:
            break
    assert at > 10
