import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.errors import Invalid
from entrepot.wire.upload_form import MAX_FIELD_BYTES, MAX_FIELDS, Form, UploadForm, check_control, digests
from tests.wire.strategies import patient

BOUNDARY = b"b0undary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"

MD5, SHA256 = "0123456789abcdef" * 2, "0123456789abcdef" * 4


def part(disposition: str, value: bytes, *headers: str) -> bytes:
    lines = [f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return b"--" + BOUNDARY + b"\r\n" + "\r\n".join(lines).encode() + value + b"\r\n"


def text(name: str, value: str | bytes) -> bytes:
    return part(f'name="{name}"', value if isinstance(value, bytes) else value.encode())


def upload(content: bytes = b"PK", filename: str = "demo-1.0-py3-none-any.whl") -> bytes:
    return part(f'name="content"; filename="{filename}"', content, "Content-Type: application/octet-stream")


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def read(
    *chunks: bytes,
    content_type: str = CONTENT_TYPE,
    max_fields: int = MAX_FIELDS,
    max_field_bytes: int = MAX_FIELD_BYTES,
) -> tuple[bytes, UploadForm, Form]:
    reader = UploadForm(content_type, max_fields=max_fields, max_field_bytes=max_field_bytes)
    content = b"".join(piece for chunk in chunks for piece in reader.feed(chunk))
    return content, reader, reader.finish()


def fields(*parts: bytes) -> dict[str, list[str]]:
    _, _, form = read(body(*parts, upload()))
    return {name: list(values) for name, values in form.fields.items()}


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:stop] for start, stop in pairwise(ends)]


# Reading a form.


def test_a_form_is_read_into_the_file_and_the_fields() -> None:
    content, reader, form = read(
        body(
            text(":action", "file_upload"),
            text("name", "demo"),
            text("classifiers", "A :: B"),
            upload(b"PK\x03\x04\r\n\r\n--\x00"),
            text("classifiers", "C"),
        )
    )
    assert content == b"PK\x03\x04\r\n\r\n--\x00"
    assert reader.filename == "demo-1.0-py3-none-any.whl"
    assert form.one(":action") == "file_upload"
    assert form.one("name") == "demo"
    assert form.all("classifiers") == ("A :: B", "C")
    assert form.one("classifiers") == "A :: B"
    assert (form.one("version"), form.all("version")) == (None, ())


_TRICKY = st.sampled_from(
    [
        b"\r\n--",
        b"\r\n--" + BOUNDARY[:-1],
        b"\r\n--" + BOUNDARY[:3],
        b"--" + BOUNDARY,
        BOUNDARY,
        b"--",
        b"-",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\r\n",
        b"PK\x03\x04",
        b"\x00",
    ]
)
_contents = st.lists(_TRICKY | st.binary(max_size=5), max_size=12).map(b"".join)
_contents = _contents.filter(lambda content: b"\r\n--" + BOUNDARY not in b"\r\n" + content + b"\r\n")
_places = st.lists(st.integers(min_value=0, max_value=2000), max_size=30)
_values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@patient
@given(_contents, st.lists(_values, max_size=3), _places)
@example(b"", [], list(range(2000)))
@example(b"\r\n--" + BOUNDARY[:-1] + b"\r\n-", ["\r\n--"], list(range(2000)))
def test_any_split_into_chunks_gives_the_same_form(content: bytes, values: list[str], places: list[int]) -> None:
    whole = body(*(text("platform", value) for value in values), upload(content), text("summary", "after"))
    read_content, reader, form = read(*cut(whole, places))
    assert read_content == content
    assert reader.filename == "demo-1.0-py3-none-any.whl"
    assert form.all("platform") == tuple(v for v in values if v and v.strip() != "UNKNOWN")
    assert form.one("summary") == "after"


