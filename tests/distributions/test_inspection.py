"""What is sound is accepted: our own builds, every shape the standards allow, and what real backends write."""

import gzip
import importlib.util
import io
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.distributions import DEFAULT, Limits, inspect, read_metadata
from entrepot.distributions.contents import Contents
from entrepot.distributions.findings import Findings
from entrepot.distributions.inflate import Gunzipped
from entrepot.distributions.zips import is_zip
from entrepot.errors import Invalid
from tests.distributions import hostile_zips
from tests.distributions.build import (
    make_sdist,
    make_wheel,
    metadata_text,
    sdist_bytes,
    sdist_filename,
    sdist_members,
    tar_gz,
    wheel_bytes,
    wheel_filename,
    wheel_members,
    zip_bytes,
)
from tests.distributions.cases import SDIST, WHEEL, Case
from tests.distributions.rawzip import Entry, changed, entries, write

_SCRIPTS = """\
[console_scripts]
demo = demo.cli:main
demo-2.0 = demo.cli:App.run [cli,extra]

[gui_scripts]
Demo = demo : main
[other.group]
any thing = whatever it means
"""


def _accepted(path: Path, filename: str = "") -> None:
    inspection = inspect(path, filename or path.name)
    assert inspection.problems == ()


def test_a_wheel_is_read_to_its_last_byte(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "Acme.Pkg", "1.0rc1", requires=["rich>=13"], entry_points=_SCRIPTS)
    inspection = inspect(path, path.name)
    assert inspection.problems == ()
    assert (inspection.distribution.project, inspection.metadata.name) == ("acme-pkg", "Acme.Pkg")
    assert inspection.metadata.requires_dist == ("rich>=13",)
    assert inspection.metadata_bytes == metadata_text("Acme.Pkg", "1.0rc1", requires=["rich>=13"]).encode()
    assert inspection.pkg_info is None
    assert read_metadata(path, path.name) == inspection.metadata_bytes


def test_an_sdist_is_read_to_its_last_byte(tmp_path: Path) -> None:
    path = make_sdist(tmp_path, "Acme.Pkg", "1.0rc1", requires=["rich>=13"])
    inspection = inspect(path, path.name)
    assert inspection.problems == ()
    assert inspection.pkg_info == metadata_text("Acme.Pkg", "1.0rc1", requires=["rich>=13"]).encode()
    assert inspection.metadata_bytes is None
    assert read_metadata(path, path.name) == inspection.pkg_info


_names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9]|[._-][A-Za-z0-9]){0,8}", fullmatch=True)
_versions = st.sampled_from(["1", "1.0", "0.1.0a1", "2!1.0", "1.0+acme.1", "1.0.post2.dev3"])


