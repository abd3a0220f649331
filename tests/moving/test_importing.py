"""Old files from folders and from other indexes: with their times, verified, and kept if they are only of old form."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from entrepot import distributions
from entrepot.distributions import DEFAULT
from entrepot.errors import NotFound, Unavailable
from entrepot.index import Store
from entrepot.model import ProjectName, Status, normalise
from entrepot.moving.importing import Importing, Options, Report
from entrepot.moving.origins import Folder
from entrepot.moving.simple import Simple
from entrepot.sources.hosted import Hosted
from entrepot.stores.memory import Memory
from entrepot.wire.filenames import version_of
from tests.distributions import build, hostile_sdists, hostile_wheels, hostile_zips
from tests.distributions.cases import Case
from tests.sources.samples import DEMO, NOON, bytes_of, contents, faults, shown
from tests.stores import conftest as stores
from tests.upstream.double import Upstream
from tests.upstream.faults import other_bytes
from tests.upstream.stock import LONG_AGO, Item, Manner, sdist, wheel

WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture(params=stores.DRIVERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    (tmp_path / "new").mkdir()
    async with stores.DRIVERS[request.param](tmp_path / "new") as store:
        yield store


@pytest.fixture
def main(store: Store) -> Hosted:
    return Hosted("main", store)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder of distributions."""
    folder = tmp_path / "old"
    folder.mkdir()
    return folder


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def put(folder: Path, filename: str, *, data: bytes | None = None, days: float = 100) -> Path:
    """A file that was last changed so many days before noon."""
    path = folder / filename
    filename = path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents(filename) if data is None else data)
    moment = NOON.timestamp() - days * 86400
    os.utime(path, (moment, moment))
    return path


async def from_folder(folder: Path, main: Hosted, **options: object) -> Report:
    chosen = Options(by="me", **options)  # type: ignore[arg-type]
    return await Importing(Folder(folder, main.staging), main, chosen, clock=lambda: NOON).run()


async def from_url(url: str, main: Hosted, **options: object) -> Report:
    chosen = Options(by="me", **options)  # type: ignore[arg-type]

    async def size(project: ProjectName, filename: str) -> int | None:
        try:
            return next((file.size for file in await main.files(project) if file.filename == filename), None)
        except NotFound:
            return None

    async with Simple.opened(url, main.staging, size) as simple:
        return await Importing(simple, main, chosen, clock=lambda: NOON).run()


def told(report: Report) -> list[tuple[str, str]]:
    """What could not be imported, in order."""
    return sorted((one.kind, one.at) for one in report.troubles)


def staged(store: Store) -> list[Path]:
    return list(store.traits.staging.iterdir())


# Folders


async def test_a_folder_is_imported_at_any_depth_with_the_times_of_its_files(
    old: Path, main: Hosted, store: Store
) -> None:
    put(old, WHEEL, days=100)
    put(old, f"deep/er/{SDIST}", days=200.25)
    put(old, "notes.txt", data=b"no distribution")
    report = await from_folder(old, main)
    assert (sorted(report.imported), report.troubles, report.stopped) == ([WHEEL, SDIST], [], None)
    files = {file.filename: file for file in await main.files(DEMO)}
    assert files[WHEEL].uploaded == NOON - timedelta(days=100)
    assert files[SDIST].uploaded == NOON - timedelta(days=200.25)
    assert (files[WHEEL].by, files[WHEEL].legacy, files[WHEEL].requires_python) == ("me", None, ">=3.9")
    assert sorted(files[WHEEL].hashes) == ["blake2b_256", "md5", "sha256"]
    assert files[WHEEL].core_metadata
    assert await bytes_of(main, WHEEL) == contents(WHEEL)
    assert await faults(store) == []
    assert staged(store) == []


async def test_a_second_import_reads_and_writes_nothing_anew(old: Path, main: Hosted, store: Store) -> None:
    put(old, WHEEL)
    await from_folder(old, main)
    before = [entry async for entry in store.list("")]
    again = await from_folder(old, main)
    assert (again.imported, again.projects[DEMO].present, again.troubles) == ([], 1, [])
    assert [entry async for entry in store.list("")] == before


async def test_the_store_keeps_its_bytes_when_the_folder_changes(old: Path, main: Hosted, store: Store) -> None:
    path = put(old, WHEEL)
    mode = path.stat().st_mode
    await from_folder(old, main)
    with path.open("r+b") as file:
        file.write(b"changed in place")
    assert await bytes_of(main, WHEEL) == contents(WHEEL)
    assert path.stat().st_mode == mode
    assert await faults(store) == []


