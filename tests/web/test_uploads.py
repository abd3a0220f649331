"""Uploads: every answer that a client may get."""

import hashlib

import pytest

from entrepot.distributions import DEFAULT
from tests.distributions import hostile_sdists, hostile_wheels, hostile_zips
from tests.e2e.raw import Form, basic
from tests.web.fronts import File, Front, fresh, sdist, wheel

MULTIPART = "multipart/form-data; boundary=b"


def test_a_wheel_and_an_sdist_are_published(front: Front) -> None:
    name = fresh()
    for file in (wheel(name), sdist(name)):
        answer = front.upload(file.form())
        assert (answer.status, answer.text) == (200, f"Published: {file.filename}\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert front.filenames(name) == [wheel(name).filename, sdist(name).filename]
    assert front.staging == []


@pytest.mark.parametrize("target", ["/legacy/", "/legacy", "/private/legacy/", "/root/legacy", "/mixed/legacy/"])
def test_every_address_of_the_index_takes_it(front: Front, target: str) -> None:
    name = fresh()
    form = wheel(name).form()
    headers = {**form.headers, "Authorization": basic(front.uploader)}
    assert front.ask("POST", target, headers, b"".join(form.body())).status == 200


def test_the_same_bytes_again_are_200(front: Front) -> None:
    file = wheel(fresh())
    front.publish(file)
    answer = front.upload(file.form())
    assert (answer.status, answer.text) == (200, f"Already here, with the same bytes: {file.filename}\n")


@pytest.mark.parametrize("accept", ["*/*", "application/json;q=0.9, text/plain;q=0.8, text/html;q=0.7"])
def test_other_bytes_under_the_name_are_409_in_the_words_that_clients_know(front: Front, accept: str) -> None:
    name = fresh()
    first, second = wheel(name), wheel(name, files={"more.py": b"more"})
    front.publish(first)
    answer = front.upload(second.form(), headers={"Accept": accept})
    assert answer.status == 409
    assert answer.text.startswith("File already exists (")
    # uv leaves out its own check of an existing file for a problem document (standards §2.7).
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert front.get(f"/files/{name}/{first.filename}").body == first.data


def test_the_name_of_a_deleted_file_is_409(front: Front) -> None:
    name = fresh()
    file = wheel(name)
    front.publish(file)
    front.delete(name, file.filename)
    answer = front.upload(wheel(name, files={"more.py": b"more"}).form())
    assert answer.status == 409
    assert "was deleted" in answer.text


@pytest.mark.parametrize("status", ["archived", "quarantined"])
def test_a_closed_project_takes_no_files(front: Front, status: str) -> None:
    name = fresh()
    front.publish(wheel(name))
    front.mark(name, status)  # type: ignore[arg-type]
    answer = front.upload(wheel(name, "2.0").form())
    assert answer.status == 403
    assert status in answer.text


def test_the_page_says_who_published(front: Front) -> None:
    name = fresh()
    token = front.token("upload", name="release-robot")
    assert front.upload(wheel(name).form(), token=token).status == 200
    record = (front.settings.store_folder / "private" / "projects" / f"{name}.json").read_text()
    assert '"by":"release-robot"' in record
    assert token not in record


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("target", ["/legacy/", "/legacy", "/private/legacy/"])
def test_only_post_uploads(front: Front, method: str, target: str) -> None:
    answer = front.ask(method, target)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b"hello"),
        ("text/plain", b"hello"),
        ("application/x-www-form-urlencoded", b"%3Aaction=file_upload"),
        ("multipart/form-data", b"--b--\r\n"),
        ("multipart/form-data; boundary=", b"--b--\r\n"),
        ("multipart/form-data; boundary=" + "b" * 500, b"hello"),
        ("multipart/mixed; boundary=b", b"--b--\r\n"),
        (MULTIPART, b""),
        (MULTIPART, b"hello"),
        (MULTIPART, b"--b--\r\n"),
        (MULTIPART, b"--b\r\n\r\nhello\r\n--b--\r\n"),
        (MULTIPART, b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nhello\r\n'),
        (MULTIPART, b'--b\r\nContent-Disposition: form-data; name="content"\r\n\r\nhello\r\n--b--\r\n'),
        (MULTIPART, b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nhello\r\n--b--\r\n'),
        (MULTIPART, b"--b\r\n" + b"A" * 100_000 + b": b\r\n\r\nhello\r\n--b--\r\n"),
    ],
)
def test_what_is_no_form_with_a_file_is_400(front: Front, content_type: str, body: bytes) -> None:
    headers = {"Authorization": basic(front.uploader), "Content-Type": content_type}
    answer = front.ask("POST", "/legacy/", headers, body)
    assert answer.status == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert front.staging == []


@pytest.mark.parametrize("left_out", [1, 4, 40, 400, 1200])
def test_a_body_that_ends_early_publishes_nothing(front: Front, left_out: int) -> None:
    name = fresh()
    form = wheel(name).form()
    headers = {"Content-Type": form.headers["Content-Type"], "Authorization": basic(front.uploader)}
    body = b"".join(form.body())[:-left_out]
    answer = front.ask("POST", "/legacy/", headers, body)
    if left_out == 1:  # a part of the line break behind the last boundary, which need not be there
        assert answer.status == 200
        return
    assert answer.status == 400
    assert "ends before the form does" in answer.text
    assert front.filenames(name) == []
    assert front.staging == []


