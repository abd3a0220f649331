"""From the configuration to indexes made of indexes: who answers a name, which rules it passes, and who is asked."""

import pytest
from msgspec.structs import replace

from entrepot.config import Folder, Hosted, IndexSettings, Mirror, Rule, Virtual
from entrepot.errors import Denied, NotFound, Unavailable
from entrepot.index import Catalog, Index, is_absent
from entrepot.model import Project, Status, normalise
from tests.indexes import DAY, DEMO, NOON, OTHER, Clock, Kept, Public, catalog, file, filenames_on, held_on
from tests.sources.samples import add

WHEEL, SDIST, LATER = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz", "demo-2.0.tar.gz"
PLAIN: dict[str, IndexSettings] = {
    "private": Hosted(),
    "upstream": Mirror(),
    "root": Virtual(of=("private", "upstream")),
}


def index_of(made: Catalog, name: str = "root") -> Index:
    return made.indexes[name].index


async def publish(made: Catalog, filename: str, index: str = "root") -> None:
    sink = made.indexes[index].sink
    assert sink is not None
    await add(sink, filename)


# own


@pytest.mark.parametrize("nested", [False, True])
async def test_a_name_that_is_owned_is_never_asked_for_upstream_and_has_an_empty_page(nested: bool) -> None:
    inner = Virtual(of=("private", "upstream"), own=("acme-*",))
    index = {**PLAIN, "root": inner}
    if nested:
        index |= {"inner": inner, "second": Mirror(), "root": Virtual(of=("inner", "second"))}
    name = normalise("acme-kit")
    public = [Public(name, file("acme_kit-9.tar.gz")) for name in ("upstream", "second")]
    made = catalog(index, *public)
    root = index_of(made)
    absent = await root.revision(name)
    assert await root.project(name) == Project(name=name)
    assert not is_absent(absent)
    await publish(made, "acme_kit-1.0.tar.gz")
    assert await root.revision(name) != absent
    assert [one.origin for one in (await root.project(name)).files] == ["private"]
    assert [mirror.asked for mirror in public] == [[], []]


async def test_what_an_index_inside_owns_may_be_published_to_one_beside_it() -> None:
    inner = Virtual(of=("private", "upstream"), own=("acme-*",))
    index: dict[str, IndexSettings] = {
        "private": Hosted(), "beside": Hosted(), "upstream": Mirror(), "inner": inner, "root": Virtual(of=("inner", "beside")),
    }  # fmt: skip
    made = catalog(index, Public("upstream"))
    await publish(made, "acme_kit-1.0.tar.gz", "beside")
    assert [one.origin for one in (await index_of(made).project(normalise("acme-kit"))).files] == ["beside"]


async def test_other_names_are_answered_by_the_mirror() -> None:
    made = catalog(
        {**PLAIN, "root": Virtual(of=("private", "upstream"), own=("acme-*",))}, Public("upstream", file(SDIST))
    )
    assert filenames_on(await index_of(made).project(DEMO)) == [SDIST]
    with pytest.raises(NotFound):
        await index_of(made).project(OTHER)


# merge

MERGED: dict[str, IndexSettings] = {
    "one": Mirror(), "two": Mirror(), "root": Virtual(of=("one", "two"), merge=("demo",)),
}  # fmt: skip


async def test_merged_names_have_the_files_of_all_members_in_order() -> None:
    made = catalog(MERGED, Public("one", file(LATER)), Public("two", file(SDIST), file("other-1.tar.gz")))
    page = await index_of(made).project(DEMO)
    assert [(one.filename, one.origin) for one in page.files] == [(SDIST, "two"), (LATER, "one")]
    assert filenames_on(await index_of(made).project(OTHER)) == ["other-1.tar.gz"]
    with pytest.raises(NotFound):
        await index_of(catalog(MERGED, Public("one"), Public("two"))).project(DEMO)


