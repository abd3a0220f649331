"""Which files some directories hold, by project, and what changed since the last look."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.errors import Invalid
from entrepot.model import ProjectName, normalise
from entrepot.sources import tree
from entrepot.sources.tree import Tree
from entrepot.wire import filenames

DEMO = normalise("demo")
WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(looked: Tree, project: ProjectName = DEMO) -> list[str]:
    return [item.path for item in looked.files(project)]


def looked(*roots: Path) -> Tree:
    made = Tree(roots)
    made.look()
    return made


def long_ago(*folders: Path) -> None:
    """Let the folders be unchanged for so long that their time stamps can be trusted."""
    for folder in folders:
        os.utime(folder, (1_000_000_000, 1_000_000_000))


# What is found


def test_files_are_found_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path / WHEEL, tmp_path / "a/b/c" / SDIST, tmp_path / "a/other-1.tar.gz")
    assert found(looked(tmp_path)) == [f"{tmp_path}/{WHEEL}", f"{tmp_path}/a/b/c/{SDIST}"]
    assert looked(tmp_path).names() == ["demo", "other"]


def test_what_is_no_distribution_is_passed_over(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("README.md", "demo-1.0.exe", "demo-1.0.tar.gz.asc", "x.whl", "demo.tar.gz")))
    touch(tmp_path / f".{WHEEL}", tmp_path / ".git" / WHEEL, tmp_path / "-1.0-py3-none-any.whl")
    (tmp_path / SDIST).mkdir()
    assert looked(tmp_path).names() == []


def test_a_second_download_by_a_browser_is_passed_over_and_spoils_nothing(tmp_path: Path) -> None:
    touch(tmp_path / WHEEL, tmp_path / "demo-1.0-py3-none-any (1).whl")
    assert found(looked(tmp_path)) == [f"{tmp_path}/{WHEEL}"]


def test_a_wheel_whose_name_holds_a_dash_belongs_to_that_name(tmp_path: Path) -> None:
    touch(tmp_path / "acme-tools-1.0-py3-none-any.whl", tmp_path / "acme-1.0-1build-py3-none-any.whl")
    assert looked(tmp_path).names() == ["acme", "acme-tools"]


_parts = st.sampled_from(
    ["demo", "Acme.Tools", "a", "1.0", "1", "py3", "none", "any", "", "é", " ", "_", "x_", "1build"]
)
_names = st.builds(
    lambda parts, end: "-".join(parts) + end,
    st.lists(_parts, min_size=1, max_size=7),
    st.sampled_from([".whl", ".tar.gz", ".zip", ".whl\n", ".WHL", " (1).whl"]),
)


@given(_names | st.text(max_size=40).map(lambda text: text + ".whl"))
@example("acme-tools-1.0-py3-none-any.whl")
@example("-1.0-py3-none-any.whl")
@example("demo-1.0-py3-none-any (1).whl")
def test_the_quick_way_to_read_a_name_is_the_right_one(filename: str) -> None:
    try:
        expected: ProjectName | None = filenames.parse(filename).project
    except Invalid:
        expected = None
    assert tree._project(filename) == expected


def test_of_equal_names_the_first_by_root_and_path_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    touch(two / WHEEL, two / "a" / WHEEL, one / "z" / WHEEL, one / "b" / WHEEL)
    both = looked(two, one)
    assert found(both) == [f"{two}/{WHEEL}"]
    (two / WHEEL).unlink()
    assert both.look() == {DEMO}
    assert found(both) == [f"{two}/a/{WHEEL}"]
    (two / "a" / WHEEL).unlink()
    both.look()
    assert found(both) == [f"{one}/b/{WHEEL}"]


def test_a_root_in_another_one_is_looked_at_once(tmp_path: Path) -> None:
    touch(tmp_path / "in" / WHEEL)
    assert found(looked(tmp_path, tmp_path / "in")) == [f"{tmp_path}/in/{WHEEL}"]
    assert found(looked(tmp_path / "in", tmp_path)) == [f"{tmp_path}/in/{WHEEL}"]


def test_links_to_files_count_and_links_to_folders_do_not(tmp_path: Path) -> None:
    """A folder that is linked into itself would have no end."""
    touch(tmp_path / "real" / SDIST)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / WHEEL).symlink_to(tmp_path / "real" / SDIST)
    (tmp_path / "dist" / "again").symlink_to(tmp_path / "dist")
    (tmp_path / "dist" / "up").symlink_to("..")
    assert found(looked(tmp_path / "dist")) == [f"{tmp_path}/dist/{WHEEL}"]


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "real" / WHEEL)
    (tmp_path / "dist").symlink_to("real")
    assert found(looked(tmp_path / "dist")) == [f"{tmp_path}/dist/{WHEEL}"]


def test_folders_may_be_nested_as_deep_as_the_system_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / WHEEL)
    monkeypatch.chdir(tmp_path)
    for _ in range(2100):  # by steps: a path is at most 4096 bytes long
        os.mkdir("d")
        os.chdir("d")
    deep = looked(tmp_path)
    assert found(deep) == [f"{tmp_path}/{WHEEL}"]
    assert list(deep.unreadable.values()) == ["File name too long"]
    _remove_from_below(tmp_path)


def _remove_from_below(top: Path) -> None:
    """What `shutil.rmtree` of this Python cannot: it calls itself for every level."""
    here = os.open(".", os.O_RDONLY)
    while not os.path.samestat(os.fstat(here), os.stat(top)):
        above = os.open("..", os.O_RDONLY, dir_fd=here)
        os.close(here)
        os.rmdir("d", dir_fd=above)
        here = above
    os.close(here)


# What changed


def test_a_look_tells_whose_files_came_and_went(tmp_path: Path) -> None:
    empty = Tree([tmp_path])
    assert empty.look() == frozenset()
    touch(tmp_path / WHEEL, tmp_path / "a/other-1.tar.gz")
    assert empty.look() == {"demo", "other"}
    assert empty.look() == frozenset()
    touch(tmp_path / SDIST)
    assert empty.look() == {"demo"}
    (tmp_path / SDIST).rename(tmp_path / "a" / SDIST)
    assert empty.look() == {"demo"}
    (tmp_path / "a").rename(tmp_path / "b")
    assert empty.look() == {"demo", "other"}
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert empty.look() == {"demo", "other"}
    assert empty.names() == []


def test_a_file_that_another_was_moved_over_is_noticed_whatever_its_times(tmp_path: Path) -> None:
    touch(tmp_path / WHEEL)
    long_ago(tmp_path / WHEEL)
    seen = looked(tmp_path)
    touch(tmp_path / "draft")
    long_ago(tmp_path / "draft")
    (tmp_path / "draft").rename(tmp_path / WHEEL)
    assert seen.look() == {DEMO}


def test_a_root_that_is_missing_may_come_and_go(tmp_path: Path) -> None:
    root = tmp_path / "dist"
    absent = looked(root)
    assert absent.missing == (str(root),)
    touch(root / WHEEL)
    assert absent.look() == {DEMO}
    assert not absent.missing
    root.rename(tmp_path / "elsewhere")
    assert absent.look() == {DEMO}
    assert absent.names() == []
    root.write_bytes(b"a file, not a folder")
    assert absent.look() == frozenset()


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The directories that were read and not only asked for their time."""
    real, names = os.scandir, list[str]()

    def scandir(path: str) -> Any:
        names.append(os.path.basename(path))
        return real(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        yield names


def test_a_directory_that_has_not_changed_for_a_while_is_not_read_again(tmp_path: Path, scanned: list[str]) -> None:
    touch(tmp_path / "a" / WHEEL, tmp_path / "b" / SDIST)
    long_ago(tmp_path / "a", tmp_path / "b", tmp_path)
    quiet = looked(tmp_path)
    scanned.clear()
    assert quiet.look() == frozenset()
    assert scanned == []
    touch(tmp_path / "b" / "demo-2.0.tar.gz")
    assert quiet.look() == {DEMO}
    assert scanned == ["b"]


def test_a_directory_that_changed_just_now_is_read_again_as_its_time_may_stay_the_same(
    tmp_path: Path, scanned: list[str]
) -> None:
    touch(tmp_path / WHEEL)
    fresh = looked(tmp_path)
    stamp = os.stat(tmp_path).st_mtime_ns
    touch(tmp_path / SDIST)
    os.utime(tmp_path, ns=(stamp, stamp))  # what a clock of coarse steps does
    assert fresh.look() == {DEMO}
    assert scanned[-1] == tmp_path.name


def test_a_directory_of_the_future_is_read_every_time(tmp_path: Path, scanned: list[str]) -> None:
    later = time.time() + 1000
    os.utime(tmp_path, (later, later))
    ahead = looked(tmp_path)
    scanned.clear()
    ahead.look()
    assert scanned == [tmp_path.name]


# What cannot be read


def test_a_directory_that_cannot_be_read_hides_nothing_else_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "a/other-1.tar.gz", tmp_path / "locked" / WHEEL, tmp_path / "z/third-1.tar.gz")
    monkeypatch.setattr(os, "scandir", refusing(f"{tmp_path}/locked"))
    partly = looked(tmp_path)
    assert partly.names() == ["other", "third"]
    assert partly.unreadable == {f"{tmp_path}/locked": "Permission denied"}
    monkeypatch.undo()
    assert partly.look() == {DEMO}
    assert partly.unreadable == {}


def test_what_was_known_of_a_directory_is_kept_while_it_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that fails for a moment must not make a private name public."""
    touch(tmp_path / "locked/below" / WHEEL, tmp_path / "locked" / SDIST)
    known = looked(tmp_path)
    monkeypatch.setattr(os, "scandir", refusing(f"{tmp_path}/locked"))
    assert known.look() == frozenset()
    assert len(known.files(DEMO)) == 2
    monkeypatch.undo()
    (tmp_path / "locked" / SDIST).unlink()
    assert known.look() == {DEMO}


def refusing(folder: str) -> Any:
    real = os.scandir

    def scandir(path: str) -> Any:
        if path == folder:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    return scandir
