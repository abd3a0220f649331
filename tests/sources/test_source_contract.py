"""What every source promises, whatever it is made of and whatever it is wrapped in."""

import hashlib
from datetime import UTC

import pytest

from entrepot.errors import NotFound
from entrepot.index import Index, Span, is_absent
from entrepot.model import normalise
from tests.sources.conftest import Shop
from tests.sources.samples import DEMO, bytes_of, contents, everything, shown

WHEEL, SDIST, LATER = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz", "demo-1.10-py3-none-any.whl"
OTHER = normalise("other")


# Pages


async def test_a_name_that_it_never_had_is_not_found(shop: Shop, index: Index) -> None:
    await shop.put(WHEEL, contents(WHEEL))
    with pytest.raises(NotFound, match="no project other"):
        await index.project(OTHER)
    assert [name async for name in index.projects()] == [DEMO]


async def test_a_page_says_of_each_file_what_is_true(shop: Shop, index: Index) -> None:
    data = contents(WHEEL)
    await shop.put(WHEEL, data)
    page = await index.project(DEMO)
    [file] = page.files
    assert (page.name, page.status.status, page.withheld) == ("demo", "active", ())
    assert (file.filename, file.version, file.size) == (WHEEL, "1.0", len(data))
    assert file.hashes["sha256"] == hashlib.sha256(data).hexdigest()
    assert file.uploaded is not None
    assert file.uploaded.tzinfo is UTC
    assert file.origin == shop.source.name == "main"


async def test_files_are_ordered_by_version_and_name(shop: Shop, index: Index) -> None:
    for filename in (LATER, "demo-1.9.tar.gz", SDIST, WHEEL):
        await shop.put(filename, contents(filename))
    assert [file.filename for file in (await index.project(DEMO)).files] == [WHEEL, SDIST, "demo-1.9.tar.gz", LATER]


async def test_projects_are_listed_in_order_and_once(shop: Shop, index: Index) -> None:
    for filename in ("zebra-1.tar.gz", "demo-1.tar.gz", "demo-2.tar.gz", "Acme.Tools-1.tar.gz"):
        await shop.put(filename, contents(filename))
    assert [name async for name in index.projects()] == ["acme-tools", "demo", "zebra"]


async def test_a_page_asked_for_twice_is_the_same(shop: Shop, index: Index) -> None:
    await shop.put(WHEEL, contents(WHEEL))
    assert await index.project(DEMO) == await index.project(DEMO)


async def test_a_name_once_served_stays_known_when_its_files_are_gone(shop: Shop, index: Index) -> None:
    """Else the public index would answer for it."""
    await shop.put(WHEEL, contents(WHEEL))
    await shop.take(WHEEL)
    assert (await index.project(DEMO)).files == ()
    assert not is_absent(await index.revision(DEMO))


# Revisions


async def test_absence_has_a_revision_of_its_own(index: Index) -> None:
    assert is_absent(await index.revision(DEMO))
    assert await index.revision(DEMO) == await index.revision(DEMO)


async def test_a_revision_changes_with_every_change_of_the_page_and_never_comes_back(shop: Shop, index: Index) -> None:
    seen = [await index.revision(DEMO)]
    await shop.put(WHEEL, contents(WHEEL))
    seen.append(await index.revision(DEMO))
    await shop.put(SDIST, contents(SDIST))
    seen.append(await index.revision(DEMO))
    await shop.take(SDIST)
    seen.append(await index.revision(DEMO))
    await shop.take(WHEEL)
    seen.append(await index.revision(DEMO))
    assert len(set(seen)) == len(seen)
    assert [is_absent(revision) for revision in seen] == [True, False, False, False, False]


async def test_a_revision_stays_while_nothing_changes(shop: Shop, index: Index) -> None:
    await shop.put(WHEEL, contents(WHEEL))
    before = await index.revision(DEMO)
    await index.project(DEMO)
    await bytes_of(shop.source, WHEEL)
    file = (await index.project(DEMO)).file(WHEEL)
    await everything(await shop.source.open_metadata(DEMO, file))
    await shop.put("other-1.0.tar.gz", contents("other-1.0.tar.gz"))
    assert await index.revision(DEMO) == before


async def test_the_revision_of_the_list_changes_with_a_new_name(shop: Shop, index: Index) -> None:
    before = await index.revision(None)
    assert await index.revision(None) == before
    await shop.put(WHEEL, contents(WHEEL))
    after = await index.revision(None)
    await shop.put("other-1.0.tar.gz", contents("other-1.0.tar.gz"))
    assert len({before, after, await index.revision(None)}) == 3


# Bytes


@pytest.mark.parametrize("filename", [WHEEL, SDIST])
async def test_what_is_on_the_page_can_be_opened_and_is_what_the_page_says(shop: Shop, filename: str) -> None:
    await shop.put(filename, contents(filename))
    file = (await shop.source.project(DEMO)).file(filename)
    data = await everything(await shop.source.open(DEMO, file))
    assert data == contents(filename)
    assert hashlib.sha256(data).hexdigest() == file.hashes["sha256"]


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 10), (7, 20), (5, 5), (0, 10**9), (100, 10**9), (10**9, 10**9 + 5), (0, 0)]
)
async def test_a_span_is_cut_to_what_there_is(shop: Shop, start: int, stop: int) -> None:
    await shop.put(WHEEL, contents(WHEEL))
    assert await bytes_of(shop.source, WHEEL, Span(start, stop)) == contents(WHEEL)[start:stop]


async def test_spans_make_up_the_whole(shop: Shop) -> None:
    await shop.put(WHEEL, contents(WHEEL))
    size = len(contents(WHEEL))
    parts = [await bytes_of(shop.source, WHEEL, Span(at, at + 100)) for at in range(0, size, 100)]
    assert b"".join(parts) == contents(WHEEL)


async def test_the_metadata_of_a_wheel_is_what_the_page_says(shop: Shop) -> None:
    await shop.put(WHEEL, contents(WHEEL))
    file = (await shop.source.project(DEMO)).file(WHEEL)
    data = await everything(await shop.source.open_metadata(DEMO, file))
    assert file.core_metadata == {"sha256": hashlib.sha256(data).hexdigest()}


async def test_a_file_without_metadata_says_so_and_has_none(shop: Shop) -> None:
    await shop.put(SDIST, contents(SDIST))
    file = (await shop.source.project(DEMO)).file(SDIST)
    assert file.core_metadata is False
    with pytest.raises(NotFound, match=r"demo-1\.0\.tar\.gz"):
        await shop.source.open_metadata(DEMO, file)


async def test_what_is_not_on_the_page_is_not_found(shop: Shop) -> None:
    await shop.put(WHEEL, contents(WHEEL))
    assert await shown(shop.source) == [WHEEL]
    with pytest.raises(NotFound, match=r"no file demo-1.0.tar.gz in project demo"):
        (await shop.source.project(DEMO)).file(SDIST)