@pytest.mark.parametrize(
    "content", [b"", b"PK\r\n", b"\r\n--" + BOUNDARY[:-1] + b"\r", b"\r\n--" + BOUNDARY + b"-\r\r\n-"]
)
def test_a_form_cut_anywhere_gives_the_same_form(content: bytes) -> None:
    whole = body(text("name", "demo"), text("platform", ""), upload(content), text("summary", "a\r\n--b"))
    expected = outcome([whole])
    assert read(whole)[0] == content
    for place in range(len(whole)):
        assert outcome([whole[:place], whole[place:]]) == expected
        assert outcome([whole[:place], b"", whole[place : place + 1], whole[place + 1 :]]) == expected


@patient
@given(_places, st.sampled_from([b"x", b"-x", b"\rx", b"-\r\n", b"\r\r\n", b"\r-"]))
def test_a_line_that_only_begins_like_the_boundary_is_content(places: list[int], rest: bytes) -> None:
    # RFC 2046 forbids senders to let it come to that; it must be read the same way in any split all the same.
    content = b"a\r\n--" + BOUNDARY + rest + b"z"
    assert read(*cut(body(upload(content)), places))[0] == content


def outcome(chunks: Sequence[bytes]) -> object:
    try:
        content, reader, form = read(*chunks)
    except Invalid as error:
        return error.at, error.message, error.status
    return content, reader.filename, form


@patient
@given(st.binary(max_size=8), st.integers(min_value=0), st.integers(min_value=0), _places)
def test_a_damaged_form_has_one_outcome_however_it_is_split(
    damage: bytes, start: int, length: int, places: list[int]
) -> None:
    whole = body(text("name", "demo"), upload(b"PK\r\n--b"), text("version", "1.0"))
    start %= len(whole)
    damaged = whole[:start] + damage + whole[start + length % 8 :]
    assert outcome(cut(damaged, places)) == outcome([damaged])


@patient
@given(st.integers(min_value=0, max_value=10_000))
def test_a_form_cut_short_is_never_taken_for_whole(place: int) -> None:
    whole = body(text("name", "demo"), upload(b"PK"), text("version", "1.0"))
    end = len(whole) - len(b"\r\n")  # what follows the last boundary is nothing
    with pytest.raises(Invalid, match="the body ends before the form does"):
        read(whole[: place % end])


