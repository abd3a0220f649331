import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from entrepot.errors import Invalid
from entrepot.model import ACTIVE, File, Project, ProjectName, Status, normalise
from entrepot.wire import filenames, simple_json
from tests.wire.strategies import BASE, FILES, PREFIX, demo, names, patient, projects, texts

Document = dict[str, Any]


def document(project: Project) -> Document:
    found = json.loads(simple_json.render(project, prefix=PREFIX))
    assert isinstance(found, dict)
    return found


def only_file(project: Project) -> Document:
    (file,) = document(project)["files"]
    assert isinstance(file, dict)
    return file


def parsed(page: Mapping[str, object]) -> simple_json.Page:
    return simple_json.parse(json.dumps(page).encode(), base=BASE)


def upstream(*files: Mapping[str, object], **keys: object) -> Document:
    """A page as another index might write it."""
    return {"meta": {"api-version": "1.1"}, "name": "demo", "files": list(files)} | keys


def entry(**keys: object) -> Document:
    return {"filename": "demo-1.0.tar.gz", "url": "demo-1.0.tar.gz", "hashes": {}} | {
        key.replace("_", "-"): value for key, value in keys.items()
    }


def read_file(**keys: object) -> File:
    (file,) = parsed(upstream(entry(**keys))).project.files
    return file


@patient
@given(projects())
def test_a_page_survives_the_wire(project: Project) -> None:
    page = simple_json.parse(simple_json.render(project, prefix=PREFIX), base=BASE)
    assert page.project == project
    assert page.urls == {file.filename: FILES + quote(file.filename, safe="") for file in project.files}


@patient
@given(st.lists(names, unique=True))
def test_a_list_survives_the_wire(listed: list[ProjectName]) -> None:
    assert simple_json.parse_list(simple_json.render_list(listed)) == tuple(listed)


@patient
@given(projects())
def test_the_same_page_is_always_the_same_bytes(project: Project) -> None:
    again = replace(
        project,
        files=tuple(replace(f, hashes=dict(reversed(list(f.hashes.items())))) for f in project.files),
    )
    assert simple_json.render(again, prefix=PREFIX) == simple_json.render(project, prefix=PREFIX)


@patient
@given(projects())
def test_pypi_simple_reads_our_pages(project: Project) -> None:
    from pypi_simple import ProjectPage

    page = ProjectPage.from_json_data(document(project), base_url=BASE)
    assert page.project == project.name
    assert page.repository_version == "1.4"
    assert page.versions == list(filenames.versions(project.files))
    assert (page.status.value if page.status else "active") == project.status.status
    for package, file in zip(page.packages, project.files, strict=True):
        assert package.filename == file.filename
        assert package.url == FILES + quote(file.filename, safe="")
        assert package.digests == file.hashes
        assert package.size == file.size
        assert package.upload_time == file.uploaded
        assert package.requires_python == file.requires_python
        assert package.is_yanked == (file.yanked is not None)
        assert (package.yanked_reason or None) == (file.yanked or None)
        assert bool(package.has_metadata) == (file.core_metadata is not False)
        assert package.has_sig == file.gpg_sig


def test_pypi_simple_reads_our_lists() -> None:
    from pypi_simple import IndexPage

    page = IndexPage.from_json_data(json.loads(simple_json.render_list([normalise("a"), normalise("b-c")])))
    assert (page.projects, page.repository_version) == (["a", "b-c"], "1.4")


def test_a_page_reads_as_the_standard_writes_it() -> None:
    project = demo(requires_python=">=3.9", core_metadata={"sha256": "c" * 64})
    assert document(project) == {
        "meta": {"api-version": "1.4"},
        "name": "demo",
        "versions": ["1.0"],
        "files": [
            {
                "filename": "demo-1.0-py3-none-any.whl",
                "url": "../../files/demo/demo-1.0-py3-none-any.whl",
                "hashes": {"sha256": "a" * 64},
                "size": 1337,
                "upload-time": "2026-01-02T03:04:05.123456Z",
                "requires-python": ">=3.9",
                "core-metadata": {"sha256": "c" * 64},
                "yanked": False,
            }
        ],
    }


def test_a_page_of_an_unknown_size_calls_itself_1_0_and_leaves_that_size_out() -> None:
    known = demo().files[0]
    unknown = replace(known, filename="demo-1.0.tar.gz", size=None)
    page = document(Project(name=normalise("demo"), files=(known, unknown)))
    assert page["meta"] == {"api-version": "1.0"}
    assert [file.get("size", "absent") for file in page["files"]] == [1337, "absent"]
    assert page["versions"] == ["1.0"]
    assert page["files"][1]["upload-time"] == "2026-01-02T03:04:05.123456Z"