@settings(deadline=None, max_examples=50)
@given(name=_names, version=_versions, content=st.binary(max_size=2000))
def test_whatever_the_name_version_and_content(
    tmp_path_factory: pytest.TempPathFactory, name: str, version: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("built")
    _accepted(make_wheel(folder, name, version, files={"pkg/é.bin": content}))
    _accepted(make_sdist(folder, name, version, files={"setup.py": content, f"{'long/' * 40}é": content}))


def test_the_same_arguments_make_the_same_bytes() -> None:
    assert wheel_bytes("demo", "1.0") == wheel_bytes("demo", "1.0")
    assert sdist_bytes("demo", "1.0") == sdist_bytes("demo", "1.0")
    assert (wheel_filename(build="1"), sdist_filename("A-b")) == ("demo-1.0-1-py3-none-any.whl", "a_b-1.0.tar.gz")


@pytest.mark.parametrize(
    "data",
    [
        zip_bytes(wheel_members(), compression=zipfile.ZIP_STORED),
        write(entries(wheel_members())),
        write(entries(wheel_members()), end64={}, end={"entries": 0xFFFF, "here": 0xFFFF}),
        write(entries(wheel_members()), end64={}, end={"size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}),
        write([*entries(wheel_members()), Entry(name=b"demo/data/", mode=0o40755)]),
        write(changed(wheel_members(), "demo/__init__.py", method=0, mode=0)),
    ],
    ids=["stored", "raw", "ZIP64 entries", "ZIP64 offsets", "folders", "no mode"],
)
def test_every_shape_of_zip_archive_that_means_one_thing_is_accepted(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / WHEEL
    path.write_bytes(data)
    _accepted(path)


@pytest.mark.parametrize("name", ["demo/__init__.py", "demo-1.0.dist-info/METADATA"])
def test_zip64_sizes_that_were_not_needed_are_accepted_if_true(name: str, tmp_path: Path) -> None:
    (entry,) = (entry for entry in entries(wheel_members()) if entry.name == name.encode())
    sizes = struct.pack("<HHQQ", 1, 16, len(entry.data), len(entry.packed))
    path = tmp_path / WHEEL
    path.write_bytes(write(changed(wheel_members(), name, local={"extra": sizes})))
    _accepted(path)
    path.write_bytes(
        write(changed(wheel_members(), name, local={"extra": sizes, "size": 0xFFFFFFFF, "packed": 0xFFFFFFFF}))
    )
    _accepted(path)


def test_sizes_that_are_written_as_zip64_are_accepted(tmp_path: Path) -> None:
    """CPython does so for every member whose size it does not know beforehand."""
    path = tmp_path / WHEEL
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in wheel_members(files={"demo/big.bin": b"x" * 3_000_000}).items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    _accepted(path)


def _linked() -> bytes:
    def info(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        made.type, made.linkname = kind, target
        return made

    members = [
        (info("demo-1.0", tarfile.DIRTYPE), b""),
        (info("demo-1.0/docs", tarfile.DIRTYPE), b""),
        (info("demo-1.0/docs/README", tarfile.SYMTYPE, "../PKG-INFO"), b""),
        (info("demo-1.0/here", tarfile.SYMTYPE, "docs"), b""),
        (info("demo-1.0/setup.py", tarfile.REGTYPE), b""),
        (info("demo-1.0/again.py", tarfile.LNKTYPE, "demo-1.0/setup.py"), b""),
        (info("demo-1.0/PKG-INFO", tarfile.REGTYPE), metadata_text().encode()),
    ]
    return tar_gz(members)


def test_links_that_stay_inside_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / SDIST
    path.write_bytes(_linked())
    _accepted(path)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_is_accepted(form: int, tmp_path: Path) -> None:
    source = tmp_path / "demo-1.0"
    deep = source / ("folder/" * 12) / ("name" * 20)
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"x" * 70_000)
    (source / "setup.py").touch()
    (source / "PKG-INFO").write_text(metadata_text())
    path = tmp_path / SDIST
    with tarfile.open(path, "w:gz", format=form) as archive:
        archive.add(source, "demo-1.0")
    _accepted(path)


def test_the_commit_that_git_archive_writes_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / SDIST
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c0ffee"}) as archive:
        for name, data in sdist_members().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    _accepted(path)


def test_an_old_sdist_made_of_a_folder_keeps_its_metadata(tmp_path: Path) -> None:
    """`tar c .` begins with "./", and folders had no type of their own before POSIX."""
    top, folder = tarfile.TarInfo("./"), tarfile.TarInfo("./demo-1.0/")
    top.type, folder.type = tarfile.DIRTYPE, tarfile.AREGTYPE
    path = tmp_path / SDIST
    path.write_bytes(tar_gz([(top, b""), (folder, b""), (tarfile.TarInfo("./demo-1.0/PKG-INFO"), b"Name: demo")]))
    assert read_metadata(path, SDIST) == b"Name: demo"
    assert not inspect(path, SDIST).safety
    path.write_bytes(tar_gz([(top, b"")]))
    with pytest.raises(Invalid, match="PKG-INFO: the file is missing"):
        read_metadata(path, SDIST)


def test_a_stream_of_several_gzip_members_is_accepted(tmp_path: Path) -> None:
    tar = gzip.decompress(sdist_bytes())
    path = tmp_path / SDIST
    path.write_bytes(b"".join(gzip.compress(tar[at : at + 1000]) for at in range(0, len(tar), 1000)))
    _accepted(path)


def test_a_licence_that_is_there_is_found(tmp_path: Path) -> None:
    extra = "Metadata-Version: 2.4\nLicense-File: LICENSE\n"
    licensed = {"demo-1.0.dist-info/licenses/LICENSE": b"MIT"}
    _accepted(make_wheel(tmp_path, files=licensed, metadata_extra=extra))
    _accepted(make_sdist(tmp_path, files={"LICENSE": b"MIT", "setup.py": b""}, metadata_extra=extra))


def test_signatures_need_not_be_listed(tmp_path: Path) -> None:
    path = tmp_path / WHEEL
    path.write_bytes(zip_bytes({**wheel_members(), "demo-1.0.dist-info/RECORD.jws": b"{}"}))
    _accepted(path)


@pytest.mark.parametrize("case", [c for c in hostile_zips.CASES if c.outcome == "form"], ids=lambda case: case.what)
def test_old_wheels_keep_their_metadata_whatever_their_form(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "old.whl"
    path.write_bytes(case.data)
    assert read_metadata(path, WHEEL).startswith(b"Metadata-Version: 2.1\nName: demo\n")


def test_old_zip_sdists_keep_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "Demo-1.0.zip"
    path.write_bytes(zip_bytes({"Demo-1.0/setup.py": b"", "Demo-1.0/PKG-INFO": metadata_text("Demo").encode()}))
    assert read_metadata(path, path.name) == metadata_text("Demo").encode()
    inspection = inspect(path, path.name)
    assert (inspection.metadata.name, inspection.safety) == ("Demo", ())
    assert "are accepted" in str(inspection.form[0])


def test_a_quick_look_compares_record_without_unpacking(tmp_path: Path) -> None:
    path = tmp_path / WHEEL
    members = wheel_members()
    members["demo/__init__.py"] = b"#"
    path.write_bytes(zip_bytes(members))
    assert "RECORD says 0 bytes" in str(inspect(path, WHEEL, thorough=False).form[0])
    assert len(inspect(path, WHEEL, thorough=False).form) == 1
    assert len(inspect(path, WHEEL).form) == 2


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(wheel_bytes(metadata="Metadata-Version: 9\nName: evil\nVersion: 2\n\n") + b"more")
    with pytest.raises(Invalid) as caught:
        inspect(path, "Demo-1.0-py3-none-any.whl", limits=Limits(record=1))
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 6
    assert "should be 'demo-1.0-py3-none-any.whl'" in said[0]


def test_thousands_of_faults_make_a_short_list(tmp_path: Path) -> None:
    path = tmp_path / WHEEL
    path.write_bytes(zip_bytes({**wheel_members(), **{f"../{n}": b"" for n in range(500)}}))
    inspection = inspect(path, WHEEL)
    assert (len(inspection.safety), len(inspection.form)) == (21, 21)
    assert "further problems" in str(inspection.safety[-1])


def test_a_file_that_cannot_be_opened_is_no_invalid_file(tmp_path: Path) -> None:
    for name in (WHEEL, SDIST):
        with pytest.raises(FileNotFoundError):
            inspect(tmp_path / name, name)


@pytest.mark.parametrize("small", [True, False])
def test_contents_are_read_alike_from_the_disk_and_from_memory(small: bool, tmp_path: Path) -> None:
    data = bytes(range(256)) * (4 if small else 8192)
    (tmp_path / "file").write_bytes(data)
    end = len(data)
    with Contents(tmp_path / "file") as ours, Contents(data) as held:
        for offset, size in [
            (0, 9),
            (7, end),
            (end - 3, 9),
            (end, 1),
            (end + 1, 1),
            (-1, 9),
            (1 << 63, 1),
            (0, 1 << 62),
        ]:
            expected = data[offset : offset + size] if offset >= 0 else b""
            assert ours.read(offset, size) == held.read(offset, size) == expected


def test_a_bomb_is_given_up_early_and_in_little_memory(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte: read up to the limit and no further."""
    path = tmp_path / SDIST
    path.write_bytes(gzip.compress(b"\0" * (64 << 20)) * 16)
    began = time.monotonic()
    with Contents(path) as contents:
        stream = Gunzipped(contents, DEFAULT)
        with pytest.raises(Invalid, match="over 50 times its own size"):
            stream.skip(1 << 40)
    assert stream.budget.unpacked <= (66 << 20)
    assert time.monotonic() - began < 30


@settings(deadline=None)
@given(data=st.binary(max_size=3000), sizes=st.lists(st.integers(0, 900), max_size=8))
def test_a_gzip_stream_is_read_like_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, sizes: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "stream.gz"
    path.write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:]))
    at = 0
    with Contents(path) as contents:
        stream = Gunzipped(contents, DEFAULT)
        for turn, size in enumerate(sizes):
            expected = data[at : at + size]
            if turn % 2:
                assert stream.skip(size) == len(expected)
            else:
                assert stream.read(size) == expected
            at += len(expected)
        assert stream.rest_is_zero() == (not data[at:].strip(b"\0"))
        assert not stream.has_trailing_data


def test_no_sdist_is_taken_for_a_zip_archive_by_chance() -> None:
    assert not is_zip(Contents(b"PK\5\6" + b"\0" * 18))
    assert is_zip(Contents(b"#!/bin/sh\n" + wheel_bytes()))


def test_the_lists_of_problems_start_empty() -> None:
    assert (Findings().safety, Findings().form) == ([], [])


_PROJECT = """\
[project]
name = "demo"
version = "1.0"
description = "Grüße"
readme = "README.md"
license = "MIT"
license-files = ["LICENSE"]
requires-python = ">=3.9"
dependencies = ["packaging>=20", "tomli; python_version < '3.11'"]
[project.urls]
Docs = "https://example.org/"
[project.scripts]
demo = "demo:main"
[build-system]
requires = []
"""
_OLD = """\
from setuptools import setup
setup(name="demo", version="1.0", packages=["demo"], package_dir={"": "src"}, license="MIT")
"""


def _project(folder: Path, backend: str) -> Path:
    source = folder / "project"
    (source / "src/demo").mkdir(parents=True)
    (source / "src/demo/__init__.py").write_text("def main(): ...\n")
    (source / "LICENSE").write_text("MIT")
    (source / "README.md").write_text("# Grüße\n")
    if backend == "setuptools.build_meta":
        (source / "setup.py").write_text(_OLD)
    else:
        (source / "pyproject.toml").write_text(f'{_PROJECT}build-backend = "{backend}"\n')
    return source


def _by_hooks(backend: str, *hooks: str) -> Callable[[Path], list[str]]:
    """The command that calls a backend's hooks as a frontend does (PEP 517)."""
    calls = "; ".join(f"backend.{hook}({{out!r}})" for hook in hooks)
    code = f"import {backend} as backend; {calls}"
    return lambda out: [sys.executable, "-W", "ignore", "-c", code.format(out=str(out))]


def _by_uv(out: Path) -> list[str]:
    uv = str(Path(sys.executable).parent / "uv")
    return [uv, "build", "--offline", "--quiet", "--no-config", "--python", sys.executable, "--out-dir", str(out)]


@pytest.mark.parametrize(
    ("backend", "command", "built"),
    [
        ("hatchling.build", _by_hooks("hatchling.build", "build_wheel", "build_sdist"), 2),
        ("poetry.core.masonry.api", _by_hooks("poetry.core.masonry.api", "build_wheel", "build_sdist"), 2),
        ("setuptools.build_meta", _by_hooks("setuptools.build_meta", "build_sdist"), 1),
        ("uv_build", _by_uv, 2),
    ],
    ids=["hatchling", "poetry", "setuptools", "uv"],
)
def test_what_real_backends_build_is_accepted(
    backend: str, command: Callable[[Path], list[str]], built: int, tmp_path: Path
) -> None:
    if backend.startswith("setuptools") and importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed: since Python 3.12 a venv comes without")
    source, out = _project(tmp_path, backend), tmp_path / "dist"
    out.mkdir()
    if backend == "uv_build":
        text = (source / "pyproject.toml").read_text().replace("requires = []", 'requires = ["uv_build"]')
        (source / "pyproject.toml").write_text(text)
    done = subprocess.run(command(out), cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = sorted(out.glob("demo-*"))
    assert len(files) == built
    for path in files:
        _accepted(path)
        assert inspect(path, path.name).metadata.name == "demo"


def test_many_deep_names_take_little_memory(tmp_path: Path) -> None:
    """5,000 names of 190 folders each in a small file: the folders above them are not kept."""
    deep = "demo-1.0/" + "a/" * 190
    path = tmp_path / SDIST
    path.write_bytes(tar_gz({f"{deep}{n}": b"" for n in range(5000)} | sdist_members()))
    tracemalloc.start()
    _accepted(path)
    assert tracemalloc.get_traced_memory()[1] < (20 << 20)
    tracemalloc.stop()