def test_memory_does_not_grow_with_the_file() -> None:
    chunk = bytes(range(256)) * 256
    reader = UploadForm(CONTENT_TYPE)
    tracemalloc.start()
    try:
        reader.feed(upload(b"").removesuffix(b"\r\n"))
        received = sum(len(piece) for _ in range(512) for piece in reader.feed(chunk))
        received += sum(map(len, reader.feed(b"\r\n--" + BOUNDARY + b"--\r\n")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received == 512 * len(chunk) == 32 << 20
    assert peak < 256 << 10
    reader.finish()


def test_the_file_is_handed_on_without_a_copy() -> None:
    reader = UploadForm(CONTENT_TYPE)
    reader.feed(upload(b"").removesuffix(b"\r\n"))
    chunk = b"x" * 1000
    (piece,) = reader.feed(chunk)
    assert piece is chunk


def test_an_ignored_file_is_not_kept() -> None:
    signature = part('name="gpg_signature"; filename="demo.asc"', b"x" * 5000)
    _, _, form = read(body(signature, upload()), max_field_bytes=1000)
    assert form.fields == {}


# Real encoders.


def test_the_form_of_twine_and_poetry_is_read() -> None:
    from requests_toolbelt import MultipartEncoder  # type: ignore[import-untyped]

    given = [
        ("name", "demo"),
        ("classifiers", "A"),
        ("classifiers", "ü"),
        ("content", ("demo-1.0.tar.gz", b"\x1f\x8b" * 999, "application/octet-stream")),
    ]
    encoder = MultipartEncoder(given)
    content, reader, form = read(*iter(lambda: encoder.read(97), b""), content_type=encoder.content_type)
    assert (content, reader.filename) == (b"\x1f\x8b" * 999, "demo-1.0.tar.gz")
    assert form.fields == {"name": ["demo"], "classifiers": ["A", "ü"]}


def test_the_form_of_hatch_is_read() -> None:
    import httpx

    request = httpx.Request(
        "POST",
        "https://index.example/legacy/",
        data={"name": "demo", "classifiers": ["A", "B"]},
        files={"content": ("demo-1.0+x.tar.gz", b"\x1f\x8b", "application/octet-stream")},
    )
    content, reader, form = read(request.read(), content_type=request.headers["content-type"])
    assert (content, reader.filename) == (b"\x1f\x8b", "demo-1.0+x.tar.gz")
    assert form.fields == {"name": ["demo"], "classifiers": ["A", "B"]}


# Values.


def test_empty_and_unknown_values_are_absent() -> None:
    given = [
        ("name", ""),
        ("summary", "UNKNOWN"),
        ("license", " UNKNOWN\n"),
        ("platform", "UNKNOWN"),
        ("platform", "x"),
    ]
    assert fields(*(text(*pair) for pair in given)) == {"platform": ["x"]}


def test_values_keep_their_spaces_and_lines() -> None:
    assert fields(text("description", " a\r\n\nb ")) == {"description": [" a\r\n\nb "]}


def test_nul_is_escaped() -> None:
    assert fields(text("summary", "a\x00b")) == {"summary": ["a\\x00b"]}


def test_text_must_be_utf_8() -> None:
    with pytest.raises(Invalid, match="author: is not UTF-8") as caught:
        read(body(text("author", b"J\xfcrgen")))
    assert caught.value.status == 400


@pytest.mark.parametrize("name", ["name", "version", ":action", "protocol_version", "sha256_digest", "filetype"])
def test_a_single_field_is_given_once(name: str) -> None:
    with pytest.raises(Invalid, match=f"{name}: may be given once, but was given 2 times"):
        read(body(text(name, "a"), text(name, "b"), upload()))


def test_every_repeated_field_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        read(body(*(text(name, value) for name in ("name", "version") for value in "ab"), upload()))
    assert [problem.at for problem in caught.value.problems] == ["name", "version"]


@pytest.mark.parametrize("name", ["classifiers", "requires_dist", "project_urls", "import_names", "something_new"])
def test_other_fields_may_be_repeated(name: str) -> None:
    assert fields(text(name, "a"), text(name, "b")) == {name: ["a", "b"]}


# The file.


def test_a_form_without_a_file_is_refused_in_pypis_words() -> None:
    with pytest.raises(Invalid, match=r"content: Upload payload does not have a file\."):
        read(body(text("name", "demo")))
    with pytest.raises(Invalid, match=r"Upload payload does not have a file\..*needs a filename"):
        read(body(text("content", "PK")))


def test_two_files_are_refused() -> None:
    with pytest.raises(Invalid, match="content: the form has two files"):
        read(body(upload(), upload()))


def test_an_image_is_no_distribution() -> None:
    image = part('name="content"; filename="demo-1.0.tar.gz"', b"GIF", "Content-Type: Image/GIF")
    with pytest.raises(Invalid, match="Invalid distribution file"):
        read(body(image))


def test_an_empty_file_is_a_file() -> None:
    content, reader, _ = read(body(upload(b"")))
    assert (content, reader.filename) == (b"", "demo-1.0-py3-none-any.whl")


def test_a_text_field_sent_as_a_file_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match=r"requires_dist: Should not be a tuple"):
        read(body(part('name="requires_dist"; filename="x"', b"a"), upload()))


def test_the_file_may_have_another_name() -> None:
    reader = UploadForm(CONTENT_TYPE, file_fields=frozenset({"content", "sdist"}))
    assert b"".join(reader.feed(body(part('name="sdist"; filename="demo-1.tar.gz"', b"x")))) == b"x"
    reader.finish()
    assert reader.filename == "demo-1.tar.gz"


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ('filename="demo-1.0.tar.gz"', "demo-1.0.tar.gz"),
        ("filename=demo-1.0.tar.gz", "demo-1.0.tar.gz"),
        ("FileName = demo-1.0.tar.gz ", "demo-1.0.tar.gz"),
        (r'filename="a\"b\\c"', r'a"b\c'),
        ('filename="a;b=c"', "a;b=c"),
        ('filename="demo-1.0%2Bx.tar.gz"', "demo-1.0+x.tar.gz"),
        ('filename="100%.whl"', "100%.whl"),
        ('filename="dömo.whl"', "dömo.whl"),
        ('filename="d%C3%B6mo.whl"', "dömo.whl"),
        ("filename=\"plain.whl\"; filename*=utf-8''other.whl", "plain.whl"),
        ("filename*=utf-8''other.whl; filename=\"plain.whl\"", "plain.whl"),
        ('filename="first.whl"; filename="second.whl"', "first.whl"),
        (r'filename="C:\dist\demo-1.0.whl"', r"C:\dist\demo-1.0.whl"),
        (r'filename="\\server\demo-1.0.whl"', r"\server\demo-1.0.whl"),
        ('filename="../../etc/passwd"', "../../etc/passwd"),
        ('filename="..%2Fx"', "../x"),
        ('filename=""', ""),
    ],
)
def test_filenames_come_through_as_they_were_meant(parameter: str, expected: str) -> None:
    # What is no filename of a distribution is refused by wire.filenames, not silently mended here.
    _, reader, _ = read(body(part(f'name="content"; {parameter}', b"x")))
    assert reader.filename == expected


