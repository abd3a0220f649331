"""Filenames: what exists is read, what is uploaded is judged, and pages are put in order."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from entrepot.errors import Invalid
from entrepot.model import File, ProjectName, normalise
from entrepot.wire import filenames

_names = st.from_regex(r"[a-z0-9]([a-z0-9]|[._-][a-z0-9]){0,12}", fullmatch=True)
_versions = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "1!"]),
    st.lists(st.integers(0, 999), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts))),
    st.sampled_from(["", "a1", "b2", "rc3"]),
    st.sampled_from(["", ".post4", ".dev5", ".post4.dev5"]),
    st.sampled_from(["", "+local.1"]),
).map(Version)
_tags = st.sampled_from(["py3-none-any", "py2.py3-none-any", "cp311-abi3-manylinux_2_17_x86_64", "x-y-z"])


def _file(filename: str, *, yanked: str | None = None) -> File:
    return File(filename=filename, version=filenames.parse(filename).version_text, yanked=yanked)


@settings(deadline=None)
@given(name=_names, version=_versions, tags=_tags, build=st.sampled_from(["", "1-", "2b-"]))
def test_a_rendered_wheel_name_is_read_back_and_accepted(name: str, version: Version, tags: str, build: str) -> None:
    filename = f"{normalise(name).replace('-', '_')}-{version}-{build}{tags}.whl"
    found = filenames.check(filename, kind="bdist_wheel")
    assert found == filenames.parse(filename)
    assert (found.project, found.version, found.tags) == (normalise(name), version, tags)
    assert (found.build, found.pyversion) == (build.rstrip("-"), tags.partition("-")[0])


@settings(deadline=None)
@given(name=_names, version=_versions)
def test_a_rendered_sdist_name_is_read_back_and_accepted(name: str, version: Version) -> None:
    filename = f"{normalise(name).replace('-', '_')}-{version}.tar.gz"
    found = filenames.check(filename, kind="sdist")
    assert found == filenames.parse(filename)
    assert (found.project, found.version_text, found.pyversion) == (normalise(name), str(version), "source")


@settings(deadline=None)
@given(name=_names, version=_versions, extension=st.sampled_from([".tar.gz", ".zip"]))
def test_a_known_project_settles_how_an_old_name_splits(name: str, version: Version, extension: str) -> None:
    found = filenames.parse(f"{name}-{version}{extension}", project=normalise(name))
    assert (found.project, found.version) == (normalise(name), version)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_or_invalid(text: str) -> None:
    for read in (filenames.parse, lambda name: filenames.check(name, kind="sdist")):
        for extension in ("", ".whl", ".tar.gz", ".zip"):
            try:
                assert read(text + extension).project
            except Invalid as error:
                str(error).encode()  # fit for any log


@pytest.mark.parametrize(
    ("filename", "project", "version"),
    [
        ("Django-4.2.tar.gz", "django", "4.2"),
        ("zope.interface-5.0.tar.gz", "zope-interface", "5.0"),
        ("foo-bar-1.0.tar.gz", "foo-bar", "1.0"),
        ("foo-bar-1.0.zip", "foo-bar", "1.0"),
        ("foo-1.0-1.tar.gz", "foo", "1.0.post1"),
        ("foo-1.0-beta2.tar.gz", "foo", "1.0b2"),
        ("foo-2-bar-1.0.tar.gz", "foo-2-bar", "1.0"),
        ("foo-1.0-SNAPSHOT.tar.gz", "foo", "1.0-SNAPSHOT"),
        ("foo-nightly.tar.gz", "foo", "nightly"),
        ("Foo.Bar-1.0-py3-none-any.whl", "foo-bar", "1.0"),
        ("foo-bar-1.0-py3-none-any.whl", "foo-bar", "1.0"),
        ("foo-1.0-2b-py3-none-any.whl", "foo", "1.0"),
        ("foo-1.0+abc_1-py3-none-any.whl", "foo", "1.0+abc.1"),
        ("foo-main-py3-none-any.whl", "foo", "main"),
    ],
)
def test_old_names_are_read(filename: str, project: str, version: str) -> None:
    found = filenames.parse(filename)
    assert (found.project, found.version_text) == (project, version)


def test_a_name_with_a_version_in_it_is_read_as_its_project() -> None:
    filename = "acme-2-1.0.tar.gz"
    assert filenames.parse("acme-2-1.tar.gz").version_text == "2.post1"
    assert filenames.parse("acme-2-1.tar.gz", project=ProjectName("acme-2")).version_text == "1"
    assert filenames.parse(filename, project=ProjectName("acme-2")).version_text == "1.0"
    found = filenames.parse("acme-2-1-py3-none-any.whl", project=ProjectName("acme-2"))
    assert (found.version_text, found.build) == ("1", "")


@pytest.mark.parametrize(
    ("filename", "project", "version", "python"),
    [
        ("demo-1.0-py2.7.egg", "demo", "1.0", "2.7"),
        ("Demo_Kit-1.0_rc1-py3.11-linux-x86_64.egg", "demo-kit", "1.0rc1", "3.11"),
        ("demo-kit-1.0-py2.egg", "demo-kit", "1.0", "2"),
        ("demo-one-py2.7.egg", "demo", "one", "2.7"),
    ],
)
def test_an_egg_is_read_and_no_upload(filename: str, project: str, version: str, python: str) -> None:
    found = filenames.parse(filename)
    assert (found.kind, found.project, found.version_text, found.pyversion) == ("bdist_egg", project, version, python)
    with pytest.raises(Invalid, match="are accepted"):
        filenames.check(filename, kind="bdist_egg")


@pytest.mark.parametrize(
    "filename",
    [
        "demo-1.0.egg",
        "demo-py2.7.egg",
        "demo-1.0.exe",
        "demo-1.0.tar.bz2",
        "demo-1.0.tar.gz.asc",
        "demo-1.0-py3-none-any.whl.metadata",
        "demo.tar.gz",
        "demo-1.0.whl",
        "demo-1.0-py3--any.whl",
        "-1.0.tar.gz",
        "demo-.tar.gz",
        "_demo-1.0.tar.gz",
        "a/demo-1.0.tar.gz",
        "demo-1.0/../x.tar.gz",
        "demo-1.0\n.tar.gz",
        "démo-1.0.tar.gz",
        "demo 1.0-1.tar.gz",
        "",
        ".whl",
    ],
)
def test_what_is_no_distribution_is_invalid(filename: str) -> None:
    with pytest.raises(Invalid):
        filenames.parse(filename)


@pytest.mark.parametrize(
    ("filename", "message"),
    [
        ("demo-1.0\x7f.tar.gz", "control characters"),
        ("../demo-1.0.tar.gz", "is a path"),
        ("a\\demo-1.0.tar.gz", "is a path"),
        (f"{'a' * 250}-1.0.tar.gz", "longer than 255 bytes"),
        (f"{'é' * 130}-1.0.tar.gz", "longer than 255 bytes"),
        ("démo-1.0.tar.gz", "characters that no distribution has"),
        ("demo-1.0.zip", r"wheels \(.whl\) and source distributions \(.tar.gz\) are accepted"),
        ("demo-1.0-py3.11.egg", r"\(.tar.gz\) are accepted"),
        ("Demo-1.0.tar.gz", r"Filename 'Demo-1.0.tar.gz' is invalid, should be 'demo-1.0.tar.gz'\."),
        ("demo-pkg-1.0.tar.gz", "should be 'demo_pkg-1.0.tar.gz'"),
        ("demo-1.0.0-alpha.tar.gz", "should be 'demo-1.0.0a0.tar.gz'"),
        ("demo-1.0-1.tar.gz", "should be 'demo-1.0.post1.tar.gz'"),
        ("demo-one.tar.gz", "has no valid version"),
        ("demo.pkg-1.0-py3-none-any.whl", "should be 'demo_pkg-1.0-py3-none-any.whl'"),
        ("demo-01.0-py3-none-any.whl", "should be 'demo-1.0-py3-none-any.whl'"),
        ("demo-one-py3-none-any.whl", "invalid version"),
        ("demo-1.0-py3-none.whl", "wrong number of parts"),
        ("demo-1.0-x-py3-none-any.whl", "Invalid build number"),
        ("_-1.0-py3-none-any.whl", "no valid project name"),
    ],
)
def test_an_upload_is_told_what_its_name_should_be(filename: str, message: str) -> None:
    kind = "bdist_wheel" if filename.endswith(".whl") else "sdist"
    with pytest.raises(Invalid, match=message):
        filenames.check(filename, kind=kind)


def test_the_form_must_say_what_the_file_is() -> None:
    with pytest.raises(Invalid, match="is a sdist, the form says 'bdist_wheel'"):
        filenames.check("demo-1.0.tar.gz", kind="bdist_wheel")
    with pytest.raises(Invalid, match="is a bdist_wheel, the form says ''"):
        filenames.check("demo-1.0-py3-none-any.whl", kind="")


def test_private_indexes_take_local_versions_and_unknown_platforms() -> None:
    found = filenames.check("demo-1.0+acme.3-cp399-weird-acmeos_9_riscv.whl", kind="bdist_wheel")
    assert found.version_text == "1.0+acme.3"


def test_files_are_ordered_by_version_then_name_and_odd_versions_come_first() -> None:
    names = [
        "demo-nightly.tar.gz",
        "demo-1.0.dev1.tar.gz",
        "demo-1.0a1.tar.gz",
        "demo-1.0-py3-none-any.whl",
        "demo-1.0.tar.gz",
        "demo-1.9.tar.gz",
        "demo-1.10.tar.gz",
        "demo-1!0.1.tar.gz",
    ]
    files = [_file(name) for name in names]
    assert [file.filename for file in filenames.ordered(reversed(files))] == names
    assert filenames.versions(files) == ("nightly", "1.0.dev1", "1.0a1", "1.0", "1.9", "1.10", "1!0.1")


@settings(deadline=None)
@given(st.lists(st.tuples(_versions, _tags), max_size=20).flatmap(st.permutations))
def test_the_order_does_not_depend_on_the_order_given(pairs: list[tuple[Version, str]]) -> None:
    files = [_file(f"demo-{version}-{tags}.whl") for version, tags in pairs]
    assert filenames.ordered(files) == filenames.ordered(sorted(files, key=lambda file: file.filename))
    found = [Version(version) for version in filenames.versions(files)]
    assert found == sorted(found)


_texts = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "0!", "1!"]),
    st.lists(st.sampled_from(["0", "1", "2", "10", "01"]), min_size=1, max_size=4).map(".".join),
    st.sampled_from(["", "a0", "a1", "b1", "rc1", "rc2", "-alpha"]),
    st.sampled_from(["", ".post0", ".post1", "-1", ".dev0", ".dev1", ".post1.dev1", ".post0.dev2"]),
    st.sampled_from(["", "+1", "+10", "+a", "+a.1", "+1.a", "+2.0"]),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(_texts, min_size=2, max_size=12))
def test_versions_are_ordered_as_packaging_orders_them(texts: list[str]) -> None:
    files = [File(filename=f"{number}.whl", version=text) for number, text in enumerate(texts)]
    ordered = [Version(file.version) for file in filenames.ordered(files)]
    assert ordered == sorted(ordered)
    # Equal ones share a place, where the filename decides.
    for one, other in pairwise(filenames.ordered(files)):
        assert Version(one.version) < Version(other.version) or one.filename < other.filename


@settings(deadline=None)
@given(
    st.sampled_from(["demo", "De.mo", "other", "de_mo", "_demo", "demo_"]),
    st.sampled_from(["1", "1.0", "01.0", "1.0rc1", "1.0+x", "1.x", "", "2024.1.1", "1-1"]),
    st.sampled_from([".tar.gz", ".zip", "-py3-none-any.whl", "-1-py3-none-any.whl", "--none-any.whl", "-py3-any.whl"]),
)
def test_a_version_is_read_as_the_whole_name_is(name: str, version: str, ending: str) -> None:
    filename = f"{name}-{version}{ending}"
    try:
        expected = filenames.parse(filename, project=ProjectName("demo")).version_text
    except Invalid:
        expected = None
    assert filenames.version_of(filename, ProjectName("demo")) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.one_of(_versions, st.just("nightly")), _tags), min_size=1, max_size=20, unique=True))
def test_a_file_is_inserted_where_ordering_would_put_it(pairs: list[tuple[object, str]]) -> None:
    files = [_file(f"demo-{version}-{tags}.whl") for version, tags in pairs]
    assert filenames.inserted(filenames.ordered(files[1:]), files[0]) == filenames.ordered(files)


@pytest.mark.parametrize(
    ("files", "latest"),
    [
        ([], None),
        (["demo-1.0.tar.gz", "demo-2.0rc1.tar.gz"], "1.0"),
        (["demo-1.0rc1.tar.gz", "demo-2.0rc1.tar.gz"], "2.0rc1"),
        (["demo-1.0.tar.gz", "!demo-2.0.tar.gz"], "1.0"),
        (["demo-1.0rc1.tar.gz", "!demo-2.0.tar.gz"], "1.0rc1"),
        (["!demo-1.0.tar.gz", "!demo-2.0.tar.gz"], "2.0"),
        (["demo-1.0.tar.gz", "!demo-2.0.tar.gz", "demo-2.0-py3-none-any.whl"], "2.0"),
        (["demo-nightly.tar.gz", "demo-0.1.tar.gz"], "0.1"),
        (["demo-nightly.tar.gz"], "nightly"),
    ],
)
def test_the_latest_version_is_final_and_not_yanked_where_there_is_one(files: list[str], latest: str | None) -> None:
    page = [_file(name.lstrip("!"), yanked="" if name.startswith("!") else None) for name in files]
    assert filenames.latest(page) == latest


_PARTS = [
    "demo",
    "Demo",
    "other",
    "1.0",
    "1",
    "2b",
    "py3",
    "none",
    "any",
    "-",
    "-",
    "-",
    "-",
    ".whl",
    ".tar.gz",
    ".zip",
    "+",
    "",
    "é",
]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(_PARTS), max_size=14).map("".join)
    | st.integers(180, 260).map("demo-1.0-py3-none-{:a<250}.whl".format)
)
def test_the_version_of_a_file_is_that_of_its_name(filename: str) -> None:
    project = normalise("demo")
    try:
        expected = filenames.parse(filename, project=project).version_text
    except Invalid:
        expected = None
    assert filenames.version_of(filename, project) == expected