def test_a_page_of_an_unknown_size_survives_the_wire_too() -> None:
    project = demo(size=None)
    assert simple_json.parse(simple_json.render(project, prefix=PREFIX), base=BASE).project == project


def test_an_empty_file_has_the_size_0() -> None:
    page = document(demo(size=0))
    assert page["meta"] == {"api-version": "1.4"}
    assert page["files"][0]["size"] == 0


def test_an_empty_page_is_of_version_1_4() -> None:
    page = document(Project(name=normalise("demo")))
    assert page == {"meta": {"api-version": "1.4"}, "name": "demo", "versions": [], "files": []}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (ACTIVE, None),
        (Status(status="archived"), {"status": "archived"}),
        (Status(status="deprecated", reason="use other"), {"status": "deprecated", "reason": "use other"}),
        (Status(status="active", reason="adopted"), {"status": "active", "reason": "adopted"}),
    ],
)
def test_the_status_stands_at_the_top_level_unless_it_is_plainly_active(status: Status, expected: object) -> None:
    page = document(replace(demo(), status=status))
    assert page.get("project-status") == expected
    assert list(page["meta"]) == ["api-version"]


@pytest.mark.parametrize(("yanked", "expected"), [(None, False), ("", True), ("broken", "broken"), ("false", "false")])
def test_yanked_is_false_true_or_the_reason(yanked: str | None, expected: object) -> None:
    assert only_file(demo(yanked=yanked))["yanked"] == expected


@pytest.mark.parametrize(
    ("hashes", "expected"),
    [
        ({"md5": "0", "sha256": "1", "blake2b_256": "2"}, ["sha256"]),
        ({"md5": "0", "sha1": "1", "sha512": "2"}, ["sha512", "sha1", "md5"]),
        ({"zzz": "0", "aaa": "1"}, ["aaa", "zzz"]),
        ({}, []),
    ],
)
def test_sha256_is_the_only_hash_shown_if_there_is_one(hashes: Mapping[str, str], expected: list[str]) -> None:
    assert list(only_file(demo(hashes=hashes))["hashes"]) == expected


@pytest.mark.parametrize(
    ("core_metadata", "expected"),
    [(False, None), (True, True), ({}, True), ({"sha256": "c", "md5": "d"}, {"sha256": "c"})],
)
def test_core_metadata_is_promised_only_where_it_is(core_metadata: object, expected: object) -> None:
    file = only_file(demo(core_metadata=core_metadata))
    assert file.get("core-metadata") == expected
    assert not [key for key in file if "dist-info-metadata" in key]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05.000000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 7, tzinfo=UTC), "2026-01-02T03:04:05.000007Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 7, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.000007Z"),
    ],
)
def test_times_are_in_utc_with_six_digits(moment: datetime, expected: str) -> None:
    assert only_file(demo(uploaded=moment))["upload-time"] == expected


def test_what_is_not_known_is_left_out() -> None:
    file = only_file(demo(hashes={}, uploaded=None, requires_python=""))
    assert file.keys() == {"filename", "url", "hashes", "size", "yanked"}
    assert file["hashes"] == {}


@patient
@given(texts.filter(bool))
def test_any_filename_comes_back_from_its_url(filename: str) -> None:
    url = only_file(demo(filename=filename))["url"]
    assert url.startswith(PREFIX)
    assert "/" not in url.removeprefix(PREFIX)
    assert unquote(urlsplit(url).path.removeprefix(PREFIX)) == filename
    assert not urlsplit(url).query


def test_a_plus_is_encoded() -> None:
    assert only_file(demo(filename="demo-1.0+a.tar.gz"))["url"] == "../../files/demo/demo-1.0%2Ba.tar.gz"


# Reading what others write.


def test_urls_are_resolved_against_the_page() -> None:
    names = [f"demo-{number}.tar.gz" for number in range(5)]
    urls = [
        f"../../files/{names[0]}",
        f"/files/{names[1]}#sha256=abc",
        f"//cdn.example/{names[2]}",
        f"https://cdn.example/{names[3]}?signature=1#frag",
        names[4],
    ]
    page = parsed(upstream(*[entry(filename=name, url=url) for name, url in zip(names, urls, strict=True)]))
    assert list(page.urls.values()) == [
        "https://index.example/root/files/demo-0.tar.gz",
        "https://index.example/files/demo-1.tar.gz",
        "https://cdn.example/demo-2.tar.gz",
        "https://cdn.example/demo-3.tar.gz?signature=1",
        "https://index.example/root/simple/demo/demo-4.tar.gz",
    ]


