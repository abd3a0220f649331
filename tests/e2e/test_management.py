"""The commands that manage packages, beside a running server whose clients see their effect at once."""

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.distributions.build import make_wheel, wheel_bytes, wheel_filename
from tests.e2e import raw
from tests.e2e.clients import Installer, Pip, Publisher, Twine, Uv, Venv
from tests.e2e.processes import until
from tests.e2e.raw import Form
from tests.e2e.servers import Server, Servers


def publish(server: Server, *versions: str, name: str = "demo") -> list[str]:
    """Small wheels of these versions; their filenames."""
    forms = [Form(wheel_filename(name, version), wheel_bytes(name, version)) for version in versions]
    for form in forms:
        answer = server.upload(form, token=server.first_token)
        assert answer.status == 200, answer
    return [form.filename for form in forms]


def page(server: Server, name: str = "demo") -> dict[str, dict[str, object]]:
    """What the page says of each file."""
    answer = server.get(f"/simple/{name}/", {"Accept": raw.JSON})
    assert answer.status == 200, answer
    return {file["filename"]: file for file in answer.json()["files"]}


# Yanking.


def test_a_yanked_version_is_passed_over_until_it_is_asked_for(
    installer: Installer, venv: Venv, server: Server
) -> None:
    publish(server, "1.0", "2.0")
    server.command("yank", "demo==2.0", "--reason", "eats disks")
    installer.install(venv, server.simple, "demo").ok()
    assert venv.has() == {"demo": "1.0"}
    said = installer.install(venv, server.simple, "demo==2.0").ok()
    assert venv.has() == {"demo": "2.0"}
    assert "eats disks" in said


def test_what_is_no_longer_yanked_is_chosen_again(uv: Uv, venv: Venv, server: Server) -> None:
    publish(server, "1.0", "2.0")
    server.command("yank", "demo==2.0")
    uv.install(venv, server.simple, "demo").ok()
    server.command("unyank", "demo==2.0")
    uv.install(venv, server.simple, "--upgrade", "demo").ok()
    assert venv.has() == {"demo": "2.0"}


def test_all_workers_tell_of_a_yank_at_once(serve: Servers) -> None:
    server = serve(workers=2)
    [filename] = publish(server, "1.0")
    for reason in ("first", "second"):
        for _ in range(20):  # so that both remember the page as it was
            page(server)
        server.command("yank", "demo", "--reason", reason)
        assert {page(server)[filename]["yanked"] for _ in range(40)} == {reason}


# Deleting.


def test_a_deleted_version_is_gone_and_comes_back(uv: Uv, venv: Venv, server: Server) -> None:
    old, new = publish(server, "1.0", "2.0")
    content = server.download("demo", new)
    server.command("delete", "demo==2.0", "--yes")
    assert list(page(server)) == [old]
    for companion in ("", ".metadata"):
        assert server.get(f"/files/demo/{new}{companion}").status == 404
    uv.install(venv, server.simple, "demo").ok()
    assert venv.has() == {"demo": "1.0"}
    server.command("restore", "demo==2.0")
    assert server.download("demo", new) == content
    uv.install(venv, server.simple, "--upgrade", "demo").ok()
    assert venv.has() == {"demo": "2.0"}


def test_a_deleted_filename_never_comes_back_with_other_bytes(publisher: Publisher, server: Server, dist: Path) -> None:
    [filename] = publish(server, "1.0")
    server.command("delete", filename, "--yes")
    other = make_wheel(dist, "demo", "1.0", files={"demo/__init__.py": b"changed = True\n"})
    said = publisher.publish(server.legacy, server.first_token, other).refused()
    assert "409" in said
    assert "was deleted" in said
    assert page(server) == {}


def test_nothing_is_deleted_where_nobody_can_be_asked(server: Server) -> None:
    publish(server, "1.0")
    ran = server.try_command("delete", "demo")
    assert ran.returncode == 1
    assert "--yes" in ran.stderr
    assert len(page(server)) == 1


def test_a_project_that_is_deleted_is_empty_but_not_unknown(server: Server) -> None:
    publish(server, "1.0", "2.0")
    server.command("delete", "demo", "--yes")
    assert server.get("/simple/demo/").status == 200  # a 404 would send clients to the next index
    assert page(server) == {}


