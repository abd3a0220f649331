"""Core metadata: read leniently, judged strictly, compared with the form."""

import time
from contextlib import suppress
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.metadata import parse_email

from entrepot.errors import Invalid
from entrepot.wire import metadata
from entrepot.wire.metadata import CoreMetadata

FULL = """\
Metadata-Version: 2.4
Name: Demo.Pkg
Version: 1.0
Dynamic: Requires-Dist
Platform: UNKNOWN
Platform: Linux
Summary: Grüße
Description-Content-Type: text/markdown
Keywords: a,b
Home-page: https://example.org/
Download-URL: UNKNOWN
Author: A
Author-email: a@example.org
Maintainer: M
Maintainer-email: m@example.org
License-Expression: MIT
License-File: LICENSE
License-File: NOTICE
Classifier: Programming Language :: Python
Requires-Python: >=3.9
Requires-Dist: packaging>=20
Requires-Dist: rich; extra == "cli"
Provides-Extra: cli
Project-URL: Docs, https://example.org/docs
Project-URL: Source, https://example.org/source
Import-Name: demo
Import-Namespace: acme
X-Unknown: kept out

# Demo

Name: not a header
"""


def _check(text: str, *, full: bool = False) -> tuple[CoreMetadata, list[str]]:
    head = "" if full else "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
    found, problems = metadata.check((head + text).encode())
    return found, [str(problem) for problem in problems]


def test_every_field_that_pages_show_is_read() -> None:
    found, problems = _check(FULL, full=True)
    assert not problems
    assert found == CoreMetadata(
        metadata_version="2.4",
        name="Demo.Pkg",
        version="1.0",
        dynamic=("Requires-Dist",),
        platforms=("Linux",),
        summary="Grüße",
        description="# Demo\n\nName: not a header\n",
        description_content_type="text/markdown",
        keywords="a,b",
        home_page="https://example.org/",
        author="A",
        author_email="a@example.org",
        maintainer="M",
        maintainer_email="m@example.org",
        license_expression="MIT",
        license_files=("LICENSE", "NOTICE"),
        classifiers=("Programming Language :: Python",),
        requires_python=">=3.9",
        requires_dist=("packaging>=20", 'rich; extra == "cli"'),
        provides_extra=("cli",),
        project_urls={"Docs": "https://example.org/docs", "Source": "https://example.org/source"},
        import_names=("demo",),
        import_namespaces=("acme",),
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_either_line_end_is_read(end: str) -> None:
    found, problems = metadata.check(FULL.replace("\n", end).encode())
    assert not problems
    assert found.import_namespaces == ("acme",)
    assert found.description.startswith("# Demo")


def test_reading_takes_what_it_can() -> None:
    found = metadata.parse(b"Name: a\nName: b\nRequires-Dist: a >=> 1\nKeywords: x\nKeywords: y\nSummary: \xff\n")
    assert (found.name, found.requires_dist, found.keywords, found.summary) == ("a", ("a >=> 1",), "x", "\ufffd")
    assert metadata.parse(b"") == CoreMetadata()
    assert metadata.parse(b"\nName: a") == CoreMetadata(description="Name: a")
    twice = metadata.parse(b"Project-URL: A, https://one\nProject-URL: A, https://two\nProject-URL: B\n")
    assert twice.project_urls == {"A": "https://one"}


def test_an_old_description_header_is_unfolded() -> None:
    found = metadata.parse(b"Name: a\nDescription: first\n        second\n       |third\nVersion: 1\n")
    assert found.description == "first\nsecond\nthird"
    assert found.version == "1"


def test_unknown_means_absent() -> None:
    found, problems = _check("Home-page: UNKNOWN\nRequires-Python: UNKNOWN\nLicense: UNKNOWN\nKeywords: UNKNOWN\n")
    assert not problems
    assert (found.home_page, found.requires_python, found.license, found.keywords) == ("", "", "", "")


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.11"])
def test_every_version_of_the_format_and_any_new_minor_one_is_accepted(version: str) -> None:
    found, problems = _check(f"Metadata-Version: {version}\nName: demo\nVersion: 1\nNew-Field: x\n", full=True)
    assert not problems
    assert found.format == tuple(map(int, version.split(".")))


@pytest.mark.parametrize("version", ["", "3.0", "1.3", "2", "2.x", "02.1"])
def test_other_versions_of_the_format_are_refused(version: str) -> None:
    found, problems = _check(f"Metadata-Version: {version}\nName: demo\nVersion: 1\n", full=True)
    assert "is no known version of the format" in problems[0]
    assert found.format == ()


@pytest.mark.parametrize(
    "url",
    [
        "https://host/a.whl",
        "https://host/a.whl#sha256=00",
        "git+https://host/a.git@main",
        "git+ssh://git@host/a.git",
        "hg+http://host/a",
    ],
)
def test_a_dependency_may_be_an_address_that_works_everywhere(url: str) -> None:
    assert not _check(f"Requires-Dist: a @ {url}\n")[1]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///tmp/a.whl", "exists only on the machine that built this"),
        ("FILE://localhost/a.whl", "exists only on the machine that built this"),
        ("git+file:///repo", "exists only on the machine that built this"),
        ("./a.whl", "exists only on the machine that built this"),
        ("oci://host/ns/a:1", "which no installer understands"),
        ("ftp://host/a.whl", "no installer understands ftp:"),
        ("evil+https://host/a", "no installer understands evil+https:"),
    ],
)
def test_a_dependency_on_what_others_cannot_reach_is_refused_with_the_reason(url: str, reason: str) -> None:
    problems = _check(f"Requires-Dist: a @ {url}\n")[1]
    assert len(problems) == 1
    assert reason in problems[0]
    assert problems[0].startswith("METADATA: Requires-Dist: ")


