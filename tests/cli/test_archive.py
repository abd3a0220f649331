"""`entrepot archive …` as scripts of tycho's users see it: words, lines, exit codes; and what is new."""

import hashlib
import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner

from entrepot.cli.main import app
from entrepot.stores.disk import Disk
from tests.archives.oldtool import OldTool
from tests.cli.conftest import ENTREPOT, Ran, Run, environment
from tests.e2e.servers import Servers
from tests.servers.buckets import moto

Archive = Callable[..., Ran]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The current folder of a script."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """What stands for a bucket of tycho's: a disk store."""
    return Disk.open(tmp_path / "bucket", create=True).root


@pytest.fixture(params=["entrepot", "tycho", "server"])
def place(request: pytest.FixtureRequest, data: Path, tmp_path: Path) -> Iterator[list[str]]:
    """Each kind of place where archives are kept, as words of the command line."""
    if request.param == "entrepot":
        yield ["--data", str(data)]
    elif request.param == "tycho":
        yield ["--to", Disk.open(tmp_path / "bucket", create=True).root.as_uri(), "--layout", "tycho"]
    else:
        servers = Servers(tmp_path)
        server = servers()
        yield ["--to", f"{server.url}/private/archives/", "--token", server.first_token]
        servers.end()


@pytest.fixture
def archive(place: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """The command, in this process: it is called hundreds of times."""
    monkeypatch.chdir(here)
    for name in [name for name in os.environ if name.startswith("ENTREPOT_")]:
        monkeypatch.delenv(name)

    def running(*words: str | Path) -> Ran:
        done = CliRunner().invoke(app, ["archive", *map(str, words), *place], catch_exceptions=False)
        return Ran(done.exit_code, done.stdout, done.stderr)

    return running


@pytest.fixture
def script(place: list[str], here: Path, shell: Run, archive: Archive) -> Archive:
    """The real command, each time in a process of its own; of a server, whose process is real, it is enough as it is."""
    if any(word.startswith("http") for word in place):
        return archive
    return lambda *words: shell("archive", *words, *place, cwd=here)


def refused(ran: Ran, line: str) -> None:
    """Exit code 1, nothing on stdout, and the words that scripts know on stderr."""
    assert (ran.code, ran.out) == (1, ""), ran
    assert ran.err.splitlines()[0] == line


def test_the_lines_of_tycho(script: Archive, here: Path) -> None:
    archive = script
    assert archive("list").ok() == ""
    assert archive("init", "narf", "narf.tar.gz").ok() == "Initialized: narf\n"
    assert archive("init", "narf", "narf.tar.gz").ok() == "Already Initialized: narf\n"
    refused(archive("init", "narf", "other"), "Already Initialized: narf")
    refused(archive("pull", "narf"), "Nothing to Pull: narf")
    assert archive("list").ok() == "narf -- Latest Version: None\n"
    assert archive("list-versions", "narf").ok() == "narf Versions\n"
    assert archive("push", "narf", "1.10", "one").ok() == ""
    assert archive("push", "narf", "1.2", "two", "--promote-latest").ok() == ""
    refused(archive("push", "narf", "1.2", "one"), "Already Exists: narf, Version 1.2")
    assert archive("push", "narf", "1.2", "two").ok() == "Already Exists: narf, Version 1.2 (with the same bytes)\n"
    refused(archive("promote", "narf", "3"), "Does Not Exist: narf, Version 3")
    assert archive("list").ok() == "narf -- Latest Version: 1.2\n"
    assert archive("list-versions", "narf").ok() == "narf Versions\n  - 1.2\n  - 1.10\n"
    pulled = archive("pull", "narf").ok()
    etag = (here / "tycho_packages" / "narf.tar.gz.etag").read_text()
    assert etag.startswith('"')
    assert pulled == f"Pulling: narf 1.2 -> tycho_packages/narf.tar.gz\nFile Hash: {etag}\n"
    assert (here / "tycho_packages" / "narf.tar.gz").read_bytes() == b"two"
    assert archive("pull", "narf").ok() == "Skipping: narf\n"
    assert archive("pull", "narf", "--force").ok() == pulled
    assert archive("promote", "narf", "1.10").ok() == ""
    assert archive("pull", "narf", "--version", "latest").ok().startswith("Pulling: narf 1.10 -> ")
    assert (here / "tycho_packages" / "narf.tar.gz").read_bytes() == b"one"
    refused(archive("pull", "narf", "--version", "9"), "Does Not Exist: narf, Version 9")
    refused(archive("pull", "nobody"), "Does Not Exist: nobody")
    refused(archive("list-versions", "nobody"), "Does Not Exist: nobody")
    outfile = archive("pull", "narf", "--outfile", "sub/x").ok()
    assert outfile.splitlines()[0] == f"Pulling: narf 1.10 -> {here}/sub/x"
    assert sorted(os.listdir(here / "sub")) == ["x", "x.etag"]


def test_a_list_is_pulled_in_its_order_and_one_that_fails_keeps_nobody_back(archive: Archive, here: Path) -> None:
    for name in ("c", "a", "b"):
        archive("push", name, "1", "one", "--promote-latest").ok()
        archive("init", f"{name}-empty", f"{name}-file").ok()
    # The first push took the name of the file: three archives that are called the same here.
    clash = archive("pull-list", "a", "b")
    assert (clash.code, clash.out) == (1, "")
    assert "a and b are both called tycho_packages/one here" in clash.err
    for name in ("x", "y"):
        archive("init", name, f"{name}.bin").ok()
        archive("push", name, "1", "two", "--promote-latest").ok()
    ran = archive("pull-list", "y", "nobody", "a-empty", "x", "-j", "8")
    assert ran.code == 1
    assert [line for line in ran.out.splitlines() if not line.startswith("File Hash: ")] == [
        "Pulling: y 1 -> tycho_packages/y.bin", "Pulling: x 1 -> tycho_packages/x.bin",
    ]  # fmt: skip
    assert [line for line in ran.err.splitlines() if not line.startswith(" ")] == [
        "Does Not Exist: nobody", "Nothing to Pull: a-empty",
    ]  # fmt: skip
    assert archive("pull-list", "y", "x").ok() == "Skipping: y\nSkipping: x\n"


def test_patterns_ranges_and_channels(archive: Archive, here: Path) -> None:
    for name in ("data-a", "data-b", "model"):
        archive("init", name, f"{name}.bin").ok()
        for version in ("1.0", "1.5", "2.0"):
            (here / "file").write_text(f"{name} {version}")
            archive("push", name, version, "file").ok()
        archive("promote", name, "1.5", "--channel", "stable").ok()
    archive("pull", "data-*", "--version", "<2").ok()
    folder = here / "tycho_packages"
    assert [(folder / f"data-{x}.bin").read_text() for x in "ab"] == ["data-a 1.5", "data-b 1.5"]
    archive("pull", "model", "--version", "stable", "--outdir", "elsewhere").ok()
    assert (here / "elsewhere" / "model.bin").read_text() == "model 1.5"
    several = archive("pull", "data-*", "--outfile", "x")
    assert "2 archives cannot go to one file" in several.failed() if several.code == 1 else None
    refused(archive("pull", "x*"), "Does Not Exist: x*")


def test_json_everywhere(archive: Archive, here: Path) -> None:
    assert archive("init", "m", "m.bin", "--json").json() == {"name": "m", "localname": "m.bin", "initialized": True}
    assert archive("push", "m", "1", "one", "--promote-latest", "--json").json() == {
        "name": "m", "version": "1", "size": 3, "sha256": sha256(b"one"), "pushed": True, "promoted": True,
    }  # fmt: skip
    assert archive("list", "--json").json() == [{"name": "m", "localname": "m.bin", "channels": {"latest": "1"}}]
    [version] = archive("list-versions", "m", "--json").json()["versions"]
    assert (version["version"], version["sha256"]) == ("1", sha256(b"one"))
    [pulled] = archive("pull", "m", "--json").json()
    assert (pulled["path"], pulled["sha256"], pulled["skipped"]) == ("tycho_packages/m.bin", sha256(b"one"), False)
    [verified] = archive("verify", "--json").json()
    assert verified["fault"] is None
    assert archive("promote", "m", "1", "--channel", "s", "--json").json() == {
        "name": "m", "channel": "s", "version": "1",
    }  # fmt: skip
    assert archive("prune", "m", "--keep", "1", "--json").json() == {"m": []}
    assert archive("delete", "m", "s", "--yes", "--json").json() == {"m": ["s"]}


def test_a_dry_run_changes_nothing(archive: Archive, here: Path) -> None:
    assert archive("init", "m", "m.bin", "--dry-run").ok() == "Would initialize: m\n"
    assert archive("push", "m", "1", "one", "--dry-run").ok() == (f"Would push: m 1 (3 B, sha256 {sha256(b'one')})\n")
    assert archive("list").ok() == ""
    archive("push", "m", "1", "one", "--promote-latest").ok()
    archive("push", "m", "2", "two").ok()
    refused(archive("push", "m", "1", "two", "--dry-run"), "Already Exists: m, Version 1")
    assert archive("promote", "m", "2", "--dry-run").ok() == "Would promote: m 2 to latest\n"
    assert archive("pull", "m", "--dry-run").ok() == "Would pull: m 1 -> tycho_packages/one\n"
    assert archive("delete", "m", "2", "--dry-run").ok() == "Would delete: m 2\n"
    assert archive("prune", "m", "--keep", "1", "--dry-run").ok() == "nothing to delete\n"
    assert archive("list-versions", "m").ok() == "m Versions\n  - 1\n  - 2\n"
    assert sorted(os.listdir(here)) == ["one", "two"]


def test_versions_are_deleted_and_pruned_but_none_that_is_pointed_to(archive: Archive, here: Path) -> None:
    for version in ("1", "2", "3", "4", "5"):
        (here / "file").write_text(version)
        archive("push", "m", version, "file").ok()
    archive("promote", "m", "1").ok()
    asked = archive("prune", "m", "--keep", "2")
    assert (asked.code, asked.out) == (1, "")
    assert "add --yes" in asked.err
    assert archive("prune", "m", "--keep", "2", "--yes").ok() == "Deleted: m 2\nDeleted: m 3\n"
    assert archive("list-versions", "m").ok() == "m Versions\n  - 1\n  - 4\n  - 5\n"
    pointed = archive("delete", "m", "1", "--yes")
    assert pointed.code == 1
    assert "latest of m points to version 1" in pointed.err
    assert archive("delete", "m", "latest", "1", "--yes").ok() == "Deleted: m latest\nDeleted: m 1\n"
    refused(archive("delete", "m", "1", "--yes"), "Does Not Exist: m, Version 1")


def test_a_lock_pins_versions_and_bytes(archive: Archive, here: Path) -> None:
    archive("init", "m", "m.bin").ok()
    archive("push", "m", "1", "one", "--promote-latest").ok()
    archive("pull-list", "m", "--lock").ok()
    lock = here / "archives.lock"
    assert json.loads(lock.read_text()) == {
        "schema": 1, "archives": [{"name": "m", "version": "1", "sha256": sha256(b"one")}],
    }  # fmt: skip
    archive("push", "m", "2", "two", "--promote-latest").ok()
    assert archive("pull-list", "--locked").ok() == "Skipping: m\n"
    (here / "tycho_packages" / "m.bin").write_bytes(b"ono")
    assert archive("pull", "m", "--locked").ok().startswith("Pulling: m 1 -> ")
    assert (here / "tycho_packages" / "m.bin").read_bytes() == b"one"
    lock.write_text(lock.read_text().replace(sha256(b"one"), sha256(b"two")))
    wrong = archive("pull", "m", "--locked", "--force")
    assert wrong.code == 1
    assert sha256(b"two") in wrong.err
    assert (here / "tycho_packages" / "m.bin").read_bytes() == b"one"
    assert "is not locked" in archive("pull", "nobody", "--locked").err


def test_what_was_pulled_and_what_is_stored_is_verified(archive: Archive, here: Path) -> None:
    archive("push", "m", "1", "one", "--promote-latest").ok()
    archive("pull", "m").ok()
    assert archive("verify").ok() == "OK: m 1\n"
    assert archive("verify", "m", "--local").ok() == "OK: m 1 -> tycho_packages/one\n"
    (here / "tycho_packages" / "one").write_bytes(b"eno")
    bad = archive("verify", "--local")
    assert bad.code == 1
    assert bad.out.startswith("Fault: m 1 -> tycho_packages/one: its bytes have the sha256 ")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a\x1b[2Jb", "x" * 300, ".."])
def test_hostile_names_are_refused_before_anything_is_asked(archive: Archive, name: str) -> None:
    for words in (("init", name, "x"), ("push", name, "1", "one"), ("push", "m", "../x", "one"), ("init", "m", "../x")):
        ran = archive(*words)
        assert (ran.code, ran.out) == (1, ""), ran
        assert ran.err.startswith("error: ")
        assert "\x1b" not in ran.err
    assert archive("list").ok() == ""


# tycho's bucket and file.


def test_both_tools_work_on_one_bucket_and_one_folder(shell: Run, here: Path, bucket: Path) -> None:
    old, place = OldTool(bucket), ["--to", bucket.as_uri(), "--layout", "tycho"]
    old.init("narf", "narf.tar.gz")
    old.push("narf", "1.0", b"from tycho")
    old.promote("narf", "1.0")
    old.push("loose", "1", b"x")
    assert shell("archive", "list", *place, cwd=here).ok() == (
        "loose -- Latest Version: None\nnarf -- Latest Version: 1.0\n"
    )
    shell("archive", "pull", "narf", *place, cwd=here).ok()
    etag = (here / "tycho_packages" / "narf.tar.gz.etag").read_bytes()
    assert etag.startswith(b'"')
    assert etag.endswith(b'"')
    shell("archive", "push", "narf", "2.0", "two", "--promote-latest", *place, cwd=here).ok()
    assert old.pull("narf") == ("narf.tar.gz", b"two")
    verified = shell("archive", "verify", "narf", *place, cwd=here).ok()
    assert verified == (
        "Unknown: narf 1.0: it can be read, but nobody recorded its sha256, which is "
        f"{sha256(b'from tycho')}\nOK: narf 2.0\n"
    )
    nameless = shell("archive", "pull", "loose", "--version", "1", *place, cwd=here)
    assert "nobody has said what the file of loose is called" in nameless.err
    shell("archive", "pull", "loose", "--version", "1", "--outfile", "l", *place, cwd=here).ok()
    assert (here / "l").read_bytes() == b"x"


def test_a_folder_becomes_a_store_only_if_that_is_said(shell: Run, here: Path) -> None:
    refused_ = shell("archive", "push", "m", "1", "one", "--to", "./new", "--layout", "tycho", cwd=here)
    assert "there is no store here" in refused_.failed()
    shell("archive", "push", "m", "1", "one", "--to", "./new", "--layout", "tycho", "--create", cwd=here).ok()
    assert (here / "new" / "m" / "tycho_1.pkg").read_bytes() == b"one"


@pytest.mark.parametrize("named", [True, False])
def test_the_file_of_tycho_is_read_if_it_is_named_or_lies_here(named: bool, shell: Run, here: Path) -> None:
    text = {"s3": {"bucket": "b", "config": 1, "aws_access_key_id": {"env": "NO_SUCH_VARIABLE"}}}
    file = here / ("own.json" if named else ".tychoreg.json")
    file.write_text(json.dumps(text))
    ran = shell("archive", "list", *(["--config", file] if named else []), cwd=here)
    assert "s3.aws_access_key_id: the environment variable NO_SUCH_VARIABLE is not set" in ran.failed()


def test_data_or_an_index_on_the_command_line_goes_before_the_file_of_tycho(shell: Run, here: Path, data: Path) -> None:
    (here / ".tychoreg.json").write_text("broken")
    assert shell("archive", "list", "--data", data, cwd=here).ok() == ""
    assert "is not JSON" in shell("archive", "list", cwd=here).failed()


def test_the_place_may_stand_in_our_own_configuration(shell: Run, here: Path, bucket: Path) -> None:
    (here / ".env").write_text(f"WHERE={bucket.as_uri()}\n")
    (here / "entrepot.toml").write_text(
        'dotenv = ".env"\n[archives]\nurl = { env = "WHERE" }\nlayout = "tycho"\noutdir = "out"\n'
    )
    shell("archive", "push", "m", "1", "one", "--promote-latest", cwd=here).ok()
    assert shell("archive", "pull", "m", cwd=here).ok().startswith("Pulling: m 1 -> out/one\n")
    assert (bucket / "m" / "tycho_1.pkg").exists()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--to", "ftp://x/y"), "no store has the scheme ftp://"),
        (("--layout", "zip"), "'zip' is no layout"),
        (("--layout", "tycho"), "the store of an index has our own layout"),
        (("--index", "nope"), "no index 'nope'"),
        (("--to", "http://127.0.0.1:1/x/archives/"), "the server cannot be reached"),
    ],
)
def test_a_place_that_is_none_is_named(words: tuple[str, ...], fault: str, shell: Run, here: Path) -> None:
    assert fault in shell("archive", "list", *words, cwd=here).err


