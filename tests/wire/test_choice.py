"""Which files are meant: versions as installers choose them, wheels by their tags, hashes as they were pinned."""

from collections.abc import Sequence

import pytest
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags, mac_platforms

from entrepot.errors import Conflict, Invalid, NotFound
from entrepot.model import File, Project, normalise
from entrepot.wire import filenames, targets
from entrepot.wire.choice import Choice, agrees
from entrepot.wire.requirements import Wanted, parse_lines
from entrepot.wire.targets import Targets

A, B = "a" * 64, "b" * 64


def file(filename: str, **more: object) -> File:
    version = filenames.parse(filename, project=normalise("demo")).version_text
    return File(filename=filename, version=version, **more)  # type: ignore[arg-type]


def page(*files: File | str) -> Project:
    made = [one if isinstance(one, File) else file(one) for one in files]
    return Project(name=normalise("demo"), files=filenames.ordered(made))


def wanted(text: str, **more: object) -> Wanted:
    (found,) = parse_lines(text.encode()).wanted
    return Wanted(**{**{name: getattr(found, name) for name in found.__struct_fields__}, **more})


def names(files: Sequence[File]) -> list[str]:
    return [one.filename for one in files]


def chosen(project: Project, text: str, *, choice: Choice | None = None) -> list[str]:
    return names((choice or Choice()).of(project, wanted(text)))


RELEASES = page(
    "demo-1.0.tar.gz", "demo-1.0-py3-none-any.whl", "demo-1.10.tar.gz", "demo-1.9.tar.gz", "demo-2.0rc1.tar.gz"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo", ["demo-1.10.tar.gz"]),
        ("demo<1.10", ["demo-1.9.tar.gz"]),
        ("demo==1", ["demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"]),
        ("demo==1.*", ["demo-1.10.tar.gz"]),
        ("demo>=2.0rc1", ["demo-2.0rc1.tar.gz"]),
        ("demo>1.10", ["demo-2.0rc1.tar.gz"]),  # nothing else fits (PEP 440)
        ("demo===1.9", ["demo-1.9.tar.gz"]),
    ],
)
def test_the_newest_version_that_fits_with_all_of_its_files(text: str, expected: list[str]) -> None:
    assert chosen(RELEASES, text) == expected


def test_a_pre_release_comes_first_only_if_asked_for() -> None:
    assert chosen(RELEASES, "demo", choice=Choice(prereleases=True)) == ["demo-2.0rc1.tar.gz"]


def test_every_version_if_all_are_wanted() -> None:
    everything = Choice().of(RELEASES, wanted("demo", every=True))
    assert sorted(names(everything)) == sorted(names(RELEASES.files))


def test_what_is_not_there_is_said_with_what_is() -> None:
    with pytest.raises(NotFound, match=r"no file of demo fits 'demo>3'.*newest here is 2\.0rc1"):
        chosen(RELEASES, "demo>3")
    with pytest.raises(NotFound, match="there are no files"):
        chosen(page(), "demo")


def test_yanked_files_are_passed_over_unless_their_version_is_asked_for() -> None:
    project = page("demo-1.0.tar.gz", file("demo-2.0.tar.gz", yanked="bad"))
    assert chosen(project, "demo") == ["demo-1.0.tar.gz"]
    assert chosen(project, "demo==2.0") == ["demo-2.0.tar.gz"]
    with pytest.raises(NotFound):
        chosen(project, "demo==2.*")


# Environments.


def test_wheels_that_fit_and_else_the_sdist() -> None:
    linux = Choice(targets=targets.parse(["3.12"], ["linux"]))
    wheel, other = "demo-1.0-cp312-cp312-manylinux_2_17_x86_64.whl", "demo-1.0-cp311-cp311-win_amd64.whl"
    assert chosen(page(wheel, other, "demo-1.0.tar.gz"), "demo", choice=linux) == [wheel]
    assert chosen(page(other, "demo-1.0.tar.gz"), "demo", choice=linux) == ["demo-1.0.tar.gz"]
    assert chosen(page(other, "demo-0.9.tar.gz"), "demo", choice=linux) == ["demo-0.9.tar.gz"]
    with pytest.raises(NotFound):
        chosen(page(other), "demo", choice=linux)