@pytest.mark.parametrize("field", ["Home-page: ", "Download-URL: ", "Project-URL: Docs, "])
@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "mailto:a@b",
        "//host/x",
        "host/x",
        "http:",
        "http://[x",
        "http://a\x01b",
    ],
)
def test_only_web_addresses_are_links(field: str, url: str) -> None:
    problems = _check(f"{field}{url}\n")[1]
    assert len(problems) == 1
    assert "address" in problems[0] or "no valid URL" in problems[0]


def test_all_problems_come_at_once_but_not_more_than_one_can_read() -> None:
    problems = _check(
        "Name: -\nVersion: one\nRequires-Python: x\nRequires-Dist: ???\nHome-page: x\ngarbage\n", full=True
    )[1]
    assert [problem.split(": ")[1] for problem in problems] == [
        "headers",
        "Metadata-Version",
        "Name",
        "Version",
        "Requires-Python",
        "Requires-Dist",
        "Home-page",
    ]
    many = _check("".join(f"Requires-Dist: {n} ???\n" for n in range(99)))[1]
    assert len(many) == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"Requires-Dist: a{'a' * 5000}\n", "longer than 4096 characters"),
        ("Requires-Dist: a\n" * 10_001, "more than 10000 dependencies"),
        ("Requires-Dist: a @ http://[x\n", "holds no valid URL"),
        (f"Requires-Python: =={'1' * 5000}\n", "no set of version specifiers"),
        (f"Requires-Python: =={'1' * 900}.x\n", "no set of version specifiers"),
        ("Dynamic: Version\n", "cannot be dynamic"),
        ("License: MIT\nLicense-Expression: MIT\n", "exclude each other"),
        ("Summary: a\nSummary: b\n", "given more than once"),
        ("Summary: a\0b\n", "null byte"),
    ],
)
def test_what_else_is_refused(text: str, message: str) -> None:
    assert message in " ".join(_check(text)[1])


def test_an_immense_version_is_no_version() -> None:
    assert metadata.parsed_version("1" * 5000) is None
    assert "is no valid version" in _check(f"Metadata-Version: 2.1\nName: a\nVersion: {'1' * 5000}\n", full=True)[1][0]


def test_what_is_too_large_or_not_utf_8_cannot_be_judged() -> None:
    with pytest.raises(Invalid, match="not UTF-8"):
        metadata.check(b"Name: \xff")
    with pytest.raises(Invalid, match="larger than 8 MiB"):
        metadata.check(b"\n" * (metadata.LARGEST + 1))