def test_a_filename_is_not_known_before_its_part() -> None:
    reader = UploadForm(CONTENT_TYPE)
    reader.feed(text("name", "demo"))
    assert reader.filename is None
    assert reader.feed(upload())
    assert reader.filename == "demo-1.0-py3-none-any.whl"


# Malformed forms.


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/mixed; boundary=x",
        "application/x-www-form-urlencoded",
        "application/json; boundary=x",
        f"multipart/form-data; boundary={'x' * 300}",
        "multipart/form-data; boundary=\u2028",
    ],
)
def test_another_content_type_is_refused_by_name(content_type: str) -> None:
    with pytest.raises(Invalid, match="Content-Type: expected multipart/form-data with a boundary") as caught:
        UploadForm(content_type)
    assert repr(content_type) in caught.value.message


@pytest.mark.parametrize("content_type", ['Multipart/Form-Data; charset=utf-8; Boundary="b0undary"', CONTENT_TYPE])
def test_the_content_type_may_be_spelled_freely(content_type: str) -> None:
    assert read(body(upload(b"x")), content_type=content_type)[0] == b"x"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"garbage", "does not begin with its boundary"),
        (b"--other\r\n\r\n", "does not begin with its boundary"),
        (b" --b0undary\r\n", "does not begin with its boundary"),
        (b"--b0undary\n", "first line is not its boundary"),
        (b"--b0undary-\r\n", "first line is not its boundary"),
        (b"--b0undary" + b" " * 257, "more than spaces behind a boundary"),
        (body(upload()).replace(b"\r\n--b0undary--", b"\r\n--b0undary x"), "more than spaces behind a boundary"),
        (b"--b0undary\r\nNo colon\r\n\r\n", "this is no header: b'No colon'"),
        (b"--b0undary\r\nBad header: x\r\n\r\n", "this is no header"),
        (b"--b0undary\r\n: x\r\n\r\n", "this is no header"),
        (b"--b0undary\r\nX: x\r\n folded\r\n\r\n", "this is no header: b' folded'"),
        (b"--b0undary\r\nContent-Disposition: x\rx\r\n\r\n", "does not end in CR LF"),
        (b"--b0undary\r\nContent-Disposition: x\nX: x\r\n\r\n", "does not end in CR LF"),
        (b"--b0undary\r\nX: " + b"x" * 4094 + b"\r\n\r\n", "longer than 4096 bytes"),
        (b"--b0undary\r\n" + b"X: x\r\n" * 9 + b"\r\n", "more than 8 headers"),
        (b"--b0undary\r\nX: " + b"x" * 33_000, "headers are too long"),
        (b"--b0undary\r\n" + b"X: x\r\n" * 7_000, "headers are too long"),
    ],
)
def test_a_malformed_form_is_refused_before_it_is_complete(data: bytes, why: str) -> None:
    for chunks in ([data], cut(data, range(len(data)))):
        with pytest.raises(Invalid, match=f"the form is malformed: .*{why}"):
            fed(chunks)