@pytest.mark.parametrize("layout", ["entrepot", "tycho"])
def test_of_two_processes_that_push_one_version_one_wins(layout: str, here: Path, bucket: Path, shell: Run) -> None:
    place = ["--to", bucket.as_uri(), "--layout", layout]
    both = [
        subprocess.Popen(
            [ENTREPOT, "archive", "push", "m", "1", name, *place], cwd=here, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    said = [process.communicate(timeout=60) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    winner, loser = sorted(range(2), key=lambda number: both[number].returncode)
    assert said[loser][1].splitlines()[0] == "Already Exists: m, Version 1"
    shell("archive", "pull", "m", "--version", "1", "--outfile", "got", *place, cwd=here).ok()
    assert (here / "got").read_text() == ("one", "two")[winner]


# A server.


def test_a_server_says_what_a_token_may_not(serve: Servers, shell: Run, here: Path) -> None:
    server = serve()
    place = ("--to", f"{server.url}/archives")
    nobody = shell("archive", "push", "m", "1", "one", *place, cwd=here)
    assert "this needs a token" in nobody.failed()
    reader = shell("archive", "push", "m", "1", "one", *place, "--token", server.token("read"), cwd=here)
    assert "may not upload archive m" in reader.failed()
    url = server.url.replace("://", f"://__token__:{server.token('upload')}@")
    shell("archive", "push", "m", "1", "one", "--promote-latest", "--to", f"{url}/archives/", cwd=here).ok()
    assert shell("archive", "pull", "m", *place, cwd=here).ok().startswith("Pulling: m 1 -> ")


def test_a_large_file_goes_to_a_server_and_comes_back(serve: Servers, shell: Run, here: Path) -> None:
    server, data = serve(), os.urandom(20 << 20)
    (here / "large").write_bytes(data)
    place = ("--to", f"{server.url}/archives/", "--token", server.token("upload"))
    shell("archive", "push", "m", "1", "large", *place, cwd=here).ok()
    shell("archive", "push", "m", "1", "large", *place, cwd=here).ok()
    shell("archive", "pull", "m", "--version", "1", *place, cwd=here).ok()
    assert (here / "tycho_packages" / "large").read_bytes() == data
    server.command("check")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    yield servers
    servers.end()


# A terminal.


def test_on_a_terminal_there_are_bars_and_success_is_said(here: Path, data: Path) -> None:
    (here / "large").write_bytes(os.urandom(9 << 20))
    said = ""
    for words in (("push", "m", "1", "large", "--promote-latest"), ("pull", "m")):
        own, other = pty.openpty()
        with subprocess.Popen(
            [ENTREPOT, "archive", *words, "--data", data], stdout=other, stderr=other, cwd=here,
            env=environment(TERM="xterm", COLUMNS="100"),
        ) as running:  # fmt: skip
            os.close(other)
            while piece := _read(own):
                said += piece
            assert running.wait() == 0
        os.close(own)
    assert "Pushed: m 1" in said
    assert "Pulling: m 1 -> tycho_packages/large" in said
    assert "━" in said


def _read(fd: int) -> str:
    try:
        return os.read(fd, 65536).decode(errors="replace")
    except OSError:  # how Linux says that the other side was closed
        return ""


def test_only_a_server_needs_a_client(data: Path) -> None:
    script = f"""
import sys
sys.argv = ["entrepot", "archive", "list", "--data", {str(data)!r}]
from entrepot.__main__ import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
print("heavy:", [name for name in ("aiohttp", "starlette", "rich", "dotenv") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_a_bucket_of_the_older_tool_is_used_as_it_is(shell: Run, tmp_path: Path) -> None:
    bucket = moto()
    name = f"tycho-{uuid.uuid4().hex[:8]}"
    client = boto3.client(
        "s3",
        endpoint_url=bucket.endpoint,
        aws_access_key_id=bucket.options["access_key_id"],
        aws_secret_access_key=bucket.options["secret_access_key"],
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="data/tycho.json", Body=b'{\n  "localname": "d.bin",\n  "latest": "1.0"\n}')
    client.put_object(Bucket=name, Key="data/tycho_1.0.pkg", Body=b"bytes")
    settings = {
        "bucket": name,
        "endpoint_url": bucket.endpoint,
        "aws_access_key_id": bucket.options["access_key_id"],
        "aws_secret_access_key": bucket.options["secret_access_key"],
        "region_name": "us-east-1",
    }
    (tmp_path / ".tychoreg.json").write_text(json.dumps({"tycho": {"backend": "s3"}, "s3": settings}))
    assert shell("archive", "list").ok() == "data -- Latest Version: 1.0\n"
    shell("archive", "pull", "data").ok()
    assert (tmp_path / "tycho_packages" / "d.bin").read_bytes() == b"bytes"
    etag = client.head_object(Bucket=name, Key="data/tycho_1.0.pkg")["ETag"]
    assert (tmp_path / "tycho_packages" / "d.bin.etag").read_text() == etag
    (tmp_path / "new.bin").write_bytes(b"newer")
    shell("archive", "push", "data", "1.1", "new.bin", "--promote-latest").ok()
    keys = {entry["Key"] for entry in client.list_objects_v2(Bucket=name)["Contents"]}
    assert keys == {"data/tycho.json", "data/tycho_1.0.pkg", "data/tycho_1.1.pkg"}
    assert json.loads(client.get_object(Bucket=name, Key="data/tycho.json")["Body"].read())["latest"] == "1.1"