def test_null_is_absence() -> None:
    nothing = dict.fromkeys(
        ("size", "upload-time", "requires-python", "core-metadata", "yanked", "gpg-sig", "provenance", "hashes")
    )
    page = parsed(upstream({"filename": "demo-1.0.tar.gz", "url": "u"} | nothing, **{"project-status": None}))
    assert page.project.files == (File(filename="demo-1.0.tar.gz", version="1.0"),)


def test_unknown_keys_are_ignored() -> None:
    page = upstream(entry(future={"a": [1]}), meta={"api-version": "1.99", "_last-serial": 7}, namespaces=None)
    assert [file.filename for file in parsed(page).project.files] == ["demo-1.0.tar.gz"]


def test_a_page_that_names_no_version_is_of_1_0() -> None:
    page = upstream(entry())
    del page["meta"]
    assert parsed(page).project.files


@pytest.mark.parametrize(
    ("value", "expected"), [(True, ""), (False, None), ("why", "why"), ("", ""), ("false", "false")]
)
def test_yanked_may_be_a_boolean_or_a_reason(value: object, expected: str | None) -> None:
    assert read_file(yanked=value).yanked == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"core_metadata": True}, True),
        ({"core_metadata": False, "dist_info_metadata": True}, False),
        ({"core_metadata": {"SHA256": "AB"}}, {"sha256": "ab"}),
        ({"core_metadata": {}}, True),
        ({"dist_info_metadata": {"sha256": "ab"}}, {"sha256": "ab"}),
        ({"data_dist_info_metadata": {"sha256": "ab"}}, {"sha256": "ab"}),
    ],
)
def test_the_older_names_of_core_metadata_are_read_if_the_new_one_is_absent(
    keys: Mapping[str, object], expected: object
) -> None:
    assert read_file(**keys).core_metadata == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.5Z", datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_upload_times_are_read_as_utc(text: str, expected: datetime) -> None:
    read = read_file(upload_time=text).uploaded
    assert read == expected
    assert read.tzinfo is UTC


def test_hashes_are_lower_case_and_empty_ones_are_none() -> None:
    assert read_file(hashes={"SHA256": "ABCDEF", "md5": ""}).hashes == {"sha256": "abcdef"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://integrity.example/p", "https://integrity.example/p"),
        ("/p", "https://index.example/p"),
        ("javascript:alert(1)", None),
        ("", None),
    ],
)
def test_provenance_is_an_absolute_web_address_or_nothing(url: str, expected: str | None) -> None:
    assert read_file(provenance=url).provenance == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"status": "archived", "reason": "done"}, Status(status="archived", reason="done")),
        ({"status": "quarantined", "reason": None}, Status(status="quarantined")),
        ({}, ACTIVE),
        ({"status": "of-the-future", "reason": "?"}, ACTIVE),
    ],
)
def test_the_status_is_read_and_an_unknown_one_is_none(given: object, expected: Status) -> None:
    assert parsed(upstream(**{"project-status": given})).project.status == expected


def test_what_is_no_distribution_is_left_out() -> None:
    odd = ["demo-1.0.exe", "demo-1.0.egg", "demo-1.0.tar.gz.asc", "../demo-1.0.tar.gz", ""]
    page = parsed(upstream(*[entry(filename=name) for name in odd], entry()))
    assert list(page.urls) == [file.filename for file in page.project.files] == ["demo-1.0.tar.gz"]


def test_of_two_files_of_one_name_the_first_counts() -> None:
    page = parsed(upstream(entry(url="first", size=1), entry(url="second", size=2)))
    assert [file.size for file in page.project.files] == [1]
    assert page.urls["demo-1.0.tar.gz"].endswith("/first")


def test_the_files_are_put_in_order() -> None:
    given = ["demo-10.0.tar.gz", "demo-9.0.tar.gz", "demo-9.0-py3-none-any.whl"]
    page = parsed(upstream(*[entry(filename=name) for name in given]))
    assert [file.filename for file in page.project.files] == given[::-1]


def test_the_name_is_normalised() -> None:
    assert parsed(upstream(name="De_Mo")).project.name == "de-mo"


# Faults.


@pytest.mark.parametrize("version", ["2.0", "3.1", "10.4", "0.1"])
def test_another_major_version_is_refused_by_name(version: str) -> None:
    with pytest.raises(Invalid, match=rf"api-version: the Simple API of version {version} is not supported"):
        parsed(upstream(entry(), meta={"api-version": version}))


def test_another_major_version_is_named_even_if_its_types_are_others() -> None:
    with pytest.raises(Invalid, match=r"version 2\.0 is not supported"):
        parsed({"meta": {"api-version": "2.0"}, "name": ["demo"], "files": {}})


