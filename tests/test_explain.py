"""Why a page is as it is: who was asked, who owns the name, which rule withholds what."""

import msgspec
import pytest
from msgspec.structs import replace

from entrepot.config import Hosted, IndexSettings, Mirror, Rule, Virtual
from entrepot.errors import Denied, Unavailable
from entrepot.explain import Explanation, Step, explain
from entrepot.index import Catalog
from entrepot.model import Project, normalise
from tests.indexes import DAY, DEMO, NOON, Public, catalog, file
from tests.sources.samples import add

SDIST, LATER = "demo-1.0.tar.gz", "demo-2.0.tar.gz"
INDEX: dict[str, IndexSettings] = {
    "private": Hosted(),
    "upstream": Mirror(rules=(Rule(cooldown="7 days"),)),
    "root": Virtual(of=("private", "upstream"), own=("acme-*",), merge=("mixed",)),
}


@pytest.fixture
def upstream() -> Public:
    return Public("upstream", file(SDIST), file(LATER, uploaded=NOON - DAY), file("mixed-1.tar.gz"))


@pytest.fixture
def made(upstream: Public) -> Catalog:
    return catalog(INDEX, upstream)


async def told(made: Catalog, name: str = "demo", index: str = "root") -> Explanation:
    return await explain(made.indexes[index], normalise(name))


def lines(step: Step) -> list[str]:
    """One for each index, as the command shows them."""
    inner = [f"  {line}" for member in step.members for line in lines(member)]
    return [f"{step.index} {step.type} {step.says}: {step.why}", *inner]


async def test_every_index_on_the_way_is_shown_with_its_answer(made: Catalog) -> None:
    assert lines((await told(made)).step) == [
        "root virtual owns: by upstream",
        "  private hosted unknown: it does not know the name",
        "  upstream mirror owns: 1 shown, 1 withheld",
    ]


async def test_every_file_is_shown_with_what_withholds_it(made: Catalog) -> None:
    found = await told(made)
    assert [(one.filename, one.shown, one.origin, one.why, one.by) for one in found.files] == [
        (SDIST, True, "upstream", "no rule withholds it", ""),
        (
            LATER,
            False,
            "upstream",
            "uploaded 2026-11-19 12:00: passes on 2026-11-26 12:00, after 7 days",
            "index.upstream.rules[0]",
        ),
    ]
    assert found.valid_until == "2026-11-26T12:00:00+00:00"


async def test_what_stands_behind_the_owner_is_not_asked(made: Catalog, upstream: Public) -> None:
    await add(made.indexes["root"].sink, SDIST)  # type: ignore[arg-type]
    assert lines((await told(made)).step) == [
        "root virtual owns: by private",
        "  private hosted owns: 1 shown, 0 withheld",
        "  upstream mirror not-asked: private owns the name",
    ]
    assert upstream.asked == []


async def test_a_name_that_was_private_is_kept(made: Catalog, upstream: Public) -> None:
    sink = made.indexes["root"].sink
    assert sink is not None
    await add(sink, SDIST)
    await sink.remove(DEMO, frozenset({SDIST}), by="test", now=NOON)
    found = await told(made)
    assert found.files == ()
    assert lines(found.step)[:2] == [
        "root virtual keeps: by private",
        "  private hosted keeps: its page is empty, and the name stays with it",
    ]
    assert upstream.asked == []


async def test_a_pattern_that_owns_the_name_is_told(made: Catalog, upstream: Public) -> None:
    assert lines((await told(made, "acme-kit")).step) == [
        "root virtual keeps: `own` has 'acme-*', and nothing of the name was published yet",
        "  private hosted unknown: it does not know the name",
        "  upstream mirror not-asked: `own` has 'acme-*', so that no mirror is asked",
    ]
    assert upstream.asked == []


async def test_a_merged_name_says_of_whom(made: Catalog) -> None:
    await add(made.indexes["root"].sink, "mixed-2.tar.gz")  # type: ignore[arg-type]
    found = await told(made, "mixed")
    assert lines(found.step) == [
        "root virtual owns: merged of private and upstream, as `merge` has 'mixed'",
        "  private hosted owns: 1 shown, 0 withheld",
        "  upstream mirror owns: 1 shown, 0 withheld",
    ]
    assert [one.origin for one in found.files] == ["upstream", "private"]


async def test_a_name_that_nobody_knows(made: Catalog) -> None:
    found = await told(made, "nothing")
    assert (found.step.says, found.step.why, found.files) == ("unknown", "none of its members knows the name", ())


@pytest.mark.parametrize(("error", "says"), [(Unavailable("it is down"), "fails"), (Denied("not you"), "refuses")])
async def test_where_the_search_stops_is_told(upstream: Public, error: Unavailable | Denied, says: str) -> None:
    index = {**INDEX, "root": Virtual(of=("upstream", "private"))}
    upstream.fail(DEMO, error)
    found = await told(catalog(index, upstream))
    assert lines(found.step) == [
        f"root virtual {says}: because of upstream",
        f"  upstream mirror {says}: {error.message}",
        "  private hosted not-asked: the search stops at upstream",
    ]
    assert found.files == ()


async def test_members_of_members_are_told(upstream: Public) -> None:
    index = {**INDEX, "outer": Virtual(of=("private", "root"))}
    assert lines((await told(catalog(index, upstream), index="outer")).step) == [
        "outer virtual owns: by root",
        "  private hosted unknown: it does not know the name",
        "  root virtual owns: by upstream",
        "    private hosted unknown: it does not know the name",
        "    upstream mirror owns: 1 shown, 1 withheld",
    ]


async def test_where_clients_are_sent_is_told(upstream: Public) -> None:
    index: dict[str, IndexSettings] = {
        "private": Hosted(), "upstream": Mirror(), "root": Virtual(of=("private", "upstream"), fallback="redirect"),
    }  # fmt: skip
    assert lines((await told(catalog(index, upstream))).step) == [
        "root virtual unknown: clients are sent to https://upstream.example/simple/demo/",
        "  private hosted unknown: it does not know the name",
    ]


async def test_an_index_that_is_no_other_is_explained_too(made: Catalog) -> None:
    assert lines((await told(made, index="upstream")).step) == ["upstream mirror owns: 1 shown, 1 withheld"]
    bare = replace(made.indexes["upstream"], layer=None)
    assert (await explain(bare, DEMO)).step.says == "owns"


async def test_an_explanation_is_json(made: Catalog) -> None:
    found = await told(made)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found


async def test_what_is_explained_is_what_the_page_has(made: Catalog) -> None:
    page: Project = await made.indexes["root"].index.project(DEMO)
    verdicts = (await told(made)).files
    assert [one.filename for one in verdicts if one.shown] == [one.filename for one in page.files]
    assert [one.filename for one in verdicts if not one.shown] == [held.file.filename for held in page.withheld]