# Status.


def test_an_archived_project_takes_no_more_files_and_is_still_installed(
    twine: Twine, uv: Uv, venv: Venv, server: Server, dist: Path
) -> None:
    publish(server, "1.0")
    server.command("status", "demo", "archived", "--reason", "use demo2")
    said = twine.publish(server.legacy, server.first_token, make_wheel(dist, "demo", "2.0")).refused()
    assert "403" in said
    assert "archived" in said
    uv.install(venv, server.simple, "demo").ok()
    server.command("status", "demo", "active")
    twine.publish(server.legacy, server.first_token, make_wheel(dist, "demo", "2.0")).ok()


def test_a_quarantined_project_offers_nothing(pip: Pip, venv: Venv, server: Server) -> None:
    [filename] = publish(server, "1.0")
    assert server.get(f"/files/demo/{filename}").status == 200  # and so it is in memory
    server.command("status", "demo", "quarantined", "--reason", "malware")
    assert server.get(f"/files/demo/{filename}").status == 404
    pip.install(venv, server.simple, "demo").refused()
    assert venv.has() == {}
    assert server.get("/simple/demo/", {"Accept": raw.JSON}).json()["project-status"] == {
        "status": "quarantined", "reason": "malware",
    }  # fmt: skip


@pytest.mark.parametrize("status", ["archived", "deprecated"])
def test_the_page_tells_the_status_in_both_forms(server: Server, status: str) -> None:
    publish(server, "1.0")
    server.command("status", "demo", status, "--reason", "see <demo2>")
    json_page = server.get("/simple/demo/", {"Accept": raw.JSON}).json()
    assert json_page["project-status"] == {"status": status, "reason": "see <demo2>"}
    html_page = server.get("/simple/demo/", {"Accept": raw.HTML}).text
    assert f'name="pypi:project-status" content="{status}"' in html_page
    assert "see &lt;demo2&gt;" in html_page


# Looking.


def test_list_and_show_tell_what_is_here_and_who_brought_it(server: Server, dist: Path, twine: Twine) -> None:
    token = server.token("upload", name="robot")
    twine.publish(server.legacy, token, make_wheel(dist, "demo", "1.0"), make_wheel(dist, "other", "1.0")).ok()
    assert json.loads(server.command("list", "--json")) == ["demo", "other"]
    assert server.command("list") == "demo\nother\n"
    shown = server.command("show", "demo")
    assert "demo-1.0-py3-none-any.whl" in shown
    assert "by robot" in shown
    assert json.loads(server.command("show", "demo", "--json"))["project"]["name"] == "demo"


@pytest.mark.parametrize("command", ["show", "yank", "unyank", "delete", "restore"])
def test_what_is_not_there_is_named_in_the_error(server: Server, command: str) -> None:
    publish(server, "1.0")
    words = [command, "demo==9.9" if command != "show" else "nothing", *(["--yes"] if command == "delete" else [])]
    ran = server.try_command(*words)
    assert ran.returncode == 1
    assert ("nothing" if command == "show" else "demo==9.9") in ran.stderr
    assert "Traceback" not in ran.stderr


# Checking.


def test_a_sound_store_passes_the_check(server: Server) -> None:
    assert "sound" in server.command("check")
    publish(server, "1.0", "2.0")
    server.command("yank", "demo==1.0")
    server.command("delete", "demo==2.0", "--yes")
    assert "sound" in server.command("check")
    assert json.loads(server.command("check", "--json"))["sound"] is True


def test_the_check_finds_what_was_damaged(server: Server) -> None:
    wrong, missing, _ = publish(server, "1.0", "2.0", "3.0")
    blobs = {path.name: path for path in (server.data / "store").glob("private/blobs/*/*/*")}
    content = bytearray(blobs[wrong].read_bytes())
    content[-1] ^= 1
    blobs[wrong].chmod(0o644)
    blobs[wrong].write_bytes(content)
    blobs[missing].unlink()
    blobs[f"{missing}.metadata"].unlink()
    said = server.command("check", code=1)
    faults = [line for line in said.splitlines() if line.startswith("fault")]
    assert len(faults) == 3
    assert all(any(name in fault for name in (wrong, missing)) for fault in faults)


