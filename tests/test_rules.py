"""Rules: what each withholds and why, and that none does anything else."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from entrepot import rules
from entrepot.errors import Invalid
from entrepot.model import File, Project, ProjectName, normalise
from entrepot.rules import Rule
from entrepot.wire import filenames

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = 7 * DAY


def file(filename: str, *, uploaded: datetime | None = NOON - 30 * DAY, **more: Any) -> File:
    return File(filename=filename, version=filenames.parse(filename).version_text, uploaded=uploaded, **more)


def page(*files: File, name: str = "demo") -> Project:
    return Project(name=normalise(name), files=files)


def shown(rule: Rule, *files: File, name: str = "demo", now: datetime = NOON) -> list[str]:
    return [file.filename for file in rule(page(*files, name=name), now).files]


def why(rule: Rule, *files: File, name: str = "demo", now: datetime = NOON) -> list[str]:
    return [held.why for held in rule(page(*files, name=name), now).withheld]


def built(**said: Any) -> Rule:
    return rules.build(said)


WHEEL, SDIST = file("demo-1.0-py3-none-any.whl"), file("demo-1.0.tar.gz")
LATER = file("demo-2.0.tar.gz")


# allow, deny: by name, version and filename


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("demo", [WHEEL, SDIST, LATER]),
        ("DEMO", [WHEEL, SDIST, LATER]),
        ("*", [WHEEL, SDIST, LATER]),
        ("de*", [WHEEL, SDIST, LATER]),
        ("dem?", [WHEEL, SDIST, LATER]),
        ("de", []),
        ("demo-*", []),
        ("demo.o", []),  # a dot is a separator, and no sign that stands for another
        ("demo==1.*", [WHEEL, SDIST]),
        ("demo == 1.0.0", [WHEEL, SDIST]),
        ("demo>=1.5", [LATER]),
        ("demo>=1,<2", [WHEEL, SDIST]),
        ("*<2", [WHEEL, SDIST]),
        ("other==1.*", []),
        ("*.whl", [WHEEL]),
        ("*-PY3-none-any.whl", [WHEEL]),
        ("demo-?.0.tar.gz", [SDIST, LATER]),
        ("demo.whl", []),
    ],
)
def test_a_pattern_is_of_names_versions_or_filenames(pattern: str, matched: list[File]) -> None:
    files = (WHEEL, SDIST, LATER)
    names = [file.filename for file in matched]
    assert shown(built(allow=pattern), *files) == names
    assert shown(built(deny=(pattern,)), *files) == [f.filename for f in files if f.filename not in names]


def test_names_are_compared_in_their_normal_form() -> None:
    assert shown(built(deny="Acme_Tools"), file("acme_tools-1.tar.gz"), name="acme-tools") == []
    assert shown(built(deny="zope.*"), file("zope.interface-1.tar.gz"), name="zope.interface") == []


def test_what_matches_one_of_several_patterns_matches() -> None:
    assert shown(built(allow=("other", "demo==2")), WHEEL, LATER) == [LATER.filename]


def test_a_pre_release_and_a_local_version_are_of_their_version() -> None:
    pre, local = file("demo-2.0rc1.tar.gz"), file("demo-2.0+cpu.tar.gz")
    assert shown(built(allow="demo>=2.0rc1"), pre) == [pre.filename]
    assert shown(built(deny="demo==2.0"), local) == []


def test_a_version_that_cannot_be_compared_counts_against_the_file() -> None:
    strange = replace(SDIST, version="one")
    assert shown(built(deny="demo<2"), strange) == []
    assert shown(built(allow="demo<2"), strange) == []
    assert shown(built(deny="demo"), strange) == []
    assert shown(built(allow="demo"), strange) == [strange.filename]


def test_it_is_said_what_denies_and_that_something_is_not_allowed() -> None:
    assert why(built(deny=("other", "demo<2")), SDIST) == ["it is denied by 'demo<2'"]
    assert why(built(allow="other"), SDIST) == ["it is not among what is allowed"]


# cooldown


def test_files_pass_when_they_are_old_enough_and_the_page_says_when_the_next_one_is() -> None:
    old, young, youngest = (
        file(f"demo-{n}.tar.gz", uploaded=NOON - age) for n, age in enumerate((WEEK, DAY, timedelta(0)))
    )
    ruled = built(cooldown="7 days")(page(old, young, youngest), NOON)
    assert ruled.files == (old,)
    assert ruled.valid_until == NOON + 6 * DAY
    assert [held.why for held in ruled.withheld] == [
        "uploaded 2026-11-19 12:00: passes on 2026-11-26 12:00, after 7 days",
        "uploaded 2026-11-20 12:00: passes on 2026-11-27 12:00, after 7 days",
    ]


def test_a_page_of_old_files_never_changes_by_itself() -> None:
    assert built(cooldown="7 days")(page(SDIST), NOON).valid_until is None


@pytest.mark.parametrize(("unknown", "passes"), [(None, False), ("deny", False), ("allow", True)])
def test_a_file_of_unknown_time_waits_for_ever_unless_it_is_allowed(unknown: str | None, passes: bool) -> None:
    said = {"cooldown": "36 h"} | ({"unknown": unknown} if unknown else {})
    ruled = built(**said)(page(replace(SDIST, uploaded=None)), NOON)
    assert bool(ruled.files) is passes
    assert ruled.valid_until is None
    if not passes:
        assert ruled.withheld[0].why == "its upload time is not known, and there is a cooldown of 36 hours"


def test_what_is_exempt_need_not_wait() -> None:
    young = file("demo-1.tar.gz", uploaded=NOON)
    for pattern in ("demo", "demo==1", "*.tar.gz"):
        assert shown(built(cooldown=60, exempt=(pattern,)), young, replace(young, uploaded=None)) != []
    assert shown(built(cooldown=60, exempt=("demo==2", "other")), young) == []


def test_a_file_from_the_end_of_time_is_no_fault() -> None:
    ruled = built(cooldown="7 days")(page(file("demo-1.tar.gz", uploaded=datetime.max.replace(tzinfo=UTC))), NOON)
    assert ruled.files == ()


# at, formats, yanked


def test_as_of_a_day_its_last_microsecond_counts_and_the_next_does_not() -> None:
    end = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    last, next_ = file("demo-1.tar.gz", uploaded=end), file("demo-2.tar.gz", uploaded=end + timedelta(microseconds=1))
    ruled = built(at="2026-03-01")(page(last, next_), NOON)
    assert ruled.files == (last,)
    assert [held.why for held in ruled.withheld] == ["uploaded 2026-03-02 00:00, after 2026-03-01"]
    assert ruled.valid_until is None


def test_as_of_a_day_an_unknown_time_counts_against_the_file_unless_it_is_allowed() -> None:
    unknown = replace(SDIST, uploaded=None)
    assert why(built(at="2026-03-01"), unknown) == [
        "its upload time is not known, so it may be younger than 2026-03-01"
    ]
    assert shown(built(at="2026-03-01", unknown="allow"), unknown) == [unknown.filename]


def test_later_yanks_apply_as_of_a_day() -> None:
    yanked = replace(SDIST, yanked="broken")
    assert rules.at(date(9999, 12, 31))(page(yanked), NOON).files == (yanked,)


@pytest.mark.parametrize(
    ("filename", "kind"),
    [
        ("demo-1.0-py3-none-any.whl", "wheel"),
        ("demo-1.0.tar.gz", "sdist"),
        ("demo-1.0.zip", "sdist"),
        ("demo-1.0.tar.Z", "sdist"),
        ("demo-1.0-py3.9.egg", "egg"),
        ("demo-1.0.win32.exe", "other"),
        ("demo-1.0.noarch.rpm", "other"),
    ],
)
def test_a_format_is_known_by_its_ending(filename: str, kind: str) -> None:
    one = File(filename=filename, version="1.0")
    for wanted in ("wheel", "sdist", "egg", "other"):
        assert bool(rules.formats((wanted,))(page(one), NOON).files) is (wanted == kind)


def test_it_is_said_which_formats_pass() -> None:
    assert why(built(formats=("wheel", "sdist")), File(filename="demo-1.egg", version="1")) == [
        "its format, egg, is not among wheel, sdist"
    ]


def test_yanked_files_are_hidden_with_their_reason() -> None:
    assert why(built(yanked="hide"), WHEEL, replace(SDIST, yanked="loses data"), replace(LATER, yanked="")) == [
        "yanked: loses data",
        "yanked: no reason given",
    ]


# sparing


def test_files_of_a_spared_source_are_not_touched() -> None:
    ours, theirs = replace(SDIST, origin="private"), replace(LATER, origin="upstream")
    rule = rules.sparing({"private"}, built(deny="demo"))
    assert shown(rule, ours, theirs) == [ours.filename]
    assert shown(rule, ours) == [ours.filename]
    assert why(rule, ours, theirs) == ["it is denied by 'demo'"]


# What holds for every rule

_patterns = st.sampled_from(["demo", "d*", "other", "demo==1.*", "demo>1.5", "*.whl", "*-2.*.tar.gz", "*!=1.0"])
_tables: st.SearchStrategy[Mapping[str, Any]] = st.one_of(
    st.fixed_dictionaries({"allow": _patterns}),
    st.fixed_dictionaries({"deny": st.lists(_patterns, min_size=1, max_size=3).map(tuple)}),
    st.fixed_dictionaries(
        {"cooldown": st.sampled_from(["0 s", "36 h", "7 days", "100 days"])},
        optional={"unknown": st.sampled_from(["allow", "deny"]), "exempt": st.tuples(_patterns)},
    ),
    st.fixed_dictionaries(
        {"at": st.sampled_from(["2026-11-01", "2026-11-20", "1970-01-01"])},
        optional={"unknown": st.sampled_from(["allow", "deny"])},
    ),
    st.fixed_dictionaries(
        {"formats": st.lists(st.sampled_from(["wheel", "sdist", "egg", "other"]), min_size=1).map(tuple)}
    ),
    st.just({"yanked": "hide"}),
)
_spared = st.sampled_from([None, frozenset({"a"}), frozenset({"a", "b"})])


@st.composite
def any_rule(draw: st.DrawFn) -> Rule:
    rule, spared = rules.build(draw(_tables)), draw(_spared)
    return rule if spared is None else rules.sparing(spared, rule)


_hours = st.integers(-40 * 24, 24).map(lambda hours: NOON + timedelta(hours=hours))


@st.composite
def pages(draw: st.DrawFn) -> Project:
    names = draw(st.lists(st.sampled_from([
        *(f"demo-{version}.tar.gz" for version in ("1.0", "1.1", "2.0", "2.1rc1", "3!1.0")),
        *(f"demo-{version}-py3-none-any.whl" for version in ("1.0", "1.1", "2.0")),
    ]), unique=True))  # fmt: skip
    files = [
        file(
            filename,
            uploaded=draw(st.none() | _hours),
            yanked=draw(st.sampled_from([None, "", "broken"])),
            origin=draw(st.sampled_from("ab")),
        )
        for filename in names
    ]
    return Project(name=ProjectName("demo"), files=filenames.ordered(files), valid_until=draw(st.none() | _hours))


@given(any_rule(), pages(), _hours)
def test_a_rule_only_withholds_and_keeps_the_order(rule: Rule, before: Project, now: datetime) -> None:
    after = rule(before, now)
    assert [file for file in before.files if file in after.files] == list(after.files)
    held = after.withheld[len(before.withheld) :]
    assert after.withheld[: len(before.withheld)] == before.withheld
    assert sorted(f.filename for f in (*after.files, *(w.file for w in held))) == sorted(
        f.filename for f in before.files
    )
    assert all(withheld.why for withheld in held)
    assert replace(after, files=before.files, withheld=before.withheld, valid_until=before.valid_until) == before


@given(any_rule(), pages(), _hours)
def test_a_rule_only_lowers_the_time_for_which_a_page_holds(rule: Rule, before: Project, now: datetime) -> None:
    after = rule(before, now)
    if before.valid_until is not None:
        assert after.valid_until is not None
        assert after.valid_until <= before.valid_until
    assert after.valid_until is None or after.valid_until > now or after.valid_until == before.valid_until


@given(any_rule(), pages(), _hours)
def test_a_rule_applied_twice_is_applied_once(rule: Rule, before: Project, now: datetime) -> None:
    once = rule(before, now)
    assert rule(once, now) == once


@given(any_rule(), pages(), _hours, st.integers(0, 200 * 24))
def test_a_page_holds_until_the_time_that_it_names(rule: Rule, before: Project, now: datetime, hours: int) -> None:
    kept, later = rule(before, now), now + timedelta(hours=hours)
    if kept.valid_until is None or later < kept.valid_until:
        assert rule(before, later) == kept


@given(any_rule(), pages(), _hours)
def test_what_a_rule_withholds_has_no_version_on_the_page_and_cannot_be_found_there(
    rule: Rule, before: Project, now: datetime
) -> None:
    after = rule(before, now)
    assert set(filenames.versions(after.files)) == {file.version for file in after.files}
    for held in after.withheld:
        assert held.file not in after.files


# Faults


def faults(**said: Any) -> list[str]:
    with pytest.raises(Invalid) as refused:
        rules.build(said)
    return [str(problem) for problem in refused.value.problems or (refused.value,)]


_ONE_OF = "(one of: allow, deny, cooldown, at, formats, yanked)"
_HINT = '(a pattern is "name", "acme-*", "name==1.*" or "*.exe")'


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, [f"says nothing {_ONE_OF}"]),
        ({"unknown": "deny"}, [f"says nothing {_ONE_OF}"]),
        ({"allow": "a", "deny": "b"}, [f"says 2 things at once: allow, deny {_ONE_OF}"]),
        ({"deny": ""}, [f"deny: '' matches no project name {_HINT}"]),
        ({"deny": "a b"}, [f"deny: 'a b' matches no project name {_HINT}"]),
        ({"deny": "requests[socks]"}, [f"deny: 'requests[socks]' matches no project name {_HINT}"]),
        ({"allow": "==1.0"}, [f"allow: '==1.0' matches no project name {_HINT}"]),
        ({"allow": "a=1"}, [f"allow: '=1' is no version specifier {_HINT}"]),
        ({"allow": "dist/*.whl"}, [f"allow: 'dist/*.whl' matches no filename {_HINT}"]),
        (
            {"deny": ("a b", "good", "c=1")},
            [f"deny: 'a b' matches no project name {_HINT}", f"deny: '=1' is no version specifier {_HINT}"],
        ),
        ({"cooldown": "a week"}, ["cooldown: 'a week' is not a duration such as \"10 min\""]),
        ({"cooldown": "7 weeks"}, ["cooldown: '7 weeks' has an unknown unit of time (use s, min, h or days)"]),
        ({"cooldown": "99999 days"}, ["cooldown: '99999 days' is longer than a hundred years"]),
        (
            {"cooldown": "a week", "exempt": ("a b",)},
            [
                "cooldown: 'a week' is not a duration such as \"10 min\"",
                f"exempt: 'a b' matches no project name {_HINT}",
            ],
        ),
        ({"at": "1 March"}, ["at: '1 March' is no day (YYYY-MM-DD, such as 2026-03-01)"]),
        ({"at": "2026-02-30"}, ["at: '2026-02-30' is no day (YYYY-MM-DD, such as 2026-03-01)"]),
        ({"at": "20260301"}, ["at: '20260301' is no day (YYYY-MM-DD, such as 2026-03-01)"]),
        ({"deny": "a", "unknown": "deny"}, ["unknown: goes with cooldown and at, not with deny"]),
        (
            {"at": "2026-02-30", "exempt": ("a",)},
            ["exempt: goes with cooldown, not with at", "at: '2026-02-30' is no day (YYYY-MM-DD, such as 2026-03-01)"],
        ),
    ],
)
def test_every_fault_of_a_table_is_named_with_its_key(said: Mapping[str, Any], expected: list[str]) -> None:
    assert faults(**said) == expected


@pytest.mark.parametrize(
    ("said", "passes", "kept_out"),
    [
        ({"deny": ["evil-*", "other"]}, ["demo"], ["evil-x", "other"]),
        ({"deny": ["demo==1.*", "*.exe"]}, ["demo"], []),
        ({"deny": "*"}, [], ["demo"]),
        ({"allow": ["demo>=2", "open-*"]}, ["demo", "open-x"], ["other"]),
        ({"allow": ["demo", "*.whl"]}, ["demo", "other"], []),
        ({"allow": []}, [], ["demo"]),
    ],
)
def test_of_some_names_no_file_passes(said: Mapping[str, Any], passes: list[str], kept_out: list[str]) -> None:
    decides = rules.passing(said)
    assert decides is not None
    assert [name for name in (*passes, *kept_out) if decides(normalise(name))] == passes
    for name in kept_out:
        assert shown(built(**said), file(f"{name}-2.0-py3-none-any.whl"), file(f"{name}-1.0.tar.gz"), name=name) == []


@pytest.mark.parametrize("said", [{"cooldown": "7 days"}, {"formats": ["wheel"]}, {"yanked": "hide"}])
def test_other_rules_say_nothing_of_names(said: Mapping[str, Any]) -> None:
    assert rules.passing(said) is None


def test_patterns_of_names_have_no_versions_and_no_endings() -> None:
    matches = rules.names(("acme-*", "Internal"))
    assert [name for name in ("acme-kit", "acme", "internal", "other") if matches(normalise(name))] == [
        "acme-kit",
        "internal",
    ]
    for text in ("acme==1", "*.whl"):
        with pytest.raises(Invalid, match="is no pattern of project names"):
            rules.names((text,))
