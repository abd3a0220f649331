"""Dependency confusion: whatever becomes of a private project, upstream is not asked for it and no public file comes."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from entrepot.assembly import cataloged
from entrepot.config import Config, Folder, Hosted, IndexSettings, Mirror, Rule, Virtual, checked
from entrepot.errors import EntrepotError, NotFound, Unavailable
from entrepot.index import Catalog, Sink, Source
from entrepot.model import Status
from entrepot.sources.folder import Folder as FolderSource
from entrepot.sources.hosted import Hosted as HostedSource
from entrepot.sources.names import Names
from entrepot.stores.disk import Disk
from tests.distributions import build
from tests.indexes import DEMO, NOON, Kept, Public, file
from tests.sources.samples import add

SDIST = "demo-1.0.tar.gz"
DENIES = (Rule(deny="demo"),)

# Ways in which a private source and a mirror may stand behind one index. `first` is the private one.
SHAPES: Mapping[str, Mapping[str, IndexSettings]] = {
    "plain": {"root": Virtual(of=("first", "upstream"))},
    "nested": {"inner": Virtual(of=("first",)), "root": Virtual(of=("inner", "upstream"))},
    "behind": {"inner": Virtual(of=("first", "upstream")), "root": Virtual(of=("inner", "upstream"))},
    "ruled": {"root": Virtual(of=("first", "upstream"), rules=DENIES, rules_for="all")},
    "inside ruled": {"inner": Virtual(of=("first",), rules=DENIES, rules_for="all"), "root": Virtual(of=("inner", "upstream"))},
    "owned": {"root": Virtual(of=("upstream", "first"), own=("demo",))},
    "owned and merged": {"root": Virtual(of=("upstream", "first"), own=("demo",), merge=("*",))},
    "others merged": {"root": Virtual(of=("first", "upstream"), merge=("other",))},
    "redirecting": {"root": Virtual(of=("first", "upstream"), fallback="redirect")},
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Mapping[str, IndexSettings]:
    return SHAPES[request.param]


@pytest.fixture
def upstream() -> Public:
    """What an attacker put there."""
    return Public("upstream", file("demo-99.0.tar.gz", sha256="e"))


def made_of(shape: Mapping[str, IndexSettings], first: IndexSettings, source: Source, upstream: Public) -> Catalog:
    index = {"first": first, "upstream": Mirror(), **shape}
    sinks: dict[str, Sink] = {"first": source} if isinstance(source, HostedSource) else {}
    config = checked(Config(data="/nowhere", index=index))
    return cataloged(config, {"first": source, "upstream": upstream}, sinks, {})


async def is_safe(made: Catalog, upstream: Public) -> None:
    for index in ("root", *(name for name in made.indexes if name == "inner")):
        try:
            await made.indexes[index].index.revision(DEMO)
            page = await made.indexes[index].index.project(DEMO)
        except NotFound:
            pytest.fail("a name that is not found is looked for elsewhere")
        except EntrepotError:
            continue  # a refusal or a failure is an answer
        assert [one for one in page.files if one.origin == "upstream"] == []
        with pytest.raises(EntrepotError):
            page.file("demo-99.0.tar.gz")
    assert upstream.asked == []


@pytest.mark.parametrize("error", [Unavailable("the store is down"), EntrepotError("something else")])
async def test_a_private_source_that_is_down(
    shape: Mapping[str, IndexSettings], upstream: Public, error: EntrepotError
) -> None:
    first = Kept("first", file(SDIST))
    first.fail(DEMO, error)
    await is_safe(made_of(shape, Hosted(), first, upstream), upstream)


async def test_a_private_project_in_every_state(
    shape: Mapping[str, IndexSettings], upstream: Public, tmp_path: Path
) -> None:
    first = HostedSource("first", Disk.open(tmp_path / "store", create=True))
    made = made_of(shape, Hosted(), first, upstream)
    await add(first, SDIST)
    await is_safe(made, upstream)
    await first.amend(DEMO, lambda one: replace(one, yanked="broken"))
    await is_safe(made, upstream)
    await first.mark(DEMO, Status(status="quarantined"))
    await is_safe(made, upstream)
    await first.remove(DEMO, frozenset({SDIST}), by="test", now=NOON)
    await is_safe(made, upstream)
    (tmp_path / "store").rename(tmp_path / "not mounted")
    await is_safe(made, upstream)


@pytest.mark.parametrize(
    "rule", [Rule(deny="demo"), Rule(allow="other"), Rule(cooldown="99 days"), Rule(formats=("wheel",))]
)
async def test_a_private_project_of_which_a_rule_leaves_nothing(
    shape: Mapping[str, IndexSettings], upstream: Public, tmp_path: Path, rule: Rule
) -> None:
    if shape is SHAPES["redirecting"]:
        return  # an error of the configuration
    first = HostedSource("first", Disk.open(tmp_path / "store", create=True))
    made = made_of(shape, Hosted(rules=(rule,)), first, upstream)
    await add(first, SDIST)
    await is_safe(made, upstream)


async def test_a_folder_that_lost_its_files_or_itself(
    shape: Mapping[str, IndexSettings], upstream: Public, tmp_path: Path
) -> None:
    (tmp_path / "dist").mkdir()
    build.make_sdist(tmp_path / "dist", "demo")
    names = Names(Disk.open(tmp_path / "store", create=True), "first")

    def source() -> FolderSource:
        """Anew, as after a restart."""
        return FolderSource("first", (tmp_path / "dist",), learned=tmp_path / "learned", names=names)

    kind = Folder(path=str(tmp_path / "dist"))
    await is_safe(made_of(shape, kind, source(), upstream), upstream)
    for path in (tmp_path / "dist").iterdir():
        path.unlink()
    await is_safe(made_of(shape, kind, source(), upstream), upstream)
    shutil.rmtree(tmp_path / "dist")
    await is_safe(made_of(shape, kind, source(), upstream), upstream)


async def test_a_name_that_was_released_is_answered_by_the_next_index(upstream: Public, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    build.make_sdist(tmp_path / "dist", "demo")
    folder = FolderSource(
        "first",
        (tmp_path / "dist",),
        learned=tmp_path / "learned",
        names=Names(Disk.open(tmp_path / "store", create=True), "first"),
    )
    made = made_of(SHAPES["plain"], Folder(path=str(tmp_path / "dist")), folder, upstream)
    await is_safe(made, upstream)
    shutil.rmtree(tmp_path / "dist")
    async with folder.running():
        await is_safe(made, upstream)
        await folder.forget(DEMO)
        page = await made.indexes["root"].index.project(DEMO)
    assert [one.origin for one in page.files] == ["upstream"]
