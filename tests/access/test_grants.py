"""What a token may do, and who asks."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.access import ANONYMOUS, OPEN, PERMISSIONS, Caller, Permission, Token
from entrepot.access.callers import secret_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def token(
    *can: Permission, indexes: tuple[str, ...] = ("*",), projects: tuple[str, ...] = ("*",), name: str = "ci"
) -> Token:
    return Token(id="abc", name=name, sha256="", can=can, indexes=indexes, projects=projects, created=NOW)


@pytest.mark.parametrize(
    ("held", "allowed"),
    [
        ("read", {"read"}),
        ("upload", {"upload", "read"}),
        ("build", {"build", "read"}),
        ("manage", {"read", "upload", "manage", "build"}),
    ],
)
def test_a_permission_implies_what_it_needs_and_no_more(held: Permission, allowed: set[str]) -> None:
    granted = {what for what in PERMISSIONS if token(held).grants(what, indexes=("private",), project="demo")}
    assert granted == allowed


def test_a_token_without_a_permission_may_nothing() -> None:
    assert not any(token().grants(what, indexes=("private",), project="demo") for what in PERMISSIONS)


@pytest.mark.parametrize(
    ("patterns", "asked", "granted"),
    [
        (("*",), ("private",), True),
        (("private",), ("private",), True),
        (("private",), ("root",), False),
        (("private",), ("root", "private"), True),  # any of them
        (("team-*",), ("team-a",), True),
        (("team-*",), ("team",), False),
        (("a", "b"), ("b",), True),
        (("a",), (), False),
        ((), ("a",), False),
        (("PRIVATE",), ("private",), False),
    ],
)
def test_a_token_is_for_the_indexes_that_its_patterns_match(
    patterns: tuple[str, ...], asked: tuple[str, ...], granted: bool
) -> None:
    assert token("upload", indexes=patterns).grants("upload", indexes=asked, project=None) is granted


@pytest.mark.parametrize(
    ("patterns", "project", "granted"),
    [
        (("*",), "demo", True),
        (("acme-*",), "acme-tools", True),
        (("acme-*",), "acme", False),
        (("acme-*",), "evil-acme-tools", False),
        (("acme-tools",), "acme-tools", True),
        (("acme-tools",), "acme-tools-evil", False),
        (("demo", "acme-?"), "acme-1", True),
        (("acme-[ab]",), "acme-b", True),
        (("acme-[ab]",), "acme-c", False),
        ((), "demo", False),
        (("acme-*",), None, True),  # the index itself is asked about
    ],
)
def test_a_token_is_for_the_projects_that_its_patterns_match(
    patterns: tuple[str, ...], project: str | None, granted: bool
) -> None:
    assert token("upload", projects=patterns).grants("upload", indexes=("private",), project=project) is granted


def test_nobody_may_nothing_and_with_open_writes_everybody_may_everything() -> None:
    for permission in PERMISSIONS:
        assert not ANONYMOUS.may(permission, indexes=("private",))
        assert OPEN.may(permission, indexes=("private",), project="demo")
    assert (ANONYMOUS.id, ANONYMOUS.name) == ("", "anonymous")


def test_a_caller_is_known_by_the_token() -> None:
    caller = Caller(token=token("read", name="alice"))
    assert (caller.id, caller.name) == ("abc", "alice")


def test_every_guarded_index_on_the_way_must_be_open_to_a_reader() -> None:
    caller = Caller(token=token("read", indexes=("root", "private")))
    assert caller.may_read(())
    assert caller.may_read(("private",))
    assert caller.may_read(("root", "private"))
    assert not caller.may_read(("root", "private", "secret"))
    assert ANONYMOUS.may_read(())
    assert not ANONYMOUS.may_read(("private",))


def test_a_reader_of_some_projects_does_not_read_the_others() -> None:
    caller = Caller(token=token("read", projects=("acme-*",)))
    assert caller.may_read(("private",), "acme-tools")
    assert not caller.may_read(("private",), "demo")


# Credentials


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


@pytest.mark.parametrize(
    "header",
    [
        basic("__token__", "secret"),
        basic("anybody", "secret"),
        basic("", "secret"),
        b"Bearer secret",
        b"bearer secret",
        b"BASIC " + base64.b64encode(b"x:secret"),
        b"  Bearer   secret  ",
    ],
)
def test_a_token_comes_as_a_password_of_any_user_or_as_a_bearer(header: bytes) -> None:
    assert secret_of(header) == "secret"


def test_a_password_may_hold_what_a_password_may_hold() -> None:
    assert secret_of(basic("user", "with:colon and späce")) == "with:colon and späce"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b" ",
        b"Basic",
        b"Basic ",
        b"Bearer",
        b"Bearer ",
        b"Digest username=x",
        b"Negotiate abc",
        b"Basic !!!!",
        b"Basic abc",  # wrong padding
        b"Basic " + base64.b64encode(b"no colon"),
        basic("user", ""),
        b"\xff\xfe\xfd",
        b"Basic \xff\xff\xff\xff",
        b"secret",
        b"Basic=x",
    ],
)
def test_what_is_no_credentials_is_none(header: bytes) -> None:
    assert secret_of(header) is None


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda data: b"Basic " + base64.b64encode(data)))
def test_no_header_raises(header: bytes) -> None:
    secret = secret_of(header)
    assert secret is None or secret.encode()
    assert secret_of(b"Bearer " + header) is None or secret_of(b"Bearer " + header)