@pytest.mark.parametrize("field", ["sha256_digest", "blake2_256_digest", "md5_digest"])
def test_a_digest_that_does_not_match_is_400(front: Front, field: str) -> None:
    name = fresh()
    wrong = hashlib.sha256(b"other").hexdigest()[: 32 if field == "md5_digest" else 64]
    answer = front.upload(wheel(name).form(**{field: wrong}))
    assert answer.status == 400
    assert "The digest supplied does not match a digest calculated from the uploaded file." in answer.text
    assert wrong in answer.text
    assert front.filenames(name) == []
    assert front.staging == []


def test_an_upload_without_any_digest_is_400(front: Front) -> None:
    answer = front.upload(wheel(fresh()).form(sha256_digest=""))
    assert (answer.status, "Include at least one message digest." in answer.text) == (400, True)


def test_all_faults_are_named_at_once_each_on_its_line(front: Front) -> None:
    name = fresh()
    form = wheel(name).form(
        sha256_digest=hashlib.sha256(b"other").hexdigest(), protocol_version="7", name="somebody-else", version="9"
    )
    answer = front.upload(form)
    assert answer.status == 400
    heading, *lines = answer.text.splitlines()
    assert heading == f"{wheel(name).filename} has {len(lines)} problems:"
    assert len(lines) == 4
    assert all(line.startswith("- ") for line in lines)
    for word in ("digest", "protocol version", "somebody-else", "9"):
        assert any(word in line for line in lines), word


def test_the_action_may_stand_in_the_query(front: Front) -> None:
    without = wheel(fresh()).form(**{":action": ""})
    assert front.upload(without).status == 400
    assert front.upload(without, query="?:action=file_upload").status == 200
    assert front.upload(wheel(fresh()).form(**{":action": ""}), query="?%3Aaction=submit").status == 400


@pytest.mark.parametrize(
    "filename",
    [
        "../../demo-1.0-py3-none-any.whl",
        "..%2F..%2Fdemo-1.0-py3-none-any.whl",
        "/etc/passwd",
        "demo-1.0-py3-none-any.whl%00.txt",
        "C:\\demo-1.0-py3-none-any.whl",
        "demo-1.0.exe",
        "demo.whl",
        "",
        "%",
        "demo-1.0-py3-none-any.whl" + "a" * 300,
        f"{'a' * 400}-1.0-py3-none-any.whl",
        "Demo-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-any.whl\n",
        "%0d%0aSet-Cookie: x-1.0-py3-none-any.whl",
        "<script>-1.0-py3-none-any.whl",
        "demo-1.0.tar.gz",  # the form says that it is a wheel
        f"demo-{'9' * 5000}-py3-none-any.whl",
    ],
)
def test_a_filename_that_is_none_is_400_and_never_500(front: Front, filename: str) -> None:
    file = wheel("demo")
    body = b"".join(file.form().body()).replace(
        f'filename="{file.filename}"'.encode(), f'filename="{filename}"'.encode()
    )
    headers = {"Content-Type": "", "Authorization": basic(front.uploader)}
    boundary = body.split(b"\r\n", 1)[0][2:].decode()
    headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
    answer = front.ask("POST", "/legacy/", headers, body)
    assert answer.status == 400
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers
    assert front.staging == []


def test_a_hostile_archive_is_400_and_never_500(asgi: Front, process: Front) -> None:
    """The corpus has tests of its own; here all of it goes through a server, if it is small."""
    cases = [*hostile_zips.CASES, *hostile_wheels.CASES, *hostile_sdists.CASES]
    for number, case in enumerate(case for case in cases if len(case.data) < 500_000 and case.limits == DEFAULT):
        front = (asgi, process)[number % 2]
        answer = front.upload(Form(case.filename, case.data))
        assert answer.status == 400, (case.what, answer)
        assert "Traceback" not in answer.text
    assert asgi.staging == process.staging == []


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"\x1f\x8b\x08", bytes(100_000), b"\xff" * 999]
)
def test_bytes_that_are_no_archive_are_400(front: Front, data: bytes) -> None:
    name = fresh()
    for file in (wheel(name), sdist(name)):
        answer = front.upload(File(file.filename, data).form())
        assert answer.status == 400
        assert answer.text.count("\n") == 1
    assert front.filenames(name) == []


def test_attestations_and_signatures_are_ignored(front: Front) -> None:
    assert front.upload(wheel(fresh()).form(attestations='[{"version": 1}]')).status == 200


@pytest.mark.parametrize("index", ["/wheels", "/readers"])
def test_an_index_without_a_hosted_one_behind_it_takes_no_uploads(front: Front, index: str) -> None:
    answer = front.upload(wheel(fresh()).form(), index=index)
    assert answer.status == 403
    assert "takes no uploads" in answer.text


def test_an_unknown_index_is_404(front: Front) -> None:
    assert front.upload(wheel(fresh()).form(), index="/nowhere").status == 404


def test_a_rebuilt_page_is_there_at_once(front: Front) -> None:
    name = fresh()
    for number in range(1, 6):
        front.publish(wheel(name, f"{number}.0"))
        assert len(front.filenames(name)) == number