async def test_names_of_former_times_are_kept_and_marked(old: Path, main: Hosted) -> None:
    for filename, project in (("Acme.Tools-1.0.tar.gz", "Acme.Tools"), ("my-pkg-2.0.tar.gz", "my-pkg")):
        put(old, filename, data=build.sdist_bytes(project, filename.removesuffix(".tar.gz").rpartition("-")[2]))
    report = await from_folder(old, main)
    assert [one.filename for one in sorted(report.legacy, key=lambda one: one.filename)] == [
        "Acme.Tools-1.0.tar.gz", "my-pkg-2.0.tar.gz",
    ]  # fmt: skip
    [file] = await main.files(normalise("acme-tools"))
    assert file.legacy is not None
    assert "should be 'acme_tools-1.0.tar.gz'" in file.legacy
    assert report.projects[normalise("my-pkg")].legacy == 1
    assert report.troubles == []


CASES = [*hostile_zips.CASES, *hostile_wheels.CASES, *hostile_sdists.CASES]


async def test_eggs_are_kept_for_whoever_still_wants_them(old: Path, main: Hosted) -> None:
    members = {"EGG-INFO/PKG-INFO": build.metadata_text().encode(), "demo.py": b""}
    put(old, "demo-1.0-py2.7.egg", data=build.zip_bytes(members))
    report = await from_folder(old, main)
    assert (report.imported, report.troubles) == (["demo-1.0-py2.7.egg"], [])
    assert [file.legacy is not None for file in await main.files(DEMO)] == [True]


# Those that a folder shows as distributions, and that are hostile without lower limits.
USUAL = [case for case in CASES if case.limits == DEFAULT and version_of(case.filename, DEMO) is not None]


@pytest.mark.parametrize("case", USUAL, ids=lambda case: case.what)
async def test_what_is_unsafe_is_refused_and_what_is_of_bad_form_is_kept(case: Case, old: Path) -> None:
    put(old, case.filename, data=case.data)
    main = Hosted("main", Memory())
    report = await from_folder(old, main)
    found = next(iter(report.projects))
    if case.outcome == "form" and not distributions.inspect(case.data, case.filename).safety:
        assert (report.imported, report.troubles) == ([case.filename], [])
        [file] = await main.files(found)
        assert file.legacy == report.legacy[0].why
    else:
        [trouble] = report.troubles
        assert (trouble.kind, trouble.at) == ("refused", case.filename)
        with pytest.raises(NotFound):
            await main.files(found)


async def test_what_is_refused_keeps_nothing_else_away(old: Path, main: Hosted, store: Store) -> None:
    put(old, "bad-1.0-py3-none-any.whl", data=b"PK nonsense")
    put(old, WHEEL)
    report = await from_folder(old, main)
    assert (told(report), report.imported) == ([("refused", "bad-1.0-py3-none-any.whl")], [WHEEL])
    assert staged(store) == []
    assert await faults(store) == []


async def test_other_bytes_and_deleted_names_are_conflicts_and_stay_as_they_are(old: Path, main: Hosted) -> None:
    put(old, WHEEL)
    put(old, SDIST)
    await from_folder(old, main)
    put(old, WHEEL, data=contents(WHEEL, "other"))
    await main.remove(DEMO, frozenset({SDIST}), by="x", now=NOON)
    report = await from_folder(old, main)
    assert told(report) == [("conflict", WHEEL), ("conflict", SDIST)]
    assert await bytes_of(main, WHEEL) == contents(WHEEL)
    assert await shown(main) == [WHEEL]
    assert any("was deleted here on 2026-11-20 (`entrepot restore`" in one.why for one in report.troubles)


async def test_times_to_come_are_taken_for_now(old: Path, main: Hosted) -> None:
    put(old, WHEEL, days=-100)
    await from_folder(old, main)
    assert [file.uploaded for file in await main.files(DEMO)] == [NOON]


async def test_links_to_nothing_pipes_and_folders_with_such_names_are_passed_over(old: Path, main: Hosted) -> None:
    (old / WHEEL).symlink_to(old / "nowhere")
    os.mkfifo(old / SDIST)
    (old / "other-1.0.tar.gz").mkdir()
    report = await from_folder(old, main)
    assert (report.imported, report.troubles) == ([], [])


async def test_some_projects_alone(old: Path, main: Hosted) -> None:
    for name in ("acme-a", "acme-b", "other"):
        put(old, f"{name.replace('-', '_')}-1.0.tar.gz")
    report = await from_folder(old, main, projects=("acme-*",))
    assert sorted(report.imported) == ["acme_a-1.0.tar.gz", "acme_b-1.0.tar.gz"]
    none = await from_folder(old, main, projects=("zzz*", "yyy"))
    assert (none.imported, none.notes) == ([], ["no project matches zzz* or yyy"])