def test_a_version_for_other_pythons_does_not_fit() -> None:
    project = page(file("demo-1.0.tar.gz"), file("demo-2.0.tar.gz", requires_python=">=3.13"))
    assert chosen(project, "demo", choice=Choice(targets=targets.parse(["3.12"], []))) == ["demo-1.0.tar.gz"]
    assert chosen(project, "demo", choice=Choice(targets=targets.parse(["3.12", "3.13"], []))) == ["demo-2.0.tar.gz"]


@pytest.mark.parametrize(
    ("requires", "fits"), [(">=3.12.4", True), ("<3.12", False), ("!!", True), ("", True), (">=3.13", False)]
)
def test_a_python_stands_for_all_of_its_releases(requires: str, fits: bool) -> None:
    assert targets.parse(["3.12"], []).fit(file("demo-1.0.tar.gz", requires_python=requires)) is fits


@pytest.mark.parametrize("python", ["3.8", "3.11", "3.13"])
@pytest.mark.parametrize(
    ("platform", "tags"),
    [
        (
            "linux",
            [
                "manylinux_2_28_x86_64",
                "manylinux_2_5_x86_64",
                "manylinux1_x86_64",
                "manylinux2014_x86_64",
                "linux_x86_64",
            ],
        ),
        ("manylinux2014_aarch64", ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]),
        ("musllinux_1_2_x86_64", ["musllinux_1_1_x86_64", "musllinux_1_2_x86_64"]),
        ("macosx_14_0_arm64", list(mac_platforms((14, 0), "arm64"))),
        ("win_amd64", ["win_amd64"]),
    ],
)
def test_all_that_packaging_installs_fits(python: str, platform: str, tags: list[str]) -> None:
    found = targets.parse([python], [platform])
    version = (3, int(python[2:]))
    every = [*cpython_tags(version, platforms=tags), *compatible_tags(version, f"cp3{version[1]}", tags)]
    assert [str(tag) for tag in every if not found.fit(file(f"demo-1.0-{tag}.whl"))] == []


@pytest.mark.parametrize(
    "tags",
    [
        "cp311-cp311-manylinux_2_17_x86_64", "cp313-cp313-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_34_x86_64",
        "cp312-cp312-manylinux_2_17_aarch64", "cp312-cp312-musllinux_1_2_x86_64", "cp312-cp312-win_amd64", "py2-none-any",
        "pp310-pypy310_pp73-manylinux_2_17_x86_64", "cp313-abi3-manylinux_2_17_x86_64", "cp312-cp312t-manylinux_2_17_x86_64",
    ],
)  # fmt: skip
def test_other_wheels_do_not_fit(tags: str) -> None:
    assert not targets.parse(["3.12"], ["linux"]).fit(file(f"demo-1.0-{tags}.whl"))


def test_one_of_several_is_enough_and_nothing_said_is_everything() -> None:
    windows = file("demo-1.0-cp311-cp311-win_amd64.whl")
    assert targets.parse(["3.12", "3.11"], ["linux", "windows"]).fit(windows)
    assert targets.parse([], ["windows"]).fit(windows)
    assert targets.parse(["3.11"], []).fit(windows)
    assert Targets().fit(windows)


@pytest.mark.parametrize(
    ("pythons", "platforms", "marker", "holds"),
    [
        ([], [], "sys_platform == 'never'", True),
        (["3.12"], ["linux"], "sys_platform == 'linux' and python_version >= '3.12'", True),
        (["3.12"], ["linux"], "sys_platform == 'win32'", False),
        (["3.12"], ["linux", "windows"], "sys_platform == 'win32'", True),
        (["3.12"], [], "sys_platform == 'win32'", True),
        (["3.12"], [], "python_version < '3.12'", False),
        ([], ["macos"], "platform_machine == 'arm64' and python_version < '3.10'", True),
        ([], ["macos"], "os_name == 'nt'", False),
        (
            ["3.12.3"],
            ["manylinux_2_28_aarch64"],
            "platform_machine == 'aarch64' and python_full_version > '3.12.2'",
            True,
        ),
        (["3.12"], ["linux"], "extra == 'test'", False),
    ],
)
def test_a_marker_holds_where_it_might(pythons: list[str], platforms: list[str], marker: str, holds: bool) -> None:
    assert targets.parse(pythons, platforms).hold(Requirement(f"x; {marker}").marker) is holds


