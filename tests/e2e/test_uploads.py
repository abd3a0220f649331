"""Uploads by hand: in every shape that HTTP allows, and in some that it does not."""

import hashlib
import os
import threading

import pytest

from tests.distributions.build import sdist_bytes, sdist_filename, wheel_bytes, wheel_filename, wheel_members, zip_bytes
from tests.e2e import raw
from tests.e2e.processes import until
from tests.e2e.raw import Form
from tests.e2e.servers import Server, Servers


def demo(release: str = "1.0", **fields: str) -> Form:
    return Form(wheel_filename("demo", release), wheel_bytes("demo", release), **fields)


def large() -> Form:
    noise = os.urandom(4 << 20)
    return Form(wheel_filename("large"), zip_bytes(wheel_members("large", files={"noise.bin": noise})))


def unannounced(form: Form, token: str) -> dict[str, str]:
    """Headers for a body of unknown length, which http.client then sends in chunks."""
    return {"Content-Type": form.headers["Content-Type"], "Authorization": raw.basic(token)}


def test_a_body_without_an_announced_length_is_taken(server: Server) -> None:
    form = large()
    answer = server.ask("POST", "/legacy/", unannounced(form, server.first_token), form.body())
    assert answer.status == 200, answer
    assert server.download("large", form.filename) == form.content


def test_the_limit_holds_without_an_announced_length(serve: Servers) -> None:
    server = serve(config='[server]\nmax-upload = "1 MiB"\n')
    form = large()
    answer = server.ask("POST", "/legacy/", unannounced(form, server.first_token), form.body())
    assert answer.status == 413
    assert "1 MiB" in answer.text
    assert server.files("large") == {}
    until(lambda: server.staged() == 0, what="an empty staging folder")


def test_a_body_without_an_announced_length_that_is_cut_is_not_taken(server: Server) -> None:
    form = large()
    headers = {**unannounced(form, server.first_token), "Transfer-Encoding": "chunked"}
    connection = server.connect()
    connection.putrequest("POST", "/legacy/")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    half = b"".join(form.body())[: 3 << 20]
    connection.send(b"%x\r\n%s\r\n" % (len(half), half))
    until(lambda: server.staged() > 0, what="the first pieces on the disk")
    connection.close()
    until(lambda: server.staged() == 0, what="an empty staging folder")
    assert server.files("large") == {}


def test_more_uploads_at_once_than_there_are_places_all_succeed(server: Server) -> None:
    forms = [demo(f"1.{number}") for number in range(48)]
    statuses: list[int] = []
    token = server.first_token  # used for the first time by all of them at once
    threads = [
        threading.Thread(target=lambda form=form: statuses.append(server.upload(form, token=token).status))
        for form in forms
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * len(forms)
    assert set(server.files("demo")) == {form.filename for form in forms}


def test_the_same_file_from_many_at_once_is_published_once(serve: Servers) -> None:
    server, form = serve(workers=2), demo()
    statuses: list[int] = []
    token = server.first_token
    threads = [
        threading.Thread(target=lambda: statuses.append(server.upload(form, token=token).status)) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 16
    assert list(server.files("demo")) == [form.filename]


def test_of_different_bytes_under_one_name_one_wins(serve: Servers) -> None:
    server = serve(workers=2)
    forms = [
        Form(wheel_filename("demo"), wheel_bytes("demo", files={"demo.py": b"number = %d\n" % number}))
        for number in range(16)
    ]
    statuses: dict[int, int] = {}
    token = server.first_token

    def upload(number: int) -> None:
        statuses[number] = server.upload(forms[number], token=token).status

    threads = [threading.Thread(target=upload, args=[number]) for number in range(len(forms))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses.values()) == [200] + [409] * 15
    [winner] = [number for number, status in statuses.items() if status == 200]
    assert server.download("demo", forms[winner].filename) == forms[winner].content
    assert "sound" in server.command("check")


def test_a_connection_is_good_for_the_next_request_after_a_refusal(steady: Server) -> None:
    connection = steady.connect()
    try:
        for _ in range(3):
            form = demo()
            headers = {**form.headers, "Authorization": raw.basic("entrepot_0123456789ab_wrong")}
            connection.request("POST", "/legacy/", b"".join(form.body()), headers)
            assert raw.answer_of(connection.getresponse()).status == 401
            connection.request("GET", "/health")
            assert raw.answer_of(connection.getresponse()).text == "alive\n"
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sha256_digest": "0" * 64}, "digest"),
        ({"sha256_digest": "nonsense"}, "digest"),
        ({"sha256_digest": ""}, "digest"),
        ({"protocol_version": "7"}, "protocol"),
        ({":action": "submit"}, "action"),
        ({"filetype": "sdist"}, "filetype"),
        ({"name": "other"}, "name"),
        ({"version": "2.0"}, "version"),
    ],
    ids=lambda value: "=".join(*value.items()) if isinstance(value, dict) else None,
)
def test_a_form_that_does_not_fit_its_file_is_refused_and_named(
    steady: Server, fields: dict[str, str], says: str
) -> None:
    answer = steady.upload(demo(**fields), token=steady.first_token)
    assert answer.status == 400, answer
    assert says in answer.text.lower()
    assert answer.headers["content-type"].startswith("text/plain")
    assert steady.files("demo") == {}


@pytest.mark.parametrize("how", ["one MiB of noise", "nothing", "only the head", "no boundary", "a text", "a picture"])
def test_a_body_that_is_no_upload_is_refused_and_never_a_fault_of_the_server(steady: Server, how: str) -> None:
    form = demo()
    body = {
        "one MiB of noise": os.urandom(1 << 20),
        "nothing": b"",
        "only the head": form.head,
        "no boundary": b"".join(form.body()),
        "a text": b"name=demo&version=1.0&:action=file_upload",
        "a picture": b"".join(form.body()),
    }[how]
    types = {"no boundary": "multipart/form-data", "a picture": "image/png"}
    headers = {
        "Content-Type": types.get(how, form.headers["Content-Type"]),
        "Content-Length": str(len(body)),
        "Authorization": raw.basic(steady.first_token),
    }
    answer = steady.ask("POST", "/legacy/", headers, body)
    assert answer.status == 400, answer
    assert answer.text.strip()
    assert steady.files("demo") == {}
    assert steady.staged() == 0


def test_every_spelling_of_the_upload_address_works(server: Server) -> None:
    form = Form(sdist_filename(), sdist_bytes())
    headers = {**form.headers, "Authorization": raw.basic(server.first_token)}
    for path in ("/legacy", "/legacy/", "/root/legacy", "/root/legacy/", "/private/legacy", "/private/legacy/"):
        assert server.ask("POST", path, headers, form.body()).status == 200, path
    assert server.files("demo") == {form.filename: hashlib.sha256(sdist_bytes()).hexdigest()}