async def test_a_dry_run_writes_nothing(old: Path, main: Hosted, store: Store) -> None:
    put(old, WHEEL)
    report = await from_folder(old, main, dry_run=True)
    assert (report.imported, report.projects[DEMO].size > 0) == ([WHEEL], True)
    assert [entry async for entry in store.list("")] == []


async def test_a_folder_that_is_not_there_is_told(old: Path, main: Hosted) -> None:
    report = await from_folder(old / "nowhere", main)
    assert isinstance(report.stopped, Unavailable)


async def test_a_store_that_takes_nothing_ends_the_import(old: Path) -> None:
    class Broken(Hosted):
        async def add(self, _: object) -> bool:
            raise Unavailable("the disk is full", status=507)

    for number in range(40):
        put(old, f"p{number}-1.0.tar.gz")
    report = await from_folder(old, Broken("main", Memory()), jobs=2)
    assert isinstance(report.stopped, Unavailable)
    assert len(report.troubles) < 5


# Other indexes


@pytest.mark.parametrize("form", ["json", "html"])
async def test_an_index_is_imported_with_all_that_its_pages_tell(upstream: Upstream, main: Hosted, form: str) -> None:
    manner = Manner(json=form == "json", html=form == "html")
    whole = wheel("demo", told={"yanked": "loses data"})
    upstream.add("demo", whole, sdist("demo"), manner=manner)
    upstream.manner = manner
    report = await from_url(upstream.url, main)
    assert (sorted(report.imported), report.troubles) == ([WHEEL, SDIST], [])
    files = {file.filename: file for file in await main.files(DEMO)}
    assert files[WHEEL].hashes["sha256"] == whole.sha256
    assert (files[WHEEL].yanked, files[SDIST].yanked) == ("loses data", None)
    assert files[WHEEL].uploaded == (LONG_AGO if form == "json" else NOON)
    assert await bytes_of(main, WHEEL) == whole.data


async def test_without_a_time_on_the_page_that_of_the_file_counts(upstream: Upstream, main: Hosted) -> None:
    upstream.add("demo", wheel("demo"), manner=Manner(times=False))
    upstream.fault("/files/*", headers={"last-modified": "Thu, 29 Feb 2024 12:30:15 GMT"})
    await from_url(upstream.url, main)
    assert [file.uploaded for file in await main.files(DEMO)] == [datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)]


@pytest.mark.parametrize("text", ["", "yesterday", "Thu, 99 Foo 2024"])
async def test_without_any_time_it_is_that_of_the_import(upstream: Upstream, main: Hosted, text: str) -> None:
    upstream.add("demo", wheel("demo"), manner=Manner(times=False))
    if text:
        upstream.fault("/files/*", headers={"last-modified": text})
    await from_url(upstream.url, main)
    assert [file.uploaded for file in await main.files(DEMO)] == [NOON]


@pytest.mark.parametrize("hashes", [("sha256",), ("md5",)])
async def test_what_is_there_is_not_fetched_again(upstream: Upstream, main: Hosted, hashes: tuple[str, ...]) -> None:
    upstream.add("demo", wheel("demo"), manner=Manner(hashes=hashes))
    await from_url(upstream.url, main)
    upstream.forget()
    upstream.add("demo", sdist("demo"))
    report = await from_url(upstream.url, main)
    assert (report.imported, report.projects[DEMO].present) == ([SDIST], 1)
    assert [seen.path for seen in upstream.asked("/files/*")] == [f"/files/demo/{SDIST}"]


async def test_without_a_hash_only_the_bytes_can_tell(upstream: Upstream, main: Hosted) -> None:
    upstream.add("demo", wheel("demo"), manner=Manner(hashes=(), sizes=False))
    await from_url(upstream.url, main)
    again = await from_url(upstream.url, main)
    assert (again.imported, again.projects[DEMO].present) == ([], 1)
    upstream.add("demo", Item(filename=WHEEL, data=contents(WHEEL, "other")))
    assert told(await from_url(upstream.url, main)) == [("conflict", WHEEL)]


async def test_bytes_that_are_not_those_of_the_page_are_refused(upstream: Upstream, main: Hosted, store: Store) -> None:
    upstream.add("demo", wheel("demo"), sdist("demo"))
    upstream.fault(f"/files/demo/{WHEEL}", change=other_bytes)
    report = await from_url(upstream.url, main)
    assert (told(report), report.imported) == ([("fault", WHEEL)], [SDIST])
    assert "upstream's page says" in report.troubles[0].why
    assert staged(store) == []


async def test_a_hostile_file_of_an_index_is_refused(upstream: Upstream, main: Hosted, store: Store) -> None:
    case = next(case for case in CASES if case.outcome == "safety" and case.filename == WHEEL)
    upstream.add("demo", Item(filename=WHEEL, data=case.data), sdist("demo"))
    report = await from_url(upstream.url, main)
    assert (told(report), report.imported) == ([("refused", WHEEL)], [SDIST])
    assert await faults(store) == []


