"""The records and the errors that everything speaks of."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from entrepot.errors import Conflict, Denied, EntrepotError, Invalid, NotFound, Unavailable, collected
from entrepot.index import Revision, absent, is_absent
from entrepot.model import (
    File,
    Project,
    ProjectName,
    Status,
    StatusName,
    Withheld,
    earliest,
    is_valid_name,
    normalise,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEMO = ProjectName("demo")


def file(version: str) -> File:
    return File(filename=f"demo-{version}.tar.gz", version=version)


PAGE = Project(name=DEMO, files=(file("1"), file("2"), file("3")))


@given(st.from_regex(r"[A-Za-z0-9._-]+", fullmatch=True))
def test_names_are_normalised_as_packaging_does_it(name: str) -> None:
    assert str(normalise(name)) == canonicalize_name(name)


@given(st.text())
def test_normalising_never_fails_and_twice_is_once(name: str) -> None:
    assert normalise(normalise(name)) == normalise(name)


@pytest.mark.parametrize("name", ["a", "A1", "acme-tools", "acme_tools", "acme.tools", "a--b", "0"])
def test_these_are_names(name: str) -> None:
    assert is_valid_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", ".", "_", "a b", "a\n", "ä", "a/b", "a\0", "..", "\u212a"])
def test_these_are_none(name: str) -> None:
    assert not is_valid_name(name)


def test_a_file_on_the_page_is_found() -> None:
    assert PAGE.file("demo-2.tar.gz") == file("2")


def test_a_withheld_file_is_denied_with_its_reason_and_is_never_called_absent() -> None:
    page = Project(name=DEMO, withheld=(Withheld(file=file("1"), why="too young"),))
    with pytest.raises(Denied, match=r"demo-1.tar.gz is withheld: too young"):
        page.file("demo-1.tar.gz")


def test_the_rule_that_withholds_it_is_named() -> None:
    page = Project(name=DEMO, withheld=(Withheld(file=file("1"), why="too young", by="index.root.rules[0]"),))
    with pytest.raises(Denied, match=r"too young \(index.root.rules\[0\]\)$"):
        page.file("demo-1.tar.gz")


def test_any_other_file_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"no file demo-4.tar.gz in project demo"):
        PAGE.file("demo-4.tar.gz")


def test_what_is_not_kept_is_withheld_and_the_page_is_asked_for_again_in_time() -> None:
    later = NOON + timedelta(days=1)
    page = PAGE.keep(lambda file: file.version != "2", why="broken", until=later)
    assert [file.version for file in page.files] == ["1", "3"]
    assert page.withheld == (Withheld(file=file("2"), why="broken"),)
    assert page.valid_until == later


def test_keeping_everything_withholds_nothing_and_still_lowers_the_time() -> None:
    assert PAGE.keep(lambda _: True, why="-") == PAGE
    assert PAGE.keep(lambda _: True, why="-", until=NOON).valid_until == NOON


def test_the_earlier_of_two_times_counts() -> None:
    page = PAGE.keep(lambda _: False, why="-", until=NOON)
    assert page.keep(lambda _: False, why="-", until=NOON + timedelta(1)).valid_until == NOON
    assert page.keep(lambda _: False, why="-", until=NOON - timedelta(1)).valid_until == NOON - timedelta(1)


def test_a_second_rule_adds_to_what_the_first_one_withheld() -> None:
    page = PAGE.keep(lambda file: file.version != "1", why="a").keep(lambda file: file.version != "2", why="b")
    assert [(held.file.version, held.why) for held in page.withheld] == [("1", "a"), ("2", "b")]


def test_the_earliest_of_nothing_is_never() -> None:
    assert earliest([]) is None
    assert earliest([None, None]) is None
    assert earliest([None, NOON]) == NOON


@pytest.mark.parametrize(
    ("status", "open_for_uploads"),
    [("active", True), ("deprecated", True), ("archived", False), ("quarantined", False)],
)
def test_archived_and_quarantined_projects_take_no_files(status: StatusName, open_for_uploads: bool) -> None:
    assert Status(status=status).accepts_uploads is open_for_uploads


def test_an_absent_revision_is_told_from_every_other_one() -> None:
    assert is_absent(absent())
    assert is_absent(absent("etag"))
    assert not is_absent(Revision("etag"))


def test_an_error_says_where_what_and_what_to_do() -> None:
    assert str(Invalid("is wrong", at="files[3]", hint="try another")) == "files[3]: is wrong (try another)"
    assert str(NotFound("no project demo")) == "no project demo"


def test_the_kinds_carry_what_the_web_needs() -> None:
    assert Invalid("x").status == 400
    assert Invalid("x", status=413).status == 413
    assert (Unavailable("x").status, Unavailable("x").retry_after) == (503, 5)
    assert Unavailable("x", status=507).status == 507


def test_of_no_problems_there_is_no_error_and_of_one_there_is_that_one() -> None:
    one = Invalid("one")
    assert collected([], "demo") is None
    assert collected([one], "demo") is one


@pytest.mark.parametrize(
    ("problems", "kind"),
    [
        ([Invalid("a"), Invalid("b")], Invalid),
        ([Invalid("a"), Conflict("b")], Conflict),
        ([Conflict("a"), Denied("b"), Invalid("c")], Denied),
    ],
)
def test_several_problems_are_as_grave_as_the_gravest(problems: list[EntrepotError], kind: type[EntrepotError]) -> None:
    error = collected(problems, "demo-1.tar.gz")
    assert type(error) is kind
    assert error.problems == tuple(problems)
    assert error.message == f"demo-1.tar.gz has {len(problems)} problems"


def test_too_large_stays_too_large_among_others() -> None:
    error = collected([Invalid("a"), Invalid("b", status=413)], "demo")
    assert isinstance(error, Invalid)
    assert error.status == 413