async def test_of_equal_files_the_earlier_is_shown_and_of_unequal_ones_the_later_is_withheld() -> None:
    one = Public("one", file(SDIST, sha256="a"), file(LATER, sha256="b"), replace(file(WHEEL), hashes={"md5": "0"}))
    two = Public("two", file(SDIST, sha256="a"), file(LATER, sha256="c"), file(WHEEL))
    page = await index_of(catalog(MERGED, one, two)).project(DEMO)
    assert {shown.origin for shown in page.files} == {"one"}
    why = "one has a file of this name with other bytes"
    assert held_on(page) == {LATER: (why, ""), WHEEL: (why, "")}
    assert {held.file.origin for held in page.withheld} == {"two"}


async def test_what_an_earlier_member_withholds_does_not_come_from_a_later_one() -> None:
    index = {**MERGED, "one": Mirror(rules=(Rule(deny="demo==1.0"),))}
    page = await index_of(catalog(index, Public("one", file(SDIST)), Public("two", file(SDIST), file(LATER)))).project(
        DEMO
    )
    assert filenames_on(page) == [LATER]
    with pytest.raises(Denied, match="is withheld"):
        page.file(SDIST)


@pytest.mark.parametrize("down", ["one", "two"])
async def test_a_merged_page_is_not_given_without_a_member_that_fails(down: str) -> None:
    sources = {name: Public(name, file(SDIST)) for name in ("one", "two")}
    sources[down].fail(DEMO, Unavailable("down"))
    for ask in ("project", "revision"):
        with pytest.raises(Unavailable, match=f"^index {down} cannot be asked: down"):
            await getattr(index_of(catalog(MERGED, *sources.values())), ask)(DEMO)


async def test_a_project_that_is_quarantined_further_up_is_quarantined() -> None:
    one, two = Public("one", file(SDIST)), Public("two", file(LATER))
    one.pages[DEMO] = Project(name=DEMO, status=Status(status="quarantined"))
    page = await index_of(catalog(MERGED, one, two)).project(DEMO)
    assert (page.status.status, page.files) == ("quarantined", ())
    assert held_on(page) == {LATER: ("the project is quarantined in an index further up", "")}


async def test_the_revision_of_a_merged_page_is_that_of_all_members() -> None:
    one, two = Public("one"), Public("two")
    root = index_of(catalog(MERGED, one, two))
    assert is_absent(await root.revision(DEMO))
    seen = set()
    for source, filename in ((one, SDIST), (two, LATER), (two, WHEEL)):
        source.put(file(filename))
        seen.add(await root.revision(DEMO))
        assert not is_absent(await root.revision(DEMO))
    assert len(seen) == 3
    two.put(file("other-1.tar.gz"))
    assert await root.revision(OTHER) != await root.revision(DEMO)


# rules


async def test_rules_of_a_virtual_index_are_for_mirrored_files_unless_they_are_for_all() -> None:
    for rules_for, shown in (("mirrored", [SDIST]), ("all", [])):
        index = {**PLAIN, "root": Virtual(of=("private", "upstream"), rules=(Rule(deny="*"),), rules_for=rules_for)}  # type: ignore[arg-type]
        made = catalog(index, Public("upstream", file("other-1.tar.gz")))
        await publish(made, SDIST)
        assert filenames_on(await index_of(made).project(DEMO)) == shown
        page = await index_of(made).project(OTHER)
        assert held_on(page) == {"other-1.tar.gz": ("it is denied by '*'", "index.root.rules[0]")}


async def test_on_a_merged_page_rules_spare_the_files_that_are_ours() -> None:
    root = Virtual(of=("private", "upstream"), merge=("demo",), rules=(Rule(deny="demo"),))
    made = catalog({**PLAIN, "root": root}, Public("upstream", file(LATER)))
    await publish(made, SDIST)
    page = await index_of(made).project(DEMO)
    assert (filenames_on(page), list(held_on(page))) == ([SDIST], [LATER])