async def test_a_download_that_is_cut_is_taken_up_again(upstream: Upstream, main: Hosted) -> None:
    big = wheel("demo", size=300_000)
    upstream.add("demo", big)
    upstream.fault("/files/*", cut=100_000, times=2)
    assert (await from_url(upstream.url, main)).imported == [WHEEL]
    assert await bytes_of(main, WHEEL) == big.data
    assert [seen.range != "" for seen in upstream.asked("/files/*")] == [False, True, True]


async def test_an_index_that_fails_half_way_is_told_and_the_rest_comes_with_the_next_run(
    upstream: Upstream, main: Hosted
) -> None:
    names = [f"p{number:02}" for number in range(40)]
    for name in names:
        upstream.add(name, sdist(name))
    fault = upstream.fault("/files/p[1-3]*", drop=True)
    first = await from_url(upstream.url, main, jobs=4)
    assert isinstance(first.stopped, Unavailable)
    assert set(first.imported) >= {f"p0{number}-1.0.tar.gz" for number in range(8)}
    fault.end()
    second = await from_url(upstream.url, main)
    assert (second.troubles, second.stopped) == ([], None)
    assert sorted(first.imported + second.imported) == sorted(f"{name}-1.0.tar.gz" for name in names)


async def test_one_file_that_fails_does_not_end_it(upstream: Upstream, main: Hosted) -> None:
    upstream.add("demo", wheel("demo"), sdist("demo"))
    upstream.fault(f"/files/demo/{WHEEL}", status=404)
    report = await from_url(upstream.url, main)
    assert (told(report), report.imported, report.stopped) == ([("fault", WHEEL)], [SDIST], None)


async def test_a_page_that_fails_does_not_end_it(upstream: Upstream, main: Hosted) -> None:
    upstream.add("demo", sdist("demo"))
    upstream.add("broken", sdist("broken"))
    upstream.add("gone", sdist("gone"))
    upstream.fault("/simple/broken/", body=b"\x00 no page", headers={"content-type": "text/plain"})
    upstream.fault("/simple/gone/", status=404)
    report = await from_url(upstream.url, main)
    assert (told(report), report.imported) == ([("fault", "broken")], [SDIST])


async def test_the_status_of_a_project_comes_along(upstream: Upstream, main: Hosted) -> None:
    upstream.add("demo", sdist("demo"))
    upstream.fault("/simple/demo/", change=lambda page: page[:-1] + b',"project-status":{"status":"archived"}}')
    await from_url(upstream.url, main)
    assert (await main.project(DEMO)).status == Status(status="archived")
    assert (await from_url(upstream.url, main)).troubles == []


# Where an index is


async def test_the_list_is_found_below_the_url(upstream: Upstream, main: Hosted) -> None:
    upstream.add("demo", sdist("demo"))
    assert (await from_url(upstream.origin, main)).imported == [SDIST]


async def test_a_url_without_an_index_is_told(upstream: Upstream, main: Hosted) -> None:
    with pytest.raises(Unavailable, match="no list of projects") as raised:
        await from_url(f"{upstream.origin}/elsewhere/", main)
    assert "--index-url" in raised.value.hint


async def test_an_index_that_leads_to_another_host_is_not_followed(upstream: Upstream, main: Hosted) -> None:
    with Upstream() as public:
        public.add("demo", sdist("demo"))
        upstream.fault("/simple/*", redirect=public.url)
        with pytest.raises(Unavailable):
            await from_url(f"{upstream.origin}/", main)


async def test_credentials_of_the_url_are_used_and_wrong_ones_told(upstream: Upstream, main: Hosted) -> None:
    upstream.password = "ci:secret"
    upstream.add("demo", sdist("demo"))
    assert (await from_url(upstream.url_for("ci:secret"), main)).imported == [SDIST]
    with pytest.raises(Unavailable, match="refuses us with 401"):
        await from_url(upstream.url_for("ci:wrong"), main)


async def test_two_imports_at_once_take_each_file_once(upstream: Upstream, main: Hosted, store: Store) -> None:
    for name in ("one", "two", "three"):
        upstream.add(name, sdist(name), wheel(name, size=200_000))
    both = await asyncio.gather(*(from_url(upstream.url, main) for _ in range(2)))
    assert [report.troubles for report in both] == [[], []]
    done = sum([counts.imported + counts.present for report in both for counts in report.projects.values()])
    assert done == 12
    assert sum(len(report.imported) for report in both) == 6
    assert await faults(store) == []
    assert staged(store) == []
