"""The access log: one line for each request, whatever becomes of it, and nothing in it that anybody else wrote."""

import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.web.access_log import AccessLog, Line, as_json, as_text
from tests.e2e.processes import until
from tests.e2e.raw import basic
from tests.web.conftest import TRUSTED, Fronts
from tests.web.fronts import JSON, Driver, Front, fresh, wheel


def test_every_request_has_one_line_with_what_was_sent(front: Front) -> None:
    name = fresh()
    file = wheel(name)
    front.publish(file)
    page, download = f"/simple/{name}/", f"/files/{name}/{file.filename}"
    token = {"Authorization": basic(front.uploader)}
    etag = front.get(page).headers["etag"]
    requests: list[tuple[str, str, dict[str, str]]] = [
        ("GET", page, {}),
        ("GET", page, {}),
        ("GET", page, {"If-None-Match": etag}),
        ("HEAD", page, {}),
        ("GET", page, {"Accept": "image/png"}),
        ("GET", f"{page}?x=1", {}),
        ("POST", page, {}),
        ("POST", page, {"Origin": "x"}),
        ("GET", page, {"Host": "evil.example"}),
        ("HEAD", page, {"Host": "evil.example"}),
        ("GET", page[:-1], {}),
        ("GET", download, {}),
        ("GET", download, token),
        ("HEAD", download, {}),
        ("GET", download, {"Range": "bytes=1-9"}),
        ("GET", download, {"Range": "bytes=999999-"}),
        ("GET", f"{download}.metadata", {}),
        ("GET", f"/pypi/{name}/json", token),
        ("GET", f"/nowhere/{name}", {}),
        ("HEAD", f"/nowhere/{name}", {}),
        ("GET", f"/secret/simple/{name}/", {}),
        ("GET", f"/secret/simple/{name}/", token),
        ("GET", page, {"Authorization": basic("entrepot_0_0")}),
    ]
    marked = [(method, target, {**headers, "User-Agent": fresh("agent")}) for method, target, headers in requests]
    answers = [front.ask(*asked) for asked in marked]
    lines = {line["agent"]: line for line in front.lines() if line["agent"].startswith("agent")}
    for (method, target, headers), answer in zip(marked, answers, strict=True):
        line = lines[headers["User-Agent"]]
        assert (line["method"], line["path"], line["status"]) == (method, target.partition("?")[0], answer.status)
        assert line["bytes"] == len(answer.body), line
        assert line["client"] == "127.0.0.1"
        assert 0 <= line["ms"] < 10_000
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        known = headers.get("Authorization") == token["Authorization"]
        assert line["token"] == (front.uploader.split("_")[1] if known else ""), line
    every = [line for line in front.lines() if line["agent"] in lines]
    assert len(every) == len(marked)


def test_what_a_server_sends_by_path_is_counted(every: Fronts) -> None:
    front = every.main("asgi-paths")
    name = fresh()
    file = wheel(name)
    front.publish(file)
    target = f"/files/{name}/{file.filename}"
    for _ in range(2):  # through the app, and then by the hot path
        assert front.get(target).body == file.data
    assert [line["bytes"] for line in front.lines(target)] == [len(file.data)] * 2


def test_an_upload_is_logged_with_the_id_of_its_token(front: Front) -> None:
    agent = fresh("agent")
    token = front.token("upload")
    assert front.upload(wheel(fresh()).form(), token=token, headers={"User-Agent": agent}).status == 200
    [line] = [line for line in front.lines("/legacy/") if line["agent"] == agent]
    assert (line["method"], line["status"], line["token"]) == ("POST", 200, token.split("_")[1])


def test_no_secret_is_ever_written(front: Front) -> None:
    token = front.token("upload")
    secret = token.split("_", 2)[2]
    wrong = f"entrepot_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
    name = fresh()
    for used in (token, wrong):
        for headers in ({"Authorization": basic(used)}, {"Authorization": f"Bearer {used}"}):
            front.upload(wheel(name).form(), token="", headers=headers)
            for target in ("/simple/", f"/simple/{name}/", f"/simple/?token={used}", "/secret/simple/", "/nowhere"):
                front.get(target, headers)
    front.lines()
    written = b"".join(path.read_bytes() for path in _outputs(front))
    for hidden in (secret, wrong.split("_", 2)[2], basic(token).split()[1], basic(wrong).split()[1]):
        assert hidden.encode() not in written


def _outputs(front: Front) -> Iterator[Path]:
    """Where this server writes."""
    yield from (path for path in front.data.parent.rglob("*") if path.name in {"log", "stdout", "stderr"})


FORGED = '{"time":"2026-01-01T00:00:00.000Z","client":"6.6.6.6"}'


TRICKS = (
    "%0a", "%0d%0a", "%c2%85", "%e2%80%a8", "%e2%80%a9", "%0b", "%0c", "%1c", "%1e", "%00", "%1b[2J", "%c2%9b31m", "%7f",
    "%22%7d%0a", "%5c%22", "%e2%80%ae", "%ff%fe", "%f0%9f%98%80",
)  # fmt: skip


def test_a_path_cannot_forge_lines(front: Front) -> None:
    encoded = "".join(f"%{ord(letter):02x}" for letter in FORGED)
    tried = [(trick, fresh("begin"), fresh("end")) for trick in TRICKS]
    for trick, begin, end in tried:
        front.ask("GET", f"/{begin}{trick}{encoded}{trick}{end}")
    front.lines()
    [log] = [path for path in _outputs(front) if path.name in {"log", "stdout"}]
    # By every notion of a line that a reader might have.
    for lines in (log.read_text().splitlines(), log.read_bytes().split(b"\n"), log.read_bytes().splitlines()):
        texts = list(map(_text, lines))
        for trick, begin, end in tried:
            [found] = [line for line in texts if begin in line]
            assert end in found, trick
            assert json.loads(found)["client"] == "127.0.0.1"
            assert found.isascii()
            assert not any(ord(letter) < 32 for letter in found)


