"""Whatever happened to two stores: a copy takes nothing away, and a second one finds nothing to do."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.access import Tokens
from entrepot.errors import Conflict, Denied, NotFound
from entrepot.index import Store
from entrepot.model import File, ProjectName, Status, normalise
from entrepot.moving.copying import copy
from entrepot.moving.objects import Options
from entrepot.sources.hosted import Hosted
from entrepot.stores.memory import Memory
from tests.moving.samples import held
from tests.sources.samples import NOON, add, grave

NAMES = ("one", "two")
Known = dict[tuple[str, str], tuple[str, bool]]

# (where, what, project, version, bytes)
steps = st.tuples(
    st.sampled_from(["source", "target", "both"]),
    st.sampled_from(["add", "add", "add", "remove", "restore", "yank", "mark", "token"]),
    st.sampled_from(NAMES),
    st.integers(1, 3),
    st.sampled_from([b"some", b"other"]),
)
Step = tuple[str, str, str, int, bytes]


async def do(store: Store, step: Step) -> None:
    _, what, name, version, data = step
    hosted, project, filename = Hosted("main", store), normalise(name), f"{name}-{version}.tar.gz"
    try:
        match what:
            case "add":
                await add(hosted, filename, data=data)
            case "remove":
                await hosted.remove(project, frozenset({filename}), by="x", now=NOON)
            case "restore":
                await hosted.restore(project, frozenset({filename}))
            case "yank":
                await hosted.amend(project, lambda file: yanked(file, filename))
            case "mark":
                await hosted.mark(project, Status(status="deprecated" if version == 1 else "archived"))
            case "token":
                await Tokens(store).create(name, can=("read",), now=NOON, lifetime=timedelta(days=1))
    except (Conflict, Denied, NotFound):
        pass  # as somebody would be told who tries


def yanked(file: File, filename: str) -> File:
    return msgspec.structs.replace(file, yanked="bad") if file.filename == filename else file


async def known(store: Store) -> Known:
    """All filenames that the store answers for: their bytes, and whether they are yanked or deleted."""
    found: Known = {}
    hosted = Hosted("main", store)
    for name in NAMES:
        project = ProjectName(name)
        try:
            files = await hosted.files(project)
        except NotFound:
            continue
        found |= {(name, file.filename): (file.hashes["sha256"], file.yanked is not None) for file in files}
        gone = await hosted.removed(project)
        found |= {(name, one.file.filename): (one.file.hashes["sha256"], True) for one in gone}
    return found


async def check(history: Sequence[Step]) -> None:
    stores: dict[str, Store] = {"source": Memory(), "target": Memory()}
    source, target = stores["source"], stores["target"]
    for step in history:
        for name in ("source", "target") if step[0] == "both" else (step[0],):
            await do(stores[name], step)
    files, tokens, blobs = await known(target), await Tokens(target).list(), await held(target)
    ours = await held(source)
    first = await copy(source, target, Options())
    assert await held(source) == ours
    after = await held(target)
    now = await known(target)
    for place, (sha256, withdrawn) in files.items():
        assert now[place][0] == sha256
        assert now[place][1] >= withdrawn  # what nobody should install is not offered again
    assert {token.id for token in tokens} <= {token.id for token in await Tokens(target).list()}
    assert {key: after.get(key) for key in blobs if "/blobs/" in key} == {
        key: data for key, data in blobs.items() if "/blobs/" in key
    }
    assert await grave(target) == []
    if not first.troubles:
        assert (await known(source)).items() <= now.items()
    second = await copy(source, target, Options(verify=True))
    assert (second.copied, second.changed, second.troubles) == (0, 0, first.troubles)
    assert await held(target) == after


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=14))
def test_a_copy_takes_nothing_away_and_is_done_at_once(history: list[Step]) -> None:
    asyncio.run(check(history))
