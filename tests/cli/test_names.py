"""`explain` and `forget`: which index answers a name, and why."""

from pathlib import Path

import pytest

from entrepot.sources.hosted import Hosted
from tests.cli.conftest import Run
from tests.distributions import build

WHEEL, SDIST, LATER = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz", "demo-2.0.tar.gz"


@pytest.fixture
def configured(tmp_path: Path, data: Path) -> Path:
    """A folder behind the hosted index, and a rule."""
    (tmp_path / "dist").mkdir()
    file = tmp_path / "entrepot.toml"
    file.write_text(f"""
data = "{data}"
[index.private]
type = "hosted"
rules = [ {{ deny = "demo==1.0" }} ]
[index.wheels]
type = "folder"
path = "dist"
[index.root]
type = "virtual"
of = ["private", "wheels"]
""")
    return file


def test_explain_tells_who_answers_and_what_withholds(command: Run, stocked: Hosted, configured: Path) -> None:
    assert command("explain", "demo", "--config", configured).ok().splitlines() == [
        "root (virtual): owns: by private",
        "  private (hosted): owns: 1 shown, 2 withheld",
        "  wheels (folder): not asked: private owns the name",
        f"withheld  {WHEEL}  of private: it is denied by 'demo==1.0' (index.private.rules[0])",
        f"withheld  {SDIST}  of private: it is denied by 'demo==1.0' (index.private.rules[0])",
        f"shown     {LATER}  of private: no rule withholds it",
    ]


def test_explain_is_of_one_version_or_file_if_that_is_asked(command: Run, stocked: Hosted, configured: Path) -> None:
    for what, last in (
        ("demo==2", f"shown     {LATER}"),
        (SDIST, f"withheld  {SDIST}"),
        ("demo==9", "no file is demo==9"),
    ):
        lines = command("explain", what, "--config", configured).ok().splitlines()
        assert len(lines) == 4
        assert lines[-1].startswith(last)


def test_explain_of_one_index(command: Run, stocked: Hosted, configured: Path) -> None:
    assert command("explain", "other", "--index", "wheels", "--config", configured).ok() == (
        "wheels (folder): unknown: it does not know the name\n"
    )
    assert command("explain", "other", "--index", "nothing").failed().startswith("--index: no index 'nothing'")


def test_explain_in_json_is_what_the_server_says(command: Run, stocked: Hosted, configured: Path) -> None:
    told = command("explain", "demo==2.0", "--json", "--config", configured).json()
    assert (told["project"], told["index"], told["step"]["says"]) == ("demo", "root", "owns")
    assert [one["filename"] for one in told["files"]] == [LATER]


def test_explain_where_nothing_was_kept_yet(command: Run, data: Path) -> None:
    assert command("explain", "demo", "--index", "private").ok().startswith("private (hosted): unknown")
    assert not data.exists()


def remembered(command: Run, configured: Path, name: str = "kit") -> None:
    """The folder served the name, and has no files of it any more."""
    build.make_sdist(configured.parent / "dist", name)
    assert command("show", name, "--config", configured).ok()
    (configured.parent / "dist" / build.sdist_filename(name)).unlink()
    assert "keeps" in command("explain", name, "--config", configured).ok()


def test_forget_releases_a_name_that_a_folder_remembers(command: Run, stocked: Hosted, configured: Path) -> None:
    remembered(command, configured)
    assert command("forget", "kit", "--yes", "--config", configured).ok() == "wheels: kit is forgotten\n"
    assert "unknown" in command("explain", "kit", "--config", configured).ok()
    assert command("forget", "kit", "--yes", "--config", configured).failed() == "no index behind root remembers kit"


def test_forget_of_one_index_in_json(command: Run, stocked: Hosted, configured: Path) -> None:
    remembered(command, configured)
    told = command("forget", "KIT", "--index", "wheels", "--yes", "--json", "--config", configured).json()
    assert told == {"project": "kit", "indexes": ["wheels"]}


def test_forget_asks_before(command: Run, stocked: Hosted, configured: Path) -> None:
    remembered(command, configured)
    refused = command("forget", "kit", "--config", configured).failed()
    assert refused == "Release the name kit, so that other indexes may answer it? Nobody is here to ask: add --yes"
    assert "keeps" in command("explain", "kit", "--config", configured).ok()


def test_forget_refuses_while_there_are_files(command: Run, stocked: Hosted, configured: Path) -> None:
    build.make_sdist(configured.parent / "dist", "kit")
    assert command("forget", "kit", "--yes", "--config", configured).failed() == (
        "folder index wheels has files of kit (take them out of the folder first)"
    )


def test_a_hosted_index_forgets_nothing(command: Run, stocked: Hosted, configured: Path) -> None:
    expected = (
        "hosted index private keeps other: it never releases a name "
        '(`merge = ["other"]` in the virtual index lets other indexes answer beside it)'
    )
    assert command("forget", "other", "--yes", "--config", configured).failed() == expected
    command("delete", "other", "--yes", "--config", configured).ok()
    assert command("forget", "other", "--yes", "--config", configured).failed() == expected