def _text(line: str | bytes) -> str:
    return line if isinstance(line, str) else line.decode()


def test_a_long_path_and_a_long_agent_are_cut(front: Front) -> None:
    """So that lines of several workers do not mix in a pipe, and those that wait take little memory."""
    mark = fresh("long")
    for filling in ("a", "%00", "%22", "%e2%80%a6"):
        front.ask("GET", f"/{mark}{filling * 1_000}", {"User-Agent": 'pip/26 {"x": "' + "y" * 50_000})
    front.lines()
    [log] = [path for path in _outputs(front) if path.name in {"log", "stdout"}]
    found = [line for line in log.read_bytes().split(b"\n") if mark.encode() in line]
    assert len(found) == 4
    assert all(len(line) < 4096 for line in found)
    assert all(json.loads(line)["agent"].startswith("pip/26") for line in found)


FORWARDED = [
    (["10.1.2.3"], "10.1.2.3"),
    (["6.6.6.6, 10.1.2.3"], "10.1.2.3"),  # only the last one was written by our proxy
    (["6.6.6.6", "10.1.2.3"], "10.1.2.3"),  # HAProxy appends a line of its own
    ([f"6.6.6.6, 10.1.2.3, {TRUSTED}"], "10.1.2.3"),
    ([TRUSTED], TRUSTED),
    (["2001:db8::1"], "2001:db8::1"),
    (["unknown"], TRUSTED),
    (["10.1.2.3, _hidden"], TRUSTED),
    ([""], TRUSTED),
    (["\x9b31m"], TRUSTED),
    (["10.1.2.3, <script>"], TRUSTED),
]


def test_the_client_is_whom_a_trusted_proxy_names(front: Front) -> None:
    asked = [(f"/{fresh('forwarded')}", [("X-Forwarded-For", line) for line in lines]) for lines, _ in FORWARDED]
    for path, headers in asked:
        front.ask("GET", path, headers, peer=TRUSTED)
        front.ask("GET", path, headers, peer="127.0.0.1")
    logged = front.lines()
    for (path, headers), (_, client) in zip(asked, FORWARDED, strict=True):
        assert [line["client"] for line in logged if line["path"] == path] == [client, "127.0.0.1"], headers


# The writer itself.

LINE: Line = (0.0, "10.0.0.1", "GET", "/simple/demo/", 200, 17, 0.0012, "ab12", "pip/26")


def test_a_line_for_people_says_what_matters() -> None:
    shown = as_text(LINE).decode()
    assert re.fullmatch(r"\d\d:\d\d:\d\d 10\.0\.0\.1 GET /simple/demo/ 200 17B 1\.2ms token=ab12\n", shown)


@given(st.text(max_size=40))
def test_no_path_makes_two_lines_or_moves_the_cursor(path: str) -> None:
    line: Line = (0.0, "10.0.0.1", "GET", f"/{path}", 200, 17, 0.0, "", None)
    try:
        path.encode()
    except UnicodeEncodeError:  # no server gives that
        return
    text, coded = as_text(line).decode(), as_json(line).decode()
    for written in (text, coded):
        assert written.endswith("\n")
        assert len(written.splitlines()) == 1
    assert all(letter.isprintable() for letter in text[:-1])
    assert json.loads(coded)["path"] == f"/{path}"
    assert text.split(" ")[:3][1:] == ["10.0.0.1", "GET"]


def test_what_is_no_request_has_a_line_as_well(front: Front) -> None:
    if isinstance(front.ask, Driver):
        return  # other servers refuse it before we see it
    with socket.create_connection(("127.0.0.1", front.process.options.port), timeout=10) as client:
        client.sendall(b"GET /no such HTTP/1.1\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert ("-", "-", 400) in [(line["method"], line["path"], line["status"]) for line in front.lines()]


@pytest.mark.parametrize("path", ["/a 200 5B 0.1ms token=root", "/x y", "/\x1b[31m", "/\u202e"])
def test_a_path_for_people_cannot_pass_for_other_fields(path: str) -> None:
    shown = as_text((0.0, "10.0.0.1", "GET", path, 404, 0, 0.0, "", None)).decode()
    assert f"GET {path!r} 404 0B" in shown


def test_what_no_reader_takes_is_dropped_and_counted() -> None:
    read, write = os.pipe()
    log = AccessLog(write, as_json)
    for _ in range(60_000):
        log.add(LINE)
    log.start()
    received = bytearray()
    reader = threading.Thread(target=_read_all, args=(read, received))
    reader.start()
    until(lambda: b"dropped-lines" in received, what="the rest")
    log.stop()
    os.close(write)
    reader.join(10)
    os.close(read)
    lines = [json.loads(line) for line in received.splitlines()]
    [dropped] = [line["dropped-lines"] for line in lines if "dropped-lines" in line]
    assert dropped == 10_000
    assert len(lines) == 50_001


def _read_all(fd: int, into: bytearray) -> None:
    while piece := os.read(fd, 1 << 20):
        into += piece


def test_json_is_what_clients_of_the_log_rely_on(asgi: Front) -> None:
    mark = f"/{fresh('keys')}"
    asgi.get(mark, {"Accept": JSON})
    [line] = asgi.lines(mark)
    assert list(line) == ["time", "client", "method", "path", "status", "bytes", "ms", "token", "agent"]
