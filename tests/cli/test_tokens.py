"""`entrepot token …`."""

import asyncio
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from entrepot.access import Tokens
from entrepot.stores.disk import Disk
from tests.cli.conftest import Run


async def can(data: Path, secret: str) -> tuple[str, ...]:
    """What the holder of the secret may do, as a server would see it."""
    tokens = Tokens(Disk.open(data / "store", create=False))
    caller = await tokens.caller(b"Bearer " + secret.encode(), now=datetime.now(UTC))
    return caller.token.can if caller.token else ()


def test_a_token_is_made_where_nothing_is_yet_and_shown_once(command: Run, data: Path) -> None:
    secret = command("token", "create", "ci", "--can", "upload").ok().strip()
    assert re.fullmatch(r"entrepot_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", secret)
    assert asyncio.run(can(data, secret)) == ("upload",)
    assert secret not in command("token", "list").ok()
    assert secret not in str(command("token", "list", "--json").json())


def test_a_token_in_json(command: Run, data: Path) -> None:
    words = ("--can", "manage", "--can", "read", "--index", "private", "--project", "Acme_*", "--expires", "90 days")
    made = command("token", "create", "ci", *words, "--json").json()
    assert asyncio.run(can(data, made["token"])) == ("read", "manage")
    assert (made["name"], made["can"]) == ("ci", ["read", "manage"])
    assert (made["indexes"], made["projects"]) == (["private"], ["acme-*"])
    lifetime = datetime.fromisoformat(made["expires"]) - datetime.fromisoformat(made["created"])
    assert lifetime == timedelta(days=90)
    [listed] = command("token", "list", "--json").json()
    assert listed == {name: value for name, value in made.items() if name != "token"}


def test_tokens_are_listed_with_what_they_may(command: Run) -> None:
    assert command("token", "list").ok() == "no tokens\n"
    command("token", "create", "ci", "--can", "upload", "--project", "a", "--project", "b").ok()
    command("token", "create", "me", "--can", "read", "--index", "private", "--expires", "1 h").ok()
    one, two = command("token", "list").ok().splitlines()
    assert re.fullmatch(r"[0-9a-f]{12}  ci: upload; indexes \*; projects a, b; for ever", one)
    assert re.fullmatch(r"[0-9a-f]{12}  me: read; indexes private; projects \*; until 20.* UTC", two)


def test_a_token_is_revoked_by_name_or_id(command: Run) -> None:
    for name in ("ci", "ci", "me"):
        command("token", "create", name, "--can", "read").ok()
    identity = command("token", "list", "--json").json()[2]["id"]
    assert command("token", "revoke", identity, "--yes").ok() == f"revoked {identity} me\n"
    assert len(command("token", "revoke", "ci", "--yes", "--json").json()) == 2
    assert command("token", "list").ok() == "no tokens\n"
    assert command("token", "revoke", "ci", "--yes").failed() == "no token 'ci' (see `entrepot token list`)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create",), "Missing argument 'NAME'."),
        (("create", "ci"), "Missing option '--can'."),
        (("create", "ci", "--can", "fly"), "'fly' is no permission; use read, upload, manage, build"),
        (("create", "ci", "--can", "read", "--expires", "soon"), "'soon' is not a duration such as \"10 min\""),
        (
            ("create", "ci", "--can", "read", "--expires", "3 weeks"),
            "has an unknown unit of time (use s, min, h or days)",
        ),
        (("create", "ci", "--can", "read", "--expires", ""), "'' is not a duration"),
        (("create", "ci", "--can", "read", "--expires", "0"), "'0' must be more than 0, and 100 years at most"),
        (("create", "ci", "--can", "read", "--expires", "99999999 days"), "must be more than 0, and 100 years at most"),
    ],
)
def test_a_wrong_command_line_makes_no_token(command: Run, data: Path, words: tuple[str, ...], message: str) -> None:
    assert message in command("token", *words).misused()
    assert not data.exists()


def test_a_name_that_could_forge_a_log_is_refused(command: Run) -> None:
    message = command("token", "create", "a\nb", "--can", "read").failed()
    assert message.startswith(r"'a\nb' is no name for a token (")


def test_damaged_tokens_are_said_to_be(command: Run, data: Path) -> None:
    command("token", "create", "ci", "--can", "read").ok()
    (data / "store/access/tokens.json").write_bytes(b"{")
    for words in (("list",), ("create", "x", "--can", "read"), ("revoke", "ci", "--yes")):
        assert command("token", *words).failed().startswith("access/tokens.json: cannot be read: ")


def test_what_is_made_belongs_to_whom_the_data_belongs(shell: Run, tmp_path: Path) -> None:
    """So that a command run as root beside a server leaves nothing that the server cannot read."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of others")
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 12345, 12345)
    shell("token", "create", "ci", "--can", "read", "--data", data).ok()
    owners = {path.stat().st_uid for path in [data, *data.rglob("*")]}
    assert owners == {12345}
