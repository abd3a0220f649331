"""A push, a promotion or a removal that is killed between any two steps."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.archives import Archives
from entrepot.archives.upkeep import check
from entrepot.errors import NotFound
from entrepot.stores.disk import Disk
from tests.archives.crashes import SCENARIOS, opened
from tests.archives.making import bytes_of, listed

HERE = Path(__file__).resolve().parents[2]
State = tuple[tuple[str, ...], str | None]  # the versions, and which is the latest

# What may be seen afterwards; the last one is promised when the change was acknowledged.
OUTCOMES: dict[str, list[State]] = {
    "the first push": [((), None), (("1.0",), None), (("1.0",), "1.0")],
    "a further push": [(("1.0",), "1.0"), (("1.0", "2.0"), "1.0"), (("1.0", "2.0"), "2.0")],
    "a removal": [(("1.0", "2.0"), "2.0"), (("2.0",), "2.0")],
    "a promotion": [(("1.0", "2.0"), "2.0"), (("1.0", "2.0"), "1.0")],
}
# What the killed command did, done again.
AGAIN = {name: change for name, (_, change) in SCENARIOS.items()}


async def state(archives: Archives) -> State:
    try:
        found = await archives.archive("model")
    except NotFound:
        return (), None
    for version in found.versions:
        assert await bytes_of(archives, version.version) == version.version.encode()
    assert all(version in {one.version for one in found.versions} for version in found.channels.values())
    return tuple(one.version for one in found.versions), found.latest


async def judge(layout: str, scenario: str, root: Path) -> State:
    archives = opened(layout, root)
    found = await state(archives)
    assert found in OUTCOMES[scenario]
    assert set(await listed(archives)) <= {"model"}
    assert [fault for fault in [fault async for fault in check(Disk.open(root, create=False))] if fault.grave] == []
    if not (scenario == "a removal" and found == OUTCOMES[scenario][-1]):
        await AGAIN[scenario](archives)
    assert await state(archives) == OUTCOMES[scenario][-1], "done again, it is as if nothing had happened"
    return found


@pytest.mark.parametrize("layout", ["entrepot", "tycho"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_step_leaves_what_was_or_what_is_wanted(layout: str, scenario: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.archives.crashes", layout, scenario, str(tmp_path)]
    subprocess.run(command, cwd=HERE, check=True)
    steps = sorted(int(path.name) for path in tmp_path.iterdir())
    assert len(steps) > 3
    seen = [asyncio.run(judge(layout, scenario, tmp_path / f"{step}")) for step in steps]
    assert seen[-1] == OUTCOMES[scenario][-1]
    possible = OUTCOMES[scenario]
    # Only tycho's layout has a version before its record says so: there its file is what makes it one.
    assert set(seen) == set(possible if layout == "tycho" else [possible[0], possible[-1]])
