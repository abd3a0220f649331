"""From the configuration to the catalog: what stands behind which name, and which store is made or refused."""

import os
import time
from pathlib import Path

import msgspec
import pytest

from entrepot.assembly import is_loopback, main_store, open_stores, opened, running
from entrepot.config import Access, Config, Folder, Hosted, IndexSettings, Server, StoreSettings, Virtual, checked
from entrepot.errors import Denied, Invalid, NotFound, Unavailable
from entrepot.model import Status
from entrepot.stores.disk import Disk
from entrepot.stores.memory import Memory
from tests.distributions import build
from tests.sources.samples import DEMO, add, until


def configured(
    data: Path,
    index: dict[str, IndexSettings] | None = None,
    *,
    default: str = "root",
    store: dict[str, StoreSettings] | None = None,
    access: Access | None = None,
) -> Config:
    return checked(
        Config(
            data=str(data),
            default=default,
            index=index or {},
            store=store or {},
            access=access or Access(),
        )
    )


# The catalog


async def test_without_any_configuration_uploads_to_root_are_in_private(tmp_path: Path) -> None:
    async with opened(configured(tmp_path), "create") as assembled:
        catalog = assembled.catalog
        assert (catalog.default, list(catalog.indexes), list(catalog.sources)) == (
            "root",
            ["private", "upstream", "root"],
            ["private", "upstream"],
        )
        sink = catalog.indexes["root"].sink
        assert sink is catalog.indexes["private"].sink
        assert sink is not None
        await add(sink, "demo-1.0.tar.gz")
        for name in ("root", "private"):
            page = await catalog.indexes[name].index.project(DEMO)
            assert [file.origin for file in page.files] == ["private"]


async def test_a_virtual_index_asks_its_members_in_order_also_through_other_virtual_ones(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    for name in ("demo", "other"):
        build.make_sdist(tmp_path / "dist", name)
    index: dict[str, IndexSettings] = {
        "first": Hosted(),
        "second": Hosted(),
        "wheels": Folder(path=str(tmp_path / "dist")),
        "inner": Virtual(of=("second", "wheels")),
        "root": Virtual(of=("first", "inner", "second")),
    }
    async with opened(configured(tmp_path, index), "create") as assembled:
        indexes = assembled.catalog.indexes
        root = indexes["root"].index
        assert [file.origin for file in (await root.project(DEMO)).files] == ["wheels"]
        second, first = indexes["second"].sink, indexes["first"].sink
        assert second is not None
        assert first is not None
        await add(second, "demo-2.0.tar.gz")
        assert [file.origin for file in (await root.project(DEMO)).files] == ["second"]
        await add(first, "demo-3.0.tar.gz")
        assert [file.filename for file in (await root.project(DEMO)).files] == ["demo-3.0.tar.gz"]
        assert [name async for name in root.projects()] == ["demo", "other"]
        assert indexes["root"].sink is first
        assert indexes["inner"].sink is second
        assert indexes["wheels"].sink is None


async def test_a_project_that_is_quarantined_in_front_does_not_fall_through(tmp_path: Path) -> None:
    index: dict[str, IndexSettings] = {"a": Hosted(), "b": Hosted(), "root": Virtual(of=("a", "b"))}
    async with opened(configured(tmp_path, index), "create") as assembled:
        for name in ("a", "b"):
            sink = assembled.catalog.indexes[name].sink
            assert sink is not None
            await add(sink, "demo-1.0.tar.gz")
            if name == "a":
                await sink.mark(DEMO, Status(status="quarantined"))
        assert (await assembled.catalog.indexes["root"].index.project(DEMO)).files == ()


async def test_a_guarded_member_guards_all_that_show_it(tmp_path: Path) -> None:
    index: dict[str, IndexSettings] = {
        "open": Hosted(),
        "secret": Hosted(read="token"),
        "inner": Virtual(of=("secret",)),
        "root": Virtual(of=("open", "inner")),
    }
    async with opened(configured(tmp_path, index), "create") as assembled:
        guarded = {name: mounted.guarded for name, mounted in assembled.catalog.indexes.items()}
    assert guarded == {"open": (), "secret": ("secret",), "inner": ("secret",), "root": ("secret",)}


async def test_reading_may_need_a_token_everywhere_but_where_it_is_open(tmp_path: Path) -> None:
    index: dict[str, IndexSettings] = {"a": Hosted(read="open"), "b": Hosted(), "root": Virtual(of=("a", "b"))}
    async with opened(configured(tmp_path, index, access=Access(read="token")), "create") as assembled:
        guarded = {name: mounted.guarded for name, mounted in assembled.catalog.indexes.items()}
    assert guarded == {"a": (), "b": ("b",), "root": ("root", "b")}


async def test_folders_are_watched_while_it_runs_and_known_to_commands_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    build.make_wheel(tmp_path / "dist")
    config = configured(tmp_path, {"root": Folder(path=str(tmp_path / "dist"))})
    async with opened(config, "create") as assembled:
        assert [name async for name in assembled.catalog.indexes["root"].index.projects()] == ["demo"]
    assert not (tmp_path / "node").exists()
    async with running(config) as assembled:
        assert len((await assembled.catalog.indexes["root"].index.project(DEMO)).files) == 1
    assert (tmp_path / "node" / "learned" / "root" / "demo.json").is_file()


async def test_what_was_deleted_is_swept_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path)
    open_stores(config)
    deleted = tmp_path / "store" / "trash" / "deleted"
    deleted.write_bytes(b"")

    async def gone() -> bool:
        return not deleted.exists()

    async with running(config):
        assert not await gone()
    later = time.time() + 3600
    monkeypatch.setattr("time.time", lambda: later)
    async with running(config):
        await until(gone, what="the trash is emptied")


