import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from entrepot.errors import NotFound
from entrepot.model import File, Project, normalise
from entrepot.wire import filenames, legacy_json
from entrepot.wire.legacy_json import Links
from entrepot.wire.metadata import CoreMetadata
from tests.wire.strategies import FILES, patient, projects

LINKS = Links(files=FILES, project="https://index.example/root/project/demo/")


def wheel(version: str, **keys: Any) -> File:
    return File(filename=f"demo-{version}-py3-none-any.whl", version=version, **keys)


def sdist(version: str, **keys: Any) -> File:
    return File(filename=f"demo-{version}.tar.gz", version=version, **keys)


def page(*files: File) -> Project:
    return Project(name=normalise("demo"), files=filenames.ordered(files))


def document(project: Project, metadata: CoreMetadata | None = None) -> dict[str, Any]:
    found = json.loads(legacy_json.render_project(project, metadata, links=LINKS))
    assert isinstance(found, dict)
    return found


def release(project: Project, version: str) -> dict[str, Any]:
    found = json.loads(legacy_json.render_release(project, version, None, links=LINKS))
    assert isinstance(found, dict)
    return found


def test_a_file_reads_as_on_pypi() -> None:
    file = wheel(
        "1.0",
        size=1337,
        hashes={"md5": "a" * 32, "sha256": "b" * 64, "blake2b_256": "c" * 64, "sha1": "d" * 40},
        uploaded=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        requires_python=">=3.9",
        core_metadata={"sha256": "e" * 64},
    )
    assert document(page(file))["urls"] == [
        {
            "filename": "demo-1.0-py3-none-any.whl",
            "packagetype": "bdist_wheel",
            "python_version": "py3",
            "md5_digest": "a" * 32,
            "digests": {"md5": "a" * 32, "sha256": "b" * 64, "blake2b_256": "c" * 64},
            "core-metadata": {"sha256": "e" * 64},
            "upload_time": "2026-01-02T03:04:05",
            "upload_time_iso_8601": "2026-01-02T03:04:05.000006Z",
            "url": "https://index.example/root/files/demo/demo-1.0-py3-none-any.whl",
            "requires_python": ">=3.9",
            "yanked": False,
            "yanked_reason": None,
            "size": 1337,
            "has_sig": False,
            "comment_text": "",
            "downloads": -1,
        }
    ]


def test_what_is_not_known_of_a_file_is_null_and_an_unknown_size_left_out() -> None:
    (file,) = document(page(sdist("1.0")))["urls"]
    assert "size" not in file
    assert (file["md5_digest"], file["digests"]) == (None, {})
    assert (file["upload_time"], file["upload_time_iso_8601"], file["requires_python"]) == (None, None, None)
    assert (file["packagetype"], file["python_version"], file["core-metadata"]) == ("sdist", "source", False)


@pytest.mark.parametrize(
    ("reason", "expected"), [(None, (False, None)), ("", (True, None)), ("broken", (True, "broken"))]
)
def test_yanked_is_a_boolean_beside_its_reason(reason: str | None, expected: tuple[bool, str | None]) -> None:
    found = document(page(wheel("1.0", yanked=reason)))
    (file,) = found["urls"]
    assert (file["yanked"], file["yanked_reason"]) == expected
    assert (found["info"]["yanked"], found["info"]["yanked_reason"]) == expected


def test_a_release_is_yanked_when_all_of_it_is() -> None:
    info = document(page(wheel("1.0", yanked="broken"), sdist("1.0")))["info"]
    assert (info["yanked"], info["yanked_reason"]) == (False, None)


@pytest.mark.parametrize(
    ("files", "latest"),
    [
        ([wheel("1.0"), wheel("9.0"), wheel("10.0")], "10.0"),
        ([wheel("1.0"), wheel("2.0rc1")], "1.0"),
        ([wheel("1.0a1"), wheel("1.0a2")], "1.0a2"),
        ([wheel("1.0"), wheel("2.0", yanked="")], "1.0"),
        ([wheel("1.0rc1"), wheel("2.0", yanked="")], "1.0rc1"),
        ([wheel("1.0", yanked=""), wheel("2.0", yanked="")], "2.0"),
    ],
)
def test_the_latest_version_is_not_yanked_then_final_then_the_highest(files: list[File], latest: str) -> None:
    found = document(page(*files))
    assert found["info"]["version"] == latest
    assert [file["filename"] for file in found["urls"]] == [f"demo-{latest}-py3-none-any.whl"]