@pytest.mark.parametrize(
    ("python", "platform"),
    [("2.7", "linux"), ("three", "linux"), ("3", "linux"), ("3.12", "amiga"), ("3.12", "linux_")],
)
def test_what_is_no_environment_is_invalid(python: str, platform: str) -> None:
    with pytest.raises(Invalid, match="is no"):
        targets.parse([python], [platform])


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("linux", "x86_64-manylinux_2_28"), ("manylinux2014_aarch64", "aarch64-manylinux_2_17"), ("macos", "aarch64-apple-darwin"),
        ("macosx_11_0_x86_64", "x86_64-apple-darwin"), ("windows", "x86_64-pc-windows-msvc"), ("win32", "i686-pc-windows-msvc"),
        ("musllinux_1_2_x86_64", "x86_64-unknown-linux-musl"),
    ],
)  # fmt: skip
def test_a_platform_in_the_words_of_uv(platform: str, words: str) -> None:
    assert targets.for_uv(targets.parse([], [platform]).platforms[0]) == words


# Hashes, and what locks name.


def test_only_files_with_a_pinned_hash_are_meant() -> None:
    project = page(
        file("demo-1.0.tar.gz", hashes={"sha256": A}), file("demo-1.0-py3-none-any.whl", hashes={"sha256": B})
    )
    assert chosen(project, f"demo==1.0 --hash=sha256:{A}") == ["demo-1.0.tar.gz"]
    with pytest.raises(Conflict, match="a hash that is named"):
        chosen(project, f"demo==1.0 --hash=sha256:{'c' * 64}")


def test_a_file_without_a_hash_may_be_the_pinned_one() -> None:
    bare = file("demo-1.0.tar.gz", hashes={"md5": "0" * 32})
    pinned = wanted(f"demo==1.0 --hash=sha256:{A}")
    assert names(Choice().of(page(bare), pinned)) == ["demo-1.0.tar.gz"]
    assert agrees(bare, pinned) is None


LOCKED = {"demo-1.0.tar.gz": {"sha256": A}, "demo-1.0-py3-none-any.whl": {"sha256": B}}


def test_a_lock_means_its_files_and_no_other() -> None:
    project = page(
        file("demo-1.0.tar.gz", hashes={"sha256": A}),
        file("demo-1.0-py3-none-any.whl", hashes={"sha256": B}, yanked=""),
        "demo-1.0-cp312-cp312-win_amd64.whl",
        "demo-2.0.tar.gz",
    )
    assert sorted(names(Choice().of(project, wanted("demo==1.0", files=LOCKED)))) == sorted(LOCKED)
    linux = Choice(targets=targets.parse(["3.12"], ["linux"]))
    assert names(linux.of(project, wanted("demo==1.0", files=LOCKED))) == ["demo-1.0-py3-none-any.whl"]


def test_other_bytes_than_the_lock_names_are_a_conflict() -> None:
    with pytest.raises(Conflict, match="another hash"):
        Choice().of(page(file("demo-1.0.tar.gz", hashes={"sha256": B})), wanted("demo==1.0", files=LOCKED))


def test_files_of_a_lock_that_are_gone_are_named() -> None:
    project, lock = page(file("demo-1.0.tar.gz", hashes={"sha256": A})), wanted("demo==1.0", files=LOCKED)
    assert names(Choice().of(project, lock)) == ["demo-1.0.tar.gz"]
    assert Choice().missing(project, lock) == ("demo-1.0-py3-none-any.whl",)
    assert Choice(targets=targets.parse(["3.12"], [])).missing(project, lock) == ()
    with pytest.raises(NotFound, match="no file that is named"):
        Choice().of(page("demo-2.0.tar.gz"), lock)
