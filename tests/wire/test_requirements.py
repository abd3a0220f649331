"""What requirements files and locks ask for, in the grammar of the command and in that of HTTP."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from entrepot.errors import EntrepotError, Invalid, NotFound
from entrepot.model import normalise
from entrepot.wire import locks
from entrepot.wire.requirements import Asked, Wanted, narrowed, parse_file, parse_lines
from tests.wire.strategies import patient

A, B = "a" * 64, "b" * 64


def only(asked: Asked) -> Wanted:
    assert asked.refused == ()
    (wanted,) = asked.wanted
    return wanted


def texts(asked: Asked) -> tuple[list[str], list[str]]:
    return [one.text for one in asked.wanted], [line.text for line in asked.refused]


def reading(files: Mapping[str, str]) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        if path not in files:
            raise NotFound("cannot be read", at=path)
        return files[path].encode()

    return read


def of_files(path: str = "r.txt", *, environ: Mapping[str, str] | None = None, **files: str) -> Asked:
    """Keywords are the files, with "_" for "/" and without ".txt"."""
    named = {f"{name.replace('_', '/')}.txt": text for name, text in files.items()}
    return parse_file(path, reading(named), environ=environ)


# Requirements, in both grammars.


@pytest.mark.parametrize("parse", [parse_lines, lambda data: parse_file("r.txt", lambda _: data)])
def test_a_requirement_is_read_in_full(parse: Callable[[bytes], Asked]) -> None:
    wanted = only(parse(b'Foo.Bar[x, y] >=1.2,<2 ; python_version >= "3.9"  # why\n'))
    assert (wanted.name, wanted.specifier, wanted.extras) == ("foo-bar", SpecifierSet(">=1.2,<2"), ("x", "y"))
    assert str(wanted.marker) == 'python_version >= "3.9"'
    assert wanted.text == 'Foo.Bar[x, y] >=1.2,<2 ; python_version >= "3.9"'


def test_hashes_are_read_as_pip_compile_writes_them() -> None:
    wanted = only(parse_lines(f"rich==13.0.0 \\\n    --hash=sha256:{A} \\\n    --hash SHA256:{B.upper()}\n".encode()))
    assert wanted.hashes == {("sha256", A), ("sha256", B)}
    assert wanted.specifier == SpecifierSet("==13.0.0")


@pytest.mark.parametrize("given_", ["md5:" + "a" * 32, "sha256:xyz", f"sha256:{A}0", "sha256", f"crc:{A}"])
def test_a_hash_that_proves_nothing_is_refused(given_: str) -> None:
    asked = parse_lines(f"rich==1.0 --hash={given_}".encode())
    assert (asked.wanted, len(asked.refused)) == ((), 1)
    assert "is no hash" in asked.refused[0].why


def test_blank_lines_and_comments_are_nothing() -> None:
    assert parse_lines(b"\n   \n# foo==1\n  # bar\n\t\n\r\n\\\n") == Asked()
    assert parse_lines(b"") == Asked()


def test_lines_end_as_on_any_system_and_a_mark_at_the_start_is_no_text() -> None:
    assert texts(parse_lines(b"\xef\xbb\xbfa==1\r\nb==2\rc==3\nd\x0c")) == (["a==1", "b==2", "c==3", "d"], [])


def test_a_hash_sign_within_a_word_is_no_comment() -> None:
    assert texts(parse_lines(b"foo==1#x")) == ([], ["foo==1#x"])


def test_what_is_no_utf8_is_invalid() -> None:
    with pytest.raises(Invalid, match="UTF-8"):
        parse_lines(b"foo==1\n\xff")


# The grammar of HTTP: nothing but requirements.

NO_REQUIREMENTS = [
    "-r other.txt", "-rother.txt", "--requirement other.txt", "--requirement=other.txt", "-c c.txt", "--constraint c.txt",
    "-e .", "-e git+https://x.example/y", "--editable=.", "-i https://x.example/simple", "--index-url=https://x.example",
    "--extra-index-url https://x.example", "--find-links .", "-f .", "--no-index", "--pre", "--require-hashes", "--trusted-host x",
    "foo @ https://x.example/foo-1.0.tar.gz", "foo@https://x.example/foo", "foo @ file:///etc/passwd", "foo @ ../foo",
    "https://x.example/foo-1.0.tar.gz", "http://x.example/foo.whl", "git+https://x.example/y", "git+ssh://git@x.example/y",
    "file:///etc/passwd", "file:foo", "./foo", "../foo", "/etc/passwd", "~/foo", "foo/bar", "dist/foo-1.0-py3-none-any.whl",
    ".", "C:\\foo.whl", "\\\\host\\foo", "foo==1 --config-settings=x=y", "foo --global-option=x", "foo bar", "foo==", "foo=1",
    "==1.0", "[x]", "foo ; nonsense", "é", "foo\x00", "-", "--", "--hash=sha256:" + A, "foo==" + "1" * 5000 + "x",
    "foo; " + "(" * 3000 + "python_version>'3'" + ")" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("line", NO_REQUIREMENTS, ids=lambda line: line[:40])
def test_over_http_everything_but_a_requirement_is_put_aside(line: str) -> None:
    asked = parse_lines(f"good==1\n{line}\n".encode())
    assert texts(asked) == (["good==1"], [line])
    assert asked.refused[0].why
    assert not asked.prereleases


def test_a_continued_line_hides_no_option() -> None:
    assert texts(parse_lines(b"foo==1 \\\n--index-url=https://x.example\n-\\\nr x\n"))[0] == []


_words = st.sampled_from(
    ["foo", "==", "1.0", " ", "-r", "-e", "--pre", "@", "./", "https://", "[", "]", ";", "\\", "\n", "#", ",", "'", "é"]
)


@patient
@given(st.lists(_words, max_size=12).map("".join) | st.text(max_size=40))
def test_over_http_every_line_is_wanted_or_refused_or_nothing(text: str) -> None:
    try:
        asked = parse_lines(text.encode("utf-8", "surrogatepass"))
    except Invalid:
        return
    lines = [line for line in text.split("\n") if line.strip()]
    assert len(asked.wanted) + len(asked.refused) <= max(len(lines), text.count("\r") + len(lines))
    assert all(one.name == normalise(one.name) and "@" not in one.text for one in asked.wanted)


# The grammar of the command.


def test_included_files_are_relative_to_the_one_that_names_them() -> None:
    asked = of_files(
        "a/r.txt",
        a_r="-r ../b/x.txt\n--requirement=more.txt\nfoo",
        a_more="more",
        b_x="bar>1\n-rdeep/y.txt",
        b_deep_y="deep",
    )
    assert [(one.text, one.at) for one in asked.wanted] == [
        ("bar>1", "b/x.txt:1"), ("deep", "b/deep/y.txt:1"), ("more", "a/more.txt:1"), ("foo", "a/r.txt:3"),
    ]  # fmt: skip


def test_files_that_name_each_other_are_read_once() -> None:
    assert texts(of_files(r="-r s.txt\na", s="-r r.txt\nb")) == (["b", "a"], [])


def test_a_file_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(NotFound, match=r"gone\.txt"):
        of_files(r="-r gone.txt")


def test_constraints_and_what_they_include_narrow_and_add_nothing() -> None:
    asked = of_files(r="foo\nbar<9\n-c c.txt", c="Foo<3\n-r d.txt\nother==1", d="foo>1")
    assert [one.text for one in asked.constraints] == ["Foo<3", "foo>1", "other==1"]
    found = {one.name: one.specifier for one in narrowed(asked.wanted, asked.constraints)}
    assert found == {"foo": SpecifierSet("<3,>1"), "bar": SpecifierSet("<9")}


def test_options_that_name_indexes_are_passed_over_and_said() -> None:
    asked = of_files(r="-i https://x.example\n--extra-index-url=https://y.example\n-f .\n--no-binary :all:\nfoo")
    assert texts(asked) == (["foo"], [])
    assert [line.at for line in asked.ignored] == ["r.txt:1", "r.txt:2", "r.txt:3", "r.txt:4"]


@pytest.mark.parametrize(
    "line", ["-e .", "--editable ../x", "foo @ https://x.example/f", "./x.whl", "--what", "-r https://x.example/r"]
)
def test_what_no_index_has_is_refused_with_its_place(line: str) -> None:
    asked = of_files(r=f"\n{line}\nfoo")
    assert [(refused.text, refused.at) for refused in asked.refused] == [(line, "r.txt:2")]


def test_pre_is_for_all() -> None:
    assert of_files(r="foo\n--pre").prereleases


def test_require_hashes_wants_one_for_each() -> None:
    asked = of_files(r=f"--require-hashes\nfoo==1 --hash=sha256:{A}\nbar==1")
    assert texts(asked) == ([f"foo==1 --hash=sha256:{A}"], ["bar==1"])


def test_variables_are_those_that_are_given() -> None:
    assert texts(of_files(r="foo==${VERSION}\n${bar}", environ={"VERSION": "2"})) == (["foo==2"], ["${bar}"])


def test_a_lock_may_be_included() -> None:
    asked = parse_file("r.txt", lambda path: b"-r pylock.toml\nfoo" if path == "r.txt" else PYLOCK.encode())
    assert [one.name for one in asked.wanted] == ["demo", "other", "foo"]


# Locks.

PYLOCK = f"""
lock-version = "1.0"
created-by = "test"
[[packages]]
name = "demo"
version = "1.0"
marker = "sys_platform == 'linux'"
[packages.sdist]
url = "https://files.example/x/demo-1.0.tar.gz"
hashes = {{ sha256 = "{A}" }}
[[packages.wheels]]
name = "demo-1.0-py3-none-any.whl"
url = "https://files.example/download?id=7"
hashes = {{ SHA256 = "{B.upper()}" }}
[[packages]]
name = "other"
version = "2.0+cu124"
wheels = [ {{ url = "https://files.example/other-2.0%2Bcu124-py3-none-any.whl#x", hashes = {{ sha512 = "{"c" * 128}" }} }} ]
"""
UV_LOCK = f"""
version = 1
revision = 3
[[package]]
name = "project"
version = "0.1"
source = {{ editable = "." }}
[[package]]
name = "demo"
version = "1.0"
source = {{ registry = "https://index.example/simple" }}
sdist = {{ url = "https://files.example/demo-1.0.tar.gz", hash = "sha256:{A}", size = 7 }}
wheels = [ {{ url = "https://files.example/demo-1.0-py3-none-any.whl", hash = "sha256:{B}" }} ]
[[package]]
name = "nearby"
version = "3"
source = {{ registry = "../wheels" }}
wheels = [ {{ path = "nearby-3-py3-none-any.whl" }} ]
"""


def test_a_pylock_names_exact_files() -> None:
    demo, other = parse_lines(PYLOCK.encode()).wanted
    assert demo.files == {"demo-1.0-py3-none-any.whl": {"sha256": B}, "demo-1.0.tar.gz": {"sha256": A}}
    assert (demo.name, demo.specifier, str(demo.marker)) == ("demo", SpecifierSet("==1.0"), 'sys_platform == "linux"')
    assert other.files == {"other-2.0+cu124-py3-none-any.whl": {"sha512": "c" * 128}}


def test_a_uv_lock_names_exact_files_and_not_its_own_project() -> None:
    demo, nearby = parse_lines(UV_LOCK.encode()).wanted
    assert demo.files == {"demo-1.0-py3-none-any.whl": {"sha256": B}, "demo-1.0.tar.gz": {"sha256": A}}
    assert nearby.files == {"nearby-3-py3-none-any.whl": {}}


@pytest.mark.parametrize(
    "source",
    ['git = "https://x.example/r?rev=1#2"', 'url = "https://x.example/d.whl"', 'path = "x.whl"', 'directory = "x"'],
)
def test_what_a_uv_lock_takes_from_elsewhere_is_refused(source: str) -> None:
    asked = parse_lines(f'version = 1\n[[package]]\nname = "demo"\nversion = "1"\nsource = {{ {source} }}\n'.encode())
    assert texts(asked) == ([], ["demo==1"])


@pytest.mark.parametrize(
    "kind",
    [
        'vcs = { type = "git", url = "u", commit-id = "c" }',
        'directory = { path = "." }',
        "archive = { url = 'u', hashes = {} }",
    ],
)
def test_what_a_pylock_takes_from_elsewhere_is_refused(kind: str) -> None:
    asked = parse_lines(f'lock-version = "1.0"\n[[packages]]\nname = "demo"\n{kind}\n'.encode())
    assert texts(asked) == ([], ["demo"])


@pytest.mark.parametrize(
    ("lock", "why"),
    [
        ('lock-version = "2.0"\n[[packages]]\nname = "x"', "lock-version 2.0"),
        ('[[packages]]\nname = "x"', "lock-version"),
        ('version = 2\n[[package]]\nname = "x"', "version 2"),
        ("version = 1\n[[package]]\nname = 3", "str"),
        ('version = 1\n[[package]]\nname = "-x-"', "no project name"),
        ("[[package]]\nname =", "not TOML"),
        (f'version = 1\n[[package]]\nname = "x"\nversion = "1"\nsdist = {{ hash = "sha256:{A}" }}', "no name"),
        ('version = 1\n[[package]]\nname = "x"\nversion = "1"\nsdist = { url = "x.zip", hash = "sha256:x" }', "digest"),
        ('version = 1\n[[package]]\nname = "x"\nversion = "no version"\nsdist = { url = "x-1.zip" }', "no version"),
    ],
)
def test_a_lock_that_cannot_be_trusted_is_invalid(lock: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        parse_lines(lock.encode())


def test_a_lock_of_a_later_minor_version_is_read() -> None:
    assert parse_lines(PYLOCK.replace('"1.0"\ncreated', '"1.7"\nnew-key = 1\ncreated').encode()).wanted


@patient
@given(st.binary(max_size=60).map(lambda data: b"[[package]]\n" + data) | st.binary(max_size=60))
def test_reading_fails_only_with_our_errors(data: bytes) -> None:
    for read in (parse_lines, locks.parse):
        try:
            read(data)
        except EntrepotError:
            continue