def test_releases_hold_the_files_of_every_version() -> None:
    found = document(page(wheel("1.0"), sdist("1.0"), wheel("2.0")))
    assert {version: [file["filename"] for file in files] for version, files in found["releases"].items()} == {
        "1.0": ["demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"],
        "2.0": ["demo-2.0-py3-none-any.whl"],
    }


def test_the_document_of_a_version_is_of_that_version_alone() -> None:
    found = release(page(wheel("1.0"), wheel("2.0")), "1.0")
    assert found["info"]["version"] == "1.0"
    assert [file["filename"] for file in found["urls"]] == ["demo-1.0-py3-none-any.whl"]
    assert "releases" not in found


def test_the_keys_around_are_pypis() -> None:
    found = document(page(wheel("1.0")))
    assert found.keys() == {"info", "last_serial", "ownership", "releases", "urls", "vulnerabilities"}
    assert (found["last_serial"], found["vulnerabilities"]) == (0, [])
    assert found["ownership"] == {"roles": [], "organization": None}


def test_the_info_is_the_core_metadata() -> None:
    metadata = CoreMetadata(
        name="Demo",
        version="1.0",
        summary="A demo",
        description="# Demo",
        description_content_type="text/markdown",
        keywords="a,b",
        license_expression="MIT",
        license_files=("LICENSE",),
        classifiers=("Typing :: Typed",),
        author="A",
        requires_python=">=3.9",
        requires_dist=("other",),
        provides_extra=("x",),
        dynamic=("version",),
        platforms=("any",),
        project_urls={"Home": "https://demo.example"},
    )
    info = document(page(wheel("1.0")), metadata)["info"]
    assert info == {
        "name": "Demo",
        "version": "1.0",
        "summary": "A demo",
        "description": "# Demo",
        "description_content_type": "text/markdown",
        "keywords": "a,b",
        "license": None,
        "license_expression": "MIT",
        "license_files": ["LICENSE"],
        "classifiers": ["Typing :: Typed"],
        "author": "A",
        "author_email": "",
        "maintainer": "",
        "maintainer_email": "",
        "requires_python": ">=3.9",
        "platform": "any",
        "downloads": {"last_day": -1, "last_week": -1, "last_month": -1},
        "package_url": "https://index.example/root/project/demo/",
        "project_url": "https://index.example/root/project/demo/",
        "project_urls": {"Home": "https://demo.example"},
        "release_url": "https://index.example/root/project/demo/#1.0",
        "requires_dist": ["other"],
        "provides_extra": ["x"],
        "docs_url": None,
        "bugtrack_url": None,
        "home_page": "",
        "download_url": "",
        "yanked": False,
        "yanked_reason": None,
        "dynamic": ["version"],
    }


def test_without_metadata_the_files_tell_what_they_can() -> None:
    info = document(page(sdist("1.0"), wheel("1.0", requires_python=">=3.9")))["info"]
    assert (info["name"], info["version"], info["requires_python"]) == ("demo", "1.0", ">=3.9")
    assert (info["requires_dist"], info["project_urls"], info["classifiers"]) == (None, None, [])


def test_a_project_without_files_has_no_document() -> None:
    with pytest.raises(NotFound, match="has no files"):
        document(page())
    with pytest.raises(NotFound, match=r"has no version 2\.0"):
        release(page(wheel("1.0")), "2.0")


def test_a_filename_that_no_longer_parses_is_told_by_its_extension() -> None:
    odd = [File(filename=name, version="1.0") for name in ("demo.whl", "demo")]
    assert [(f["packagetype"], f["python_version"]) for f in document(page(*odd))["urls"]] == [
        ("sdist", "source"),
        ("bdist_wheel", ""),
    ]


@patient
@given(projects().filter(lambda project: project.files))
def test_every_file_stands_in_exactly_one_release(project: Project) -> None:
    found = document(project)
    listed = [file["filename"] for files in found["releases"].values() for file in files]
    assert sorted(listed) == sorted(file.filename for file in project.files)
    assert list(found["releases"]) == list(filenames.versions(project.files))
    assert found["urls"] == found["releases"][found["info"]["version"]]
    assert found["urls"] == release(project, found["info"]["version"])["urls"]


def test_the_same_page_is_always_the_same_bytes() -> None:
    one = wheel("1.0", hashes={"md5": "a", "sha256": "b"})
    other = replace(one, hashes={"sha256": "b", "md5": "a"})
    assert document(page(one)) == document(page(other))
    assert legacy_json.render_project(page(one), None, links=LINKS) == legacy_json.render_project(
        page(other), None, links=LINKS
    )