def fed(chunks: Sequence[bytes]) -> None:
    """Of a body that has not ended yet."""
    reader = UploadForm(CONTENT_TYPE)
    for chunk in chunks:
        reader.feed(chunk)


def test_headers_may_be_as_long_as_the_limit() -> None:
    longest = [f"X-{number}: ".ljust(4096, "x") for number in range(7)]
    whole = body(part('name="content"; filename="x"', b"PK", *longest))
    assert read(whole)[0] == read(*cut(whole, range(len(whole))))[0] == b"PK"


def test_empty_lines_in_front_and_spaces_behind_a_boundary_say_nothing() -> None:
    whole = body(text("name", "demo"), upload())
    padded = b"\r\n\n" + whole.replace(BOUNDARY + b"\r\n", BOUNDARY + b" \t \r\n")
    assert outcome([padded]) == outcome(cut(padded, range(len(padded)))) == outcome([whole])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Content-Type: text/plain", "expected Content-Disposition: form-data"),
        ("Content-Disposition: attachment; name=x", "expected Content-Disposition: form-data"),
        ("Content-Disposition: form-datax; name=x", "expected Content-Disposition: form-data"),
        ("Content-Disposition: form-data", "has no name"),
        ("Content-Disposition: form-data; filename=x", "has no name"),
        ('Content-Disposition: form-data; name="x', "is malformed"),
        ("Content-Disposition: form-data; name", "is malformed"),
        ('Content-Disposition: form-data; name="x" y', "is malformed"),
        ("Content-Disposition: form-data; name=x\r\nContent-Transfer-Encoding: base64", "x: the transfer encoding"),
    ],
)
def test_a_part_that_cannot_be_told_is_refused(headers: str, expected: str) -> None:
    with pytest.raises(Invalid, match=expected):
        read(b"--" + BOUNDARY + b"\r\n" + headers.encode() + b"\r\n\r\nx\r\n--" + BOUNDARY + b"--\r\n")


def test_part_headers_must_be_utf_8() -> None:
    broken = body(upload(filename="x")).replace(b'"x"', b'"\xff"')
    with pytest.raises(Invalid, match=r"part 1: .*the Content-Disposition is not UTF-8"):
        read(broken)
    with pytest.raises(Invalid, match="content: the filename '%FF' is not UTF-8"):
        read(body(upload(filename="%FF")))


def test_an_empty_body_and_an_empty_form_are_refused() -> None:
    with pytest.raises(Invalid, match="the body ends before the form does"):
        read(b"")
    with pytest.raises(Invalid, match="does not have a file"):
        read(body())


def test_what_follows_the_form_is_ignored() -> None:
    assert read(body(upload(b"x")), b"epilogue", text("name", "late"))[0] == b"x"


# Limits.


def test_too_many_fields_are_too_large() -> None:
    parts = [text("classifiers", "x")] * 9
    assert read(body(*parts, upload()), max_fields=10)
    with pytest.raises(Invalid, match="more than 9 fields") as caught:
        read(body(*parts, upload()), max_fields=9)
    assert caught.value.status == 413


def test_too_much_text_is_too_large_before_it_has_all_arrived() -> None:
    reader = UploadForm(CONTENT_TYPE, max_field_bytes=1000)
    reader.feed(part('name="description"', b"x" * 500).removesuffix(b"\r\n"))
    with pytest.raises(Invalid, match="description: the text fields are larger than 1000 bytes") as caught:
        reader.feed(b"x" * 600)
    assert caught.value.status == 413