@pytest.mark.parametrize("version", ["", "one", "1", "1.4.1", "v1.0", "1.0\n", "١.0"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(Invalid, match="is no version of the Simple API"):
        parsed(upstream(meta={"api-version": version}))


def test_every_wrong_type_is_named_with_its_path() -> None:
    page = upstream(
        entry(size="12"),
        entry(),
        entry(hashes={"sha256": 1}),
        "file",  # type: ignore[arg-type]
        {"filename": "demo-1.0.tar.gz"},
        **{"project-status": "archived"},
    )
    with pytest.raises(Invalid) as caught:
        parsed(page)
    assert [(problem.at, problem.message) for problem in caught.value.problems] == [
        ("$.project-status", "Expected `object | null`, got `str`"),
        ("$.files[0].size", "Expected `int | null`, got `str`"),
        ("$.files[2].hashes[...]", "Expected `str`, got `int`"),
        ("$.files[3]", "Expected `object`, got `str`"),
        ("$.files[4]", "Object missing required field `url`"),
    ]


def test_every_wrong_value_is_named_with_its_path() -> None:
    page = upstream(
        entry(filename="demo-1.tar.gz", hashes={"sha256": "not hex"}),
        entry(filename="demo-2.tar.gz", url="http://[/"),
        entry(filename="demo-3.tar.gz", provenance="https://["),
    )
    with pytest.raises(Invalid) as caught:
        parsed(page)
    assert [problem.at for problem in caught.value.problems] == [
        "$.files[0].hashes.sha256",
        "$.files[1].url",
        "$.files[2].provenance",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", -1),
        ("size", 1.5),
        ("size", True),
        ("upload-time", "yesterday"),
        ("upload-time", 1700000000),
        ("yanked", 1),
        ("core-metadata", "true"),
        ("requires-python", [">=3"]),
        ("gpg-sig", "yes"),
    ],
)
def test_a_wrong_value_is_a_fault_at_its_key(key: str, value: object) -> None:
    with pytest.raises(Invalid) as caught:
        parsed(upstream(entry() | {key: value}))
    assert caught.value.at == f"$.files[0].{key}"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"<html>", b'{"name": "\xff"}', b'"\\ud800"', b"[" * 100_000, b'{"x":' * 100_000],
    ids=["empty", "cut", "html", "not UTF-8", "surrogate", "deep list", "deep object"],
)
def test_what_is_not_json_is_a_fault(data: bytes) -> None:
    with pytest.raises(Invalid):
        simple_json.parse(data, base=BASE)
    with pytest.raises(Invalid):
        simple_json.parse_list(data)


@pytest.mark.parametrize("data", [b"[]", b"null", b"1", b'"demo"', b"{}", b'{"name":"demo"}', b'{"files":[]}'])
def test_a_page_is_an_object_with_a_name_and_files(data: bytes) -> None:
    with pytest.raises(Invalid):
        simple_json.parse(data, base=BASE)


def test_lists_are_normalised_and_hold_each_name_once() -> None:
    given = ["Foo_Bar", "foo.bar", "x", "-bad-", "no name", ""]
    listing = {"meta": {"api-version": "1.0"}, "projects": [{"name": name} for name in given]}
    assert simple_json.parse_list(json.dumps(listing).encode()) == ("foo-bar", "x")


def test_faults_of_a_list_are_named() -> None:
    with pytest.raises(Invalid, match=r"\$\.projects\[1\]\.name: Expected `str`, got `int`"):
        simple_json.parse_list(b'{"projects":[{"name":"a"},{"name":1}]}')
    with pytest.raises(Invalid, match=r"version 2\.0"):
        simple_json.parse_list(b'{"meta":{"api-version":"2.0"},"projects":[]}')


@patient
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps({"name": text, "files": []}).encode()))
def test_reading_fails_only_with_invalid(data: bytes) -> None:
    for read in (lambda: simple_json.parse(data, base=BASE), lambda: simple_json.parse_list(data)):
        try:
            read()
        except Invalid:
            continue


@given(
    st.sampled_from(["https://a.example.org/simple/demo/", "http://127.0.0.1:8080/x/simple/demo/", "https://h/"]),
    st.lists(
        st.sampled_from(["/", "//", "..", ".", "a", "files", "demo-1.0.tar.gz", "?x", "#y", ";z", ":", "%2B", " "])
    ).map("".join),
)
def test_a_url_is_resolved_as_the_standard_library_does(base: str, url: str) -> None:
    assert simple_json.absolute(base, url) == urljoin(base, url.partition("#")[0])