async def test_rules_of_members_and_of_virtual_members_apply_and_say_whose_they_are() -> None:
    index: dict[str, IndexSettings] = {
        "upstream": Mirror(rules=(Rule(yanked="hide"), Rule(formats=("sdist",)))),
        "inner": Virtual(of=("upstream",), rules=(Rule(deny="demo==1.0"),)),
        "root": Virtual(of=("inner",), rules=(Rule(deny="demo==3.0"),)),
    }
    files = [
        file(WHEEL),
        file(SDIST),
        file(LATER),
        file("demo-3.0.tar.gz"),
        replace(file("demo-4.0.tar.gz"), yanked=""),
    ]
    made = catalog(index, Public("upstream", *files))
    page = await index_of(made).project(DEMO)
    assert filenames_on(page) == [LATER]
    assert {name: by for name, (_, by) in held_on(page).items()} == {
        "demo-4.0.tar.gz": "index.upstream.rules[0]",
        WHEEL: "index.upstream.rules[1]",
        SDIST: "index.inner.rules[0]",
        "demo-3.0.tar.gz": "index.root.rules[0]",
    }
    assert filenames_on(await index_of(made, "inner").project(DEMO)) == [LATER, "demo-3.0.tar.gz"]
    assert filenames_on(await index_of(made, "upstream").project(DEMO)) == [SDIST, LATER, "demo-3.0.tar.gz"]


async def test_rules_of_a_hosted_index_and_of_a_folder_apply_to_them() -> None:
    index: dict[str, IndexSettings] = {
        "private": Hosted(rules=(Rule(deny="demo==1.0"),)),
        "wheels": Folder(path="/nowhere", rules=(Rule(formats=("wheel",)),)),
        "root": Virtual(of=("private", "wheels")),
    }
    made = catalog(index, Kept("wheels", file("other-1.tar.gz")))
    await publish(made, SDIST)
    assert filenames_on(await index_of(made).project(DEMO)) == []
    assert filenames_on(await index_of(made).project(OTHER)) == []


async def test_a_page_changes_by_itself_when_a_cooldown_ends() -> None:
    clock = Clock()
    upstream = Public("upstream", file(SDIST), file(LATER, uploaded=NOON - DAY))
    made = catalog({**PLAIN, "upstream": Mirror(rules=(Rule(cooldown="7 days"),))}, upstream, clock=clock)
    root = index_of(made)
    assert filenames_on(await root.project(DEMO)) == [SDIST]
    revision, asked = await root.revision(DEMO), upstream.asked.copy()
    clock.now = NOON + 6 * DAY - DAY / 86400
    assert filenames_on(await root.project(DEMO)) == [SDIST]
    assert upstream.asked.count(DEMO) == asked.count(DEMO) + 1  # for its revision: the page was remembered
    clock.now = NOON + 6 * DAY
    assert filenames_on(await root.project(DEMO)) == [SDIST, LATER]
    assert await root.revision(DEMO) == revision


# failures


async def test_a_member_that_fails_stops_what_it_could_own_and_says_who_it_is_and_what_helps() -> None:
    index = {**PLAIN, "root": Virtual(of=("upstream", "private"), own=("acme-*",))}
    upstream = Public("upstream")
    made = catalog(index, upstream)
    for filename in (SDIST, "acme_kit-1.0.tar.gz"):
        await publish(made, filename)
    upstream.fail(DEMO, Unavailable("it does not answer", hint="wait", status=504, retry_after=9))
    with pytest.raises(Unavailable) as raised:
        await index_of(made).project(DEMO)
    error = raised.value
    assert error.message == "index upstream cannot be asked: it does not answer"
    assert error.hint == "wait; names in `own` of index.root are answered without it"
    assert (error.status, error.retry_after) == (504, 9)
    upstream.fail(normalise("acme-kit"), Unavailable("down"))
    assert filenames_on(await index_of(made).project(normalise("acme-kit"))) == ["acme_kit-1.0.tar.gz"]


