"""`copy` and `import` on the command line: which store is meant, what is told, and how it ends."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

from entrepot.sources.hosted import Hosted
from entrepot.stores.disk import Disk
from tests.cli.conftest import ENTREPOT, Run, environment
from tests.distributions.build import make_sdist, make_wheel
from tests.e2e.servers import PLAIN
from tests.servers.buckets import moto
from tests.sources.samples import add, grave

NAMED = """
[store.main]
url = "named"
[index.private]
type = "hosted"
store = "main"
[index.root]
type = "virtual"
of = ["private"]
"""

NAMED_INDEX = NAMED[NAMED.index("[index.private]") :]


def command_check(shell: Run, data: Path) -> str:
    return shell("check", "--data", data).ok()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    make_wheel(folder, "acme", "1.0")
    make_sdist(folder, "acme", "1.0")
    make_sdist(folder, "other", "2.0")
    return folder


# copy


def test_the_default_store_is_copied_to_a_new_data_folder(command: Run, stocked: Hosted, tmp_path: Path) -> None:
    target = (tmp_path / "backup" / "store").as_uri()
    ran = command("copy", "data", tmp_path / "backup")
    first, second = ran.ok().splitlines()
    assert first == f"a new store begun: {target}"
    assert second.startswith("5 objects (")
    assert second.endswith(" and 2 documents copied, 0 were there")
    assert command("copy", "data", tmp_path / "backup").ok().endswith("0 documents copied, 7 were there\n")
    assert command("check", "--data", tmp_path / "backup").ok() == "sound\n"


def test_a_bucket_is_copied_to_and_from(shell: Run, stocked: Hosted, data: Path, tmp_path: Path) -> None:
    bucket = moto()
    url = bucket.fresh()
    options = "\n".join(f'{key} = "{value}"' for key, value in bucket.options.items())
    file = tmp_path / "there.toml"
    file.write_text(f'data = "{data}"\n[store.main]\nurl = "{url}"\n[store.main.options]\n{options}\n' + NAMED_INDEX)
    refused = shell("copy", "main", tmp_path / "backup", "--config", file)
    assert "there is no store here" in refused.failed()
    assert shell("copy", data, "main", "--config", file, "--dry-run").ok()
    assert "a new store begun" in shell("copy", data, "main", "--config", file).ok()
    assert shell("check", "--config", file).ok() == "sound\n"
    shell("copy", "main", tmp_path / "backup", "--config", file).ok()
    assert command_check(shell, tmp_path / "backup") == "sound\n"


def test_no_store_is_begun_among_other_things_in_a_bucket(
    shell: Run, stocked: Hosted, data: Path, tmp_path: Path
) -> None:
    bucket = moto()
    url = bucket.fresh()
    options = {**bucket.options, "client_options": {"allow_http": True}, "virtual_hosted_style_request": False}
    obstore.put(from_url(url, **options), "holiday/photo.jpg", b"1")  # type: ignore[call-overload]
    file = tmp_path / "there.toml"
    said = "\n".join(f'{key} = "{value}"' for key, value in bucket.options.items())
    file.write_text(f'data = "{data}"\n[store.main]\nurl = "{url}"\n[store.main.options]\n{said}\n' + NAMED_INDEX)
    for _ in range(2):
        assert "holds 'holiday/photo.jpg' and is no store" in shell("copy", data, "main", "--config", file).failed()


@pytest.mark.parametrize("spelling", ["folder", "store", "url", "relative"])
def test_a_place_may_be_told_in_several_ways(command: Run, stocked: Hosted, tmp_path: Path, spelling: str) -> None:
    command("copy", "data", tmp_path / "there").ok()
    store = tmp_path / "there" / "store"
    words = {"folder": tmp_path / "there", "store": store, "url": store.as_uri(), "relative": "there"}
    told = command("copy", words[spelling], tmp_path / spelling, "--json").json()
    assert told["source"] == store.as_uri()
    assert told["troubles"] == []


def test_stores_of_the_configuration_have_names(command: Run, stocked: Hosted, tmp_path: Path) -> None:
    (tmp_path / "entrepot.toml").write_text(NAMED)
    told = command("copy", "data", "main", "--json").json()
    assert told["destination"] == (tmp_path / "named").as_uri()
    assert command("list", "--json").json() == ["demo", "other"]


def test_json_tells_everything(command: Run, stocked: Hosted, tmp_path: Path) -> None:
    told = command("copy", "data", tmp_path / "new", "--dry-run", "--json").json()
    assert told["dry_run"]
    assert told["begun"]
    assert not (tmp_path / "new").exists()
    assert set(told["copied"]) == {"objects", "bytes", "repaired"}
    assert told["documents"] == 2


def test_faults_and_conflicts_are_told_and_end_with_1(command: Run, stocked: Hosted, tmp_path: Path) -> None:
    command("copy", "data", tmp_path / "there").ok()
    there = Hosted("private", Disk.open(tmp_path / "there" / "store", create=False))
    asyncio.run(add(there, "demo-9.0.tar.gz"))
    ran = command("copy", "data", tmp_path / "there")
    assert ran.code == 1
    assert ran.err.startswith("conflict: private/projects/demo.json: demo-9.0.tar.gz is not in the source")
    assert ran.err.endswith("1 could not be copied, see above\n")
    told = command("copy", "data", tmp_path / "there", "--json")
    assert (told.code, [one["kind"] for one in json.loads(told.out)["troubles"]]) == (1, ["conflict"])


def test_nothing_is_begun_where_something_else_is(command: Run, stocked: Hosted, tmp_path: Path) -> None:
    (tmp_path / "full" / "store").mkdir(parents=True)
    (tmp_path / "full" / "store" / "thesis.txt").write_text("mine")
    words = command("copy", "data", tmp_path / "full").failed()
    assert "holds 'thesis.txt' and is no store" in words
    assert [path.name for path in (tmp_path / "full" / "store").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("")
    assert "file" in command("copy", "data", (tmp_path / "file").as_uri()).failed()


def test_a_disk_begins_empty_with_what_the_file_system_put_there(command: Run, stocked: Hosted, tmp_path: Path) -> None:
    (tmp_path / "disk" / "store" / "lost+found").mkdir(parents=True)
    command("copy", "data", tmp_path / "disk").ok()


def test_what_is_no_store_is_not_copied_from(command: Run, stocked: Hosted, tmp_path: Path) -> None:
    assert "there is no store here" in command("copy", "nowhere", tmp_path / "new").failed()
    (tmp_path / "empty" / "store").mkdir(parents=True)
    assert "there is no store here" in command("copy", "empty", tmp_path / "new").failed()
    assert "no store has the scheme ftp://" in command("copy", "ftp://x/y", tmp_path / "new").failed()
    assert not (tmp_path / "new").exists()


def test_a_store_is_not_copied_onto_itself(command: Run, stocked: Hosted, data: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data)
    for words in ("data", data, data / "store", "link"):
        assert "the same store" in command("copy", "data", words).failed()


def test_an_unknown_index_is_named(command: Run, stocked: Hosted, tmp_path: Path) -> None:
    words = command("copy", "data", tmp_path / "new", "--index", "privat").failed()
    assert words == "--index: the source has no index privat (it has: private)"


def test_large_files_need_little_memory(tmp_path: Path) -> None:
    size = 160 << 20
    disk = Disk.open(tmp_path / "data" / "store", create=True)
    asyncio.run(add(Hosted("private", disk), "demo-1.0.tar.gz", data=bytes(size)))
    # By a small process in between: the peak of one that was forked is at least that of its parent, which is ours.
    words = [str(ENTREPOT), "copy", str(tmp_path / "data"), str(tmp_path / "new")]
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *words], env=environment(), capture_output=True, check=True)
    assert int(ran.stdout) * 1024 < size
    assert asyncio.run(grave(Disk.open(tmp_path / "new" / "store", create=False))) == []


# import


def test_a_folder_is_imported_into_the_default_index_before_the_first_start(command: Run, old: Path) -> None:
    ran = command("import", old)
    assert ran.ok().splitlines()[-1].startswith("3 files (")
    assert "imported into private, 0 were there" in ran.out
    assert command("list", "--json").json() == ["acme", "other"]
    assert command("import", old).ok() == "0 files (0 B) imported into private, 3 were there\n"


def test_who_imported_stands_in_the_record(command: Run, old: Path) -> None:
    command("import", old, "--by", "pypiserver 2019").ok()
    assert "by pypiserver 2019" in command("show", "acme").ok()
    assert "is no name" in command("import", old, "--by", "two\nlines").failed()


def test_json_tells_what_was_imported_and_what_not(command: Run, old: Path) -> None:
    (old / "bad-1.0-py3-none-any.whl").write_bytes(b"PK")
    make_sdist(old, "Old.Name", "1.0", filename="Old.Name-1.0.tar.gz")
    ran = command("import", old, "--json", "--project", "Old_N*", "--project", "bad")
    told = json.loads(ran.out)
    assert (ran.code, told["index"], told["imported"]) == (1, "private", ["Old.Name-1.0.tar.gz"])
    assert [one["filename"] for one in told["legacy"]] == ["Old.Name-1.0.tar.gz"]
    assert [(one["kind"], one["at"]) for one in told["troubles"]] == [("refused", "bad-1.0-py3-none-any.whl")]


def test_people_get_a_table_and_the_reasons(command: Run, old: Path) -> None:
    (old / "bad-1.0-py3-none-any.whl").write_bytes(b"PK")
    ran = command("import", old)
    assert ran.code == 1
    assert ran.out.splitlines()[0].split() == ["project", "imported", "there", "legacy", "not", "imported"]
    assert ran.err.startswith("refused: bad-1.0-py3-none-any.whl: ")
    assert ran.err.endswith("1 could not be imported, see above\n")


def test_a_dry_run_of_an_import_begins_no_store(command: Run, old: Path, data: Path) -> None:
    assert "would be imported into private" in command("import", old, "--dry-run").ok()
    assert not data.exists()


def test_what_cannot_be_imported_from_or_into_is_told(command: Run, old: Path, tmp_path: Path) -> None:
    assert "there is no such folder" in command("import", tmp_path / "nowhere").failed()
    assert "neither a folder nor the URL of an index" in command("import", "ftp://x/").failed()
    assert command("import", old, "--to", "privat").failed().startswith("--to: no index 'privat'")
    (tmp_path / "entrepot.toml").write_text('default = "f"\n[index.f]\ntype = "folder"\npath = "old"\n')
    assert command("import", old).failed() == "--to: index 'f' cannot be changed (name a hosted one)"


def test_an_index_that_is_not_there_is_told_in_one_line(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert "cannot be reached" in command("import", "http://127.0.0.1:9/simple/").failed()


@pytest.mark.parametrize("words", [("copy", "data", "new"), ("import", "old")])
def test_on_a_terminal_there_is_a_bar(
    words: tuple[str, ...], stocked: Hosted, data: Path, old: Path, tmp_path: Path
) -> None:
    (tmp_path / "entrepot.toml").write_text(PLAIN)
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            [ENTREPOT, *words, "--data", data], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=theirs, env=environment(TERM="xterm", COLUMNS="120"),
        ) as process:  # fmt: skip
            said = b""
            while b"100%" not in said and b"bytes" not in said and b"kB" not in said:
                said += os.read(ours, 4096)
            assert process.wait(60) == 0
    finally:
        os.close(theirs)
        os.close(ours)
    assert words[0][:4].encode() in said