def test_the_text_of_all_fields_counts_together_and_the_file_does_not() -> None:
    assert read(body(text("summary", "x" * 400), upload(b"x" * 5000)), max_field_bytes=500)
    with pytest.raises(Invalid, match="larger than 500 bytes"):
        read(body(text("summary", "x" * 300), text("author", "x" * 300), upload()), max_field_bytes=500)


# Digests.


def form(**given: str) -> Form:
    return Form({name: [value] for name, value in given.items()})


def test_digests_are_lower_case_by_the_name_of_their_hash() -> None:
    given = form(md5_digest=MD5.upper(), sha256_digest=SHA256.upper(), blake2_256_digest=SHA256)
    assert digests(given) == {"md5": MD5, "sha256": SHA256, "blake2b_256": SHA256}


@pytest.mark.parametrize("given", ["-_8BI0VniavN7_4BI0VniQ", "-_8BI0VniavN7_4BI0VniQ==", "+/8BI0VniavN7/4BI0VniQ=="])
def test_md5_may_be_base64_as_pypi_documents_it(given: str) -> None:
    assert digests(form(md5_digest=given)) == {"md5": "fbff012345678" + "9abcdeffe0123456789"}


def test_a_form_without_digests_is_refused_in_pypis_words() -> None:
    with pytest.raises(Invalid, match=r"Include at least one message digest\."):
        digests(form(name="demo"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("md5_digest", SHA256),
        ("md5_digest", MD5[:-1]),
        ("md5_digest", "!" * 22),
        ("sha256_digest", MD5),
        ("sha256_digest", SHA256 + "\n"),
        ("sha256_digest", "g" * 64),
        ("blake2_256_digest", f"sha256={SHA256}"),
    ],
)
def test_a_malformed_digest_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(Invalid, match=f"{field}: expected .* hexadecimal digits"):
        digests(form(**{field: value}))


def test_every_malformed_digest_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        digests(form(md5_digest="x", sha256_digest="y", blake2_256_digest=SHA256))
    assert [problem.at for problem in caught.value.problems] == ["md5_digest", "sha256_digest"]


# Control fields.

GOOD = {":action": "file_upload", "protocol_version": "1", "filetype": "sdist"}


def problems(*, action: str | None = None, **changes: str | None) -> Iterator[str]:
    given = GOOD | {name.replace("action_", ":action"): value for name, value in changes.items()}
    kept = {name: [value] for name, value in given.items() if value is not None}
    return map(str, check_control(Form(kept), action=action))


def test_a_good_form_has_no_problems() -> None:
    assert not list(problems())
    assert not list(problems(filetype="bdist_wheel", protocol_version=None))


def test_the_action_may_stand_in_the_query() -> None:
    assert not list(problems(action_=None, action="file_upload"))
    assert list(problems(action_=None, action="submit"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"action_": None}, ":action: must be file_upload; it is missing"),
        ({"action_": "doc_upload"}, ":action: must be file_upload; not 'doc_upload'"),
        (
            {"action_": "submit"},
            ":action: must be file_upload; not 'submit' (projects need no registration: upload the first file)",
        ),
        ({"protocol_version": "2"}, "protocol_version: Unknown protocol version. (it must be 1)"),
        ({"filetype": None}, "filetype: must be one of sdist, bdist_wheel; it is missing"),
        ({"filetype": "bdist_egg"}, "filetype: must be one of sdist, bdist_wheel; not 'bdist_egg'"),
    ],
)
def test_each_fault_is_named(changes: dict[str, str | None], expected: str) -> None:
    assert list(problems(**changes)) == [expected]


def test_all_faults_are_named_together() -> None:
    assert [problem.at for problem in check_control(form(protocol_version="3"))] == [
        ":action",
        "protocol_version",
        "filetype",
    ]


def test_attestations_are_accepted_and_ignored() -> None:
    assert not list(problems(attestations="[]"))