def test_the_check_finds_a_record_that_cannot_be_read(server: Server) -> None:
    publish(server, "1.0")
    record = server.data / "store" / "private" / "projects" / "demo.json"
    record.write_text(record.read_text()[:-20])
    assert "projects/demo.json" in server.command("check", code=1)
    # What others do to a store is seen within a second; never as a 404, which would send clients to another index.
    until(lambda: server.get("/simple/demo/").status != 200, what="the broken record")
    assert server.get("/simple/demo/").status == 503


# Several at once.


@contextmanager
def going_on(*jobs: threading.Thread) -> Iterator[None]:
    for job in jobs:
        job.start()
    try:
        yield
    finally:
        for job in jobs:
            job.join(60)


def test_nothing_is_lost_when_workers_and_commands_change_one_project_at_once(serve: Servers) -> None:
    server = serve(workers=2)
    old = publish(server, "0.1", "0.2", "0.3", "0.4")
    numbers, acknowledged, stop = itertools.count(), list[str](), threading.Event()

    def upload() -> None:
        while not stop.is_set():
            acknowledged.extend(publish(server, f"1.{next(numbers)}"))

    with going_on(*(threading.Thread(target=upload) for _ in range(4))):
        try:
            server.command("yank", "demo==0.1", "--reason", "first")
            server.command("delete", "demo==0.2", "--yes")
            server.command("yank", "demo==0.3", "--reason", "by mistake")
            server.command("delete", "demo==0.4", "--yes")
            server.command("unyank", "demo==0.3")
            server.command("restore", "demo==0.4")
        finally:
            stop.set()
    assert len(acknowledged) > 20
    files = page(server)
    assert set(files) == {*acknowledged, old[0], old[2], old[3]}
    assert {name: file["yanked"] for name, file in files.items() if file["yanked"] is not False} == {old[0]: "first"}
    assert "sound" in server.command("check")


def test_uploads_of_bytes_that_gc_is_about_to_remove_are_not_lost(serve: Servers) -> None:
    server = serve(workers=2)
    forms = [Form(wheel_filename("demo", f"1.{n}"), wheel_bytes("demo", f"1.{n}")) for n in range(150)]

    def upload() -> None:
        for form in forms:
            assert server.upload(form, token=server.first_token).status == 200

    upload()
    _lose_the_record(server)
    server.command("gc")
    _backdate_marks(server, timedelta(days=2))
    with going_on(threading.Thread(target=upload)):
        server.command("gc")
    assert set(server.files("demo")) == {form.filename for form in forms}
    assert all(server.download("demo", form.filename) == form.content for form in forms)
    assert "sound" in server.command("check")


def test_gc_removes_nothing_on_the_day_it_is_marked(server: Server) -> None:
    [filename] = publish(server, "1.0")
    _lose_the_record(server)
    blobs = set((server.data / "store").glob("private/blobs/*/*/*"))
    assert len(blobs) == 2
    for _ in range(2):
        server.command("gc")
    assert set((server.data / "store").glob("private/blobs/*/*/*")) == blobs
    _backdate_marks(server, timedelta(days=2))
    assert filename in server.command("gc", "--dry-run")
    assert set((server.data / "store").glob("private/blobs/*/*/*")) == blobs
    server.command("gc")
    assert set((server.data / "store").glob("private/blobs/*/*/*")) == set()


def _lose_the_record(server: Server) -> None:
    """Nothing names the bytes of demo any more. Behind the back of no running server, which may remember for a second."""
    server.stop()
    (server.data / "store" / "private" / "projects" / "demo.json").unlink()
    server.start()


def _backdate_marks(server: Server, by: timedelta) -> None:
    """As if the last `gc` had run so long ago."""
    marks = server.data / "store" / "gc" / "marks.json"
    then = f"{datetime.now(UTC) - by:%Y-%m-%dT%H:%M:%S.%fZ}"
    text, count = re.subn(r'("since": ?)"[^"]+"', rf'\1"{then}"', marks.read_text())
    assert count > 0, text
    marks.write_text(text)