def test_mail_within_metadata_is_only_text() -> None:
    nested = "Content-Type: multipart/mixed; boundary=a\n\n--a\n" * 5000
    found, problems = _check(nested)
    assert not problems
    assert found.description.startswith("--a\n")


def test_a_hundred_thousand_fields_take_no_time() -> None:
    """packaging's reader needs the square of it: hours."""
    began = time.process_time()
    found, problems = _check("".join(f"X-{n}: x\nRequires-Dist: a\n" for n in range(100_000)))
    assert len(found.requires_dist) == 100_000
    assert len(problems) == 1
    assert time.process_time() - began < 5


_field_names = st.sampled_from([line.partition(":")[0] for line in FULL.splitlines() if ": " in line][:-1])
_field_values = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=20).map(str.strip)


@settings(deadline=None)
@given(
    lines=st.lists(st.tuples(_field_names, _field_values, st.sampled_from(["", "\n  more", "\n\tmore"])), max_size=12)
)
def test_fields_are_read_as_packaging_reads_them(lines: list[tuple[str, str, str]]) -> None:
    text = "".join(f"{name}: {value}{more}\n" for name, value, more in lines)
    theirs, _ = parse_email(text + "\nbody")
    ours = metadata.parse((text + "\nbody").encode())
    assert ours.summary == theirs.get("summary", ours.summary).strip().replace("UNKNOWN", "")
    assert ours.name == theirs.get("name", ours.name).strip().replace("UNKNOWN", "")
    assert ours.description == theirs.get("description", ours.description)
    for mine, other in ((ours.requires_dist, "requires_dist"), (ours.classifiers, "classifiers")):
        assert list(mine) == [value.strip() for value in cast("list[str]", theirs.get(other, [])) if value.strip()]


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_and_judged_or_invalid(data: bytes) -> None:
    for text in (data, b"Requires-Dist: " + data, b"Project-URL: a, " + data, b"Requires-Python: " + data):
        assert isinstance(metadata.parse(text), CoreMetadata)
        with suppress(Invalid):
            metadata.check(text)


_line = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20).filter(lambda s: s != "UNKNOWN")


@settings(deadline=None)
@given(
    summary=_line,
    keywords=st.lists(_line.filter(lambda s: "," not in s), max_size=3).map(",".join),
    classifiers=st.lists(_line, max_size=3).map(tuple),
    description=st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])).filter(str.strip),
)
def test_metadata_survives_being_written(
    summary: str, keywords: str, classifiers: tuple[str, ...], description: str
) -> None:
    head = [f"Summary: {summary}", *(f"Classifier: {line}" for line in classifiers)]
    head += [f"Keywords: {keywords}"] if keywords else []
    found, problems = _check("\n".join([*head, "", description]))
    assert not problems
    assert (found.summary, found.classifiers, found.description) == (summary, classifiers, description)
    assert found.keywords == ("" if keywords == "UNKNOWN" else keywords)


_OURS = CoreMetadata(name="Demo_Pkg", version="1.0", requires_python=">=3.9, <4")


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"name": ["demo-pkg"], "version": ["1.0.0"], "requires_python": ["<4,>=3.9"]},
        {"name": ["Demo.Pkg"], "version": ["v1.0"], "requires_python": [""]},
        {"name": ["UNKNOWN"], "summary": ["whatever"], "requires_python": ["UNKNOWN"]},
    ],
)
def test_a_form_that_says_the_same_in_other_words_agrees(form: dict[str, list[str]]) -> None:
    assert metadata.disagreements(_OURS, form) == []


def test_a_form_that_says_something_else_is_told_so() -> None:
    form = {"name": ["demo"], "version": ["1.1"], "requires_python": [">=3.8"], "summary": ["other"]}
    found = metadata.disagreements(_OURS, form)
    assert [problem.at for problem in found] == ["name", "version", "requires_python"]
    assert "the form says '1.1', the file's metadata '1.0'" in str(found[1])
    assert metadata.disagreements(CoreMetadata(name="a", version="1"), {"requires_python": [">=3"]})
    assert metadata.disagreements(CoreMetadata(name="a", version="x"), {"version": ["x"]}) == []
