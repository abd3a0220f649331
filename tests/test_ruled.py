"""Rules over an index: a page that is remembered is the page computed at that time."""

import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from entrepot import rules
from entrepot.combine import Remembered, Ruled
from entrepot.index import Index
from tests.indexes import DEMO, NOON, Clock, Kept, file, held_on

HOUR = timedelta(hours=1)


def ruled(index: Index, clock: Clock, *tables: dict[str, Any]) -> Ruled:
    built = [rules.build(table) for table in tables]
    return Ruled(index, built, by=[f"rule {number}" for number in range(len(built))], clock=clock)


async def test_rules_are_applied_in_their_order_and_each_file_names_the_one_that_withholds_it() -> None:
    kept = Kept("a", file("demo-1.tar.gz"), file("demo-2.tar.gz"), file("demo-3.tar.gz"))
    page = await ruled(kept, Clock(), {"deny": "demo==1"}, {"deny": "demo<=2"}).project(DEMO)
    assert [one.version for one in page.files] == ["3"]
    assert held_on(page) == {
        "demo-1.tar.gz": ("it is denied by 'demo==1'", "rule 0"),
        "demo-2.tar.gz": ("it is denied by 'demo<=2'", "rule 1"),
    }


async def test_what_the_index_itself_withholds_keeps_its_own_words() -> None:
    kept, clock = Kept("a", file("demo-1.tar.gz"), file("demo-2.tar.gz")), Clock()
    page = await ruled(ruled(kept, clock, {"deny": "demo==1"}), clock, {"deny": "demo"}).project(DEMO)
    assert [held.by for held in page.withheld] == ["rule 0", "rule 0"]
    assert [held.why for held in page.withheld] == ["it is denied by 'demo==1'", "it is denied by 'demo'"]


async def test_names_and_revisions_are_those_of_the_index() -> None:
    kept = Kept("a", file("demo-1.tar.gz"))
    index = ruled(kept, Clock(), {"deny": "*"})
    assert [name async for name in index.projects()] == ["demo"]
    assert await index.revision(DEMO) == await kept.revision(DEMO)


_steps = st.lists(
    st.tuples(st.just("write"), st.integers(-200, 24)) | st.tuples(st.just("wait"), st.integers(0, 200)), max_size=30
)
_tables = st.lists(
    st.sampled_from([
        {"cooldown": "7 days"}, {"cooldown": "36 h", "exempt": ("demo==1",)}, {"at": "2026-11-21"},
        {"deny": "demo==2"}, {"cooldown": 0}, {"cooldown": "1 h", "unknown": "allow"},
    ]),
    min_size=1, max_size=3,
)  # fmt: skip


@given(_tables, _steps)
def test_a_remembered_page_is_the_page_of_that_moment(
    tables: list[dict[str, Any]], steps: list[tuple[str, int]]
) -> None:
    async def play() -> None:
        clock, kept = Clock(), Kept("a", replace(file("demo-0.tar.gz"), uploaded=None))
        computed = ruled(kept, clock, *tables)
        remembered = Remembered(ruled(kept, clock, *tables), clock=clock)
        for number, (step, hours) in enumerate(steps, start=1):
            if step == "write":
                kept.put(file(f"demo-{number}.tar.gz", uploaded=clock.now + hours * HOUR))
            else:
                clock.now += hours * HOUR
            assert await remembered.project(DEMO) == await computed.project(DEMO)
        assert clock.now >= NOON

    asyncio.run(play())