async def test_a_member_inside_another_is_named_once() -> None:
    index = {
        **PLAIN,
        "inner": Virtual(of=("private", "upstream")),
        "other": Hosted(),
        "root": Virtual(of=("other", "inner")),
    }
    upstream = Public("upstream")
    upstream.fail(DEMO, Unavailable("down"))
    with pytest.raises(Unavailable, match=r"^index upstream cannot be asked: down \(names in `own` of index.inner"):
        await index_of(catalog(index, upstream)).project(DEMO)


# what is stored here


async def test_the_local_part_of_an_index_is_what_is_hosted_and_what_mirrors_keep() -> None:
    root = Virtual(of=("private", "upstream"), rules=(Rule(deny="demo==2.0"),))
    upstream = Public("upstream", file(SDIST), file(LATER), file("other-1.tar.gz"))
    made = catalog({**PLAIN, "root": root}, upstream)
    await publish(made, "own-1.tar.gz")
    local = made.indexes["root"].local
    assert local is not None
    with pytest.raises(NotFound):
        await local.project(DEMO)
    assert is_absent(await local.revision(DEMO))
    upstream.cached.put(file(SDIST), file(LATER))
    assert filenames_on(await local.project(DEMO)) == [SDIST]
    assert [name async for name in local.projects()] == ["demo", "own"]
    with pytest.raises(NotFound):
        await local.project(OTHER)
    assert upstream.asked == []


async def test_an_index_without_a_mirror_is_all_local() -> None:
    made = catalog({**PLAIN, "two": Virtual(of=("private",))}, Public("upstream"))
    assert {name: mounted.local is None for name, mounted in made.indexes.items()} == {
        "private": True, "upstream": False, "root": False, "two": True,
    }  # fmt: skip


async def test_names_that_are_owned_are_local_only_where_they_are_stored_privately() -> None:
    upstream = Public("upstream")
    upstream.cached.put(file("acme_kit-1.tar.gz"))
    made = catalog({**PLAIN, "root": Virtual(of=("private", "upstream"), own=("acme-*",))}, upstream)
    local = made.indexes["root"].local
    assert local is not None
    with pytest.raises(NotFound):
        await local.project(normalise("acme-kit"))


# redirects


async def test_an_index_that_redirects_asks_no_mirror_and_says_where_the_page_is() -> None:
    upstream = Public("upstream", file(SDIST))
    index: dict[str, IndexSettings] = {**PLAIN, "root": Virtual(of=("private", "upstream"), fallback="redirect")}
    made = catalog({**index, "outer": Virtual(of=("root",))}, upstream)
    fallback = made.indexes["root"].fallback
    assert fallback is not None
    assert await fallback(DEMO) == "https://upstream.example/simple/demo/"
    for name in ("root", "outer"):
        with pytest.raises(NotFound):
            await index_of(made, name).project(DEMO)
    assert made.indexes["outer"].fallback is None
    assert upstream.asked == []


# rivals


@pytest.mark.parametrize(
    ("root", "rivals"),
    [
        (Virtual(of=("private", "upstream")), ["upstream"]),
        (Virtual(of=("upstream", "private")), []),  # it hides nothing there
        (Virtual(of=("private", "upstream"), own=("demo",)), []),
        (Virtual(of=("private", "upstream"), own=("acme-*",)), ["upstream"]),
        (Virtual(of=("private",)), []),
        (Virtual(of=("private", "inner")), ["second"]),
        (Virtual(of=("private", "inner", "upstream")), ["second", "upstream"]),
        (Virtual(of=("private", "upstream"), fallback="redirect"), ["upstream"]),
    ],
)
def test_a_first_file_hides_what_the_mirrors_behind_it_have(root: Virtual, rivals: list[str]) -> None:
    index: dict[str, IndexSettings] = {
        "private": Hosted(), "upstream": Mirror(), "second": Mirror(), "inner": Virtual(of=("second",)), "root": root,
    }  # fmt: skip
    made = catalog(index, Public("upstream"), Public("second"))
    for name in ("private", "root"):
        assert [mirror.name for mirror in made.indexes[name].rivals(DEMO)] == rivals
    assert made.indexes["inner"].rivals(DEMO) == ()