# Stores


def test_the_disk_under_data_is_made_where_that_is_asked_for(tmp_path: Path) -> None:
    stores = open_stores(configured(tmp_path / "new" / "data"))
    assert list(stores) == ["data"]
    assert (tmp_path / "new" / "data" / "store" / "entrepot.json").is_file()


def test_nothing_is_made_where_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        open_stores(configured(tmp_path / "typo"), "refuse")
    assert (
        str(refused.value) == f"{tmp_path}/typo: nothing is kept here (see --data; `entrepot serve` begins a new store)"
    )
    assert not (tmp_path / "typo").exists()


def test_nothing_is_made_where_it_is_ignored_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stores = open_stores(configured(tmp_path / "typo"), "ignore")
    assert isinstance(stores["data"], Memory)
    assert caplog.messages == [f"nothing is kept in {tmp_path}/typo yet"]
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("missing", ["refuse", "ignore"])
def test_a_store_whose_disk_is_not_mounted_is_refused_in_any_case(tmp_path: Path, missing: str) -> None:
    """The folder that it is mounted on is there, and empty."""
    (tmp_path / "store").mkdir()
    with pytest.raises(Unavailable, match=rf"^{tmp_path}/store: there is no store here \(is its disk mounted\?"):
        open_stores(configured(tmp_path), missing)  # type: ignore[arg-type]
    assert os.listdir(tmp_path / "store") == []


@pytest.mark.parametrize("missing", ["create", "refuse", "ignore"])
@pytest.mark.parametrize("at", ["data", "data/store"])
def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path, missing: str, at: str) -> None:
    (tmp_path / at).parent.mkdir(exist_ok=True)
    (tmp_path / at).write_bytes(b"")
    with pytest.raises(Invalid, match=rf"^{tmp_path}/{at}: is not a folder \(see --data\)$"):
        open_stores(configured(tmp_path / "data"), missing)  # type: ignore[arg-type]


def test_a_configured_store_is_made_only_with_create(tmp_path: Path) -> None:
    store = {"main": StoreSettings(url=str(tmp_path / "main"))}
    index: dict[str, IndexSettings] = {"root": Hosted(store="main")}
    with pytest.raises(Unavailable, match=r"there is no store here .*start once with `entrepot serve --create`"):
        open_stores(configured(tmp_path / "data", index, store=store))
    assert not (tmp_path / "main").exists()
    stores = open_stores(configured(tmp_path / "data", index, store=store), create=True)
    assert list(stores) == ["main"]
    assert not (tmp_path / "data").exists()


def test_a_store_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    store = {"main": StoreSettings(url="ftp://somewhere/x")}
    with pytest.raises(Invalid, match=r"no store has the scheme ftp://"):
        open_stores(configured(tmp_path, {"root": Hosted(store="main")}, store=store))


@pytest.mark.parametrize(
    ("hosted", "access", "holder", "names"),
    [
        (None, None, "data", {"data"}),
        ("main", None, "main", {"main"}),
        ("main", "main", "main", {"main"}),
        ("main", "data", "data", {"main", "data"}),
        (None, "main", "main", {"main", "data"}),
        ("data", "data", "data", {"main", "data"}),
    ],
)
def test_tokens_are_in_the_store_that_is_said_or_the_only_one(
    tmp_path: Path, hosted: str | None, access: str | None, holder: str, names: set[str]
) -> None:
    store = {"main": StoreSettings(url=str(tmp_path / "main"))} if "main" in names else {}
    config = configured(tmp_path / "data", {"root": Hosted(store=hosted)}, store=store, access=Access(store=access))
    stores = open_stores(config, create=True)
    assert set(stores) == names
    assert main_store(config, stores) is stores[holder]


async def test_an_index_keeps_its_files_in_its_store(tmp_path: Path) -> None:
    store = {"main": StoreSettings(url=(tmp_path / "main").as_uri())}
    index: dict[str, IndexSettings] = {"root": Hosted(store="main"), "here": Hosted()}
    config = configured(tmp_path / "data", index, store=store, access=Access(store="main"))
    open_stores(config, create=True)
    async with opened(config, "create") as assembled:
        for name in ("root", "here"):
            sink = assembled.catalog.indexes[name].sink
            assert sink is not None
            await add(sink, "demo-1.0.tar.gz")
    for place, name in ((tmp_path / "main", "root"), (tmp_path / "data/store", "here")):
        keys = [entry.key async for entry in Disk.open(place, create=False).list("")]
        assert {key.partition("/")[0] for key in keys} == {name}


async def test_an_index_behind_a_store_that_vanished_is_unavailable_and_never_empty(tmp_path: Path) -> None:
    config = configured(tmp_path)
    async with opened(config, "create") as assembled:
        sink = assembled.catalog.indexes["root"].sink
        assert sink is not None
        await add(sink, "demo-1.0.tar.gz")
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        root = assembled.catalog.indexes["root"].index
        for ask in (root.project(DEMO), root.revision(DEMO)):
            with pytest.raises(Unavailable, match="there is no store here"):
                await ask
        with pytest.raises((NotFound, Denied, Unavailable), match="there is no store here"):
            [name async for name in root.projects()]


# Loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("packages.example", False),
        ("", False),
    ],
)
def test_host_names_are_checked_where_only_this_machine_can_reach_us(tmp_path: Path, host: str, loopback: bool) -> None:
    config = msgspec.structs.replace(configured(tmp_path), server=Server(host=host))
    assert is_loopback(config) is loopback


def test_a_socket_of_the_file_system_is_no_loopback(tmp_path: Path) -> None:
    assert not is_loopback(msgspec.structs.replace(configured(tmp_path), server=Server(uds="/run/x")))
