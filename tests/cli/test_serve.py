"""What `entrepot serve` makes of its flags before it serves."""

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from entrepot.access import Tokens
from entrepot.cli import server
from entrepot.config import Config, Folder, Hosted, Mirror, Virtual
from entrepot.errors import Invalid, Unavailable
from entrepot.stores.disk import Disk
from tests.cli.conftest import Run


def configured(*folders: Path, config: Path | None = None, data: Path | None = None, **flags: object) -> Config:
    return server.configured(config, data, list(folders), flags, open_writes=False)[0]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_flags_win_over_the_file_and_what_is_not_given_stays(tmp_path: Path) -> None:
    (tmp_path / "entrepot.toml").write_text('data = "there"\n[server]\nport = 9000\nworkers = 3\n')
    config = configured(port=9001, workers=None, data=tmp_path / "here")
    assert (config.server.port, config.server.workers, config.data) == (9001, 3, str(tmp_path / "here"))


def test_a_file_is_named_only_if_it_is_read(tmp_path: Path) -> None:
    assert server.configured(None, None, [], {}, open_writes=False)[1] is None
    (tmp_path / "entrepot.toml").write_text("")
    assert server.configured(None, None, [], {}, open_writes=False)[1] == Path("entrepot.toml")
    other = tmp_path / "other.toml"
    other.write_text("")
    assert server.configured(other, None, [], {}, open_writes=False)[1] == other


def test_create_and_open_are_taken_over(tmp_path: Path) -> None:
    config, _ = server.configured(None, tmp_path, [], {}, open_writes=True)
    assert config.access.open


def test_folders_join_the_default_index_in_front_of_its_mirror(tmp_path: Path) -> None:
    config = configured(Path("one"), Path("two"), data=tmp_path)
    assert config.index == {
        "private": Hosted(),
        "upstream": Mirror(),
        "folders": Folder(path=(f"{tmp_path}/one", f"{tmp_path}/two")),
        "root": Virtual(of=("private", "folders", "upstream")),
    }


def test_folders_cannot_join_an_index_that_is_not_virtual(tmp_path: Path) -> None:
    (tmp_path / "entrepot.toml").write_text('[index.root]\ntype = "hosted"\n')
    with pytest.raises(Invalid) as refused:
        configured(Path("dist"))
    assert str(refused.value) == (
        "the default index 'root' is not virtual, so directories cannot join it "
        '(give them an [index.NAME] of type = "folder" in the configuration)'
    )


def test_folders_do_not_take_the_place_of_a_configured_index(tmp_path: Path) -> None:
    (tmp_path / "entrepot.toml").write_text(
        '[index.folders]\ntype = "hosted"\n[index.root]\ntype = "virtual"\nof = ["folders"]\n'
    )
    with pytest.raises(Invalid, match="the configuration has an index 'folders' of its own"):
        configured(Path("dist"))


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"port": 70000}, "server.port: 70000 is not a port"),
        ({"workers": 0}, "server.workers: must be at least 1"),
        ({"path": "pypi"}, "server.path: starts with /"),
        ({"grace": "soon"}, "server.grace: 'soon' is not a duration"),
        ({"tls_cert": "cert.pem"}, "server: tls-cert and tls-key go together"),
    ],
)
def test_a_wrong_flag_is_named(flags: dict[str, Any], fault: str) -> None:
    with pytest.raises(Invalid) as refused:
        configured(**flags)
    assert str(refused.value).startswith(fault)


def test_a_wrong_flag_is_one_line_and_nothing_is_made(command: Run, data: Path) -> None:
    assert command("serve", "--port", "70000").failed() == "server.port: 70000 is not a port"
    assert "Invalid value for '--port'" in command("serve", "--port", "web").misused()
    missing = command("serve", "--tls-cert", "no.pem", "--tls-key", "no.key").failed()
    assert missing.endswith("/no.pem: cannot be read (see --tls-cert and --tls-key)")
    assert not data.exists()


def test_a_configured_store_that_does_not_exist_is_not_begun(command: Run, tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(
        'data = "d"\n[store.main]\nurl = "m"\n[index.root]\ntype = "hosted"\nstore = "main"\n'
    )
    failed = command("serve", "--port", "0", "--config", "e.toml").failed()
    assert failed.startswith(f"{tmp_path}/m: there is no store here (is its disk mounted?")
    assert not (tmp_path / "d").exists()
    assert not (tmp_path / "m").exists()


# A socket


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_a_socket_that_a_killed_server_left_is_taken_away(tmp_path: Path) -> None:
    listening(tmp_path / "s").close()
    server._check_socket(str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()
    server._check_socket(str(tmp_path / "s"))


def test_a_socket_that_another_server_has_is_left_alone(command: Run, data: Path, tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        failed = command("serve", "--uds", tmp_path / "s").failed()
        assert failed == f"{tmp_path}/s: another server listens here (choose another --uds)"
    assert (tmp_path / "s").is_socket()
    assert not data.exists()


def test_a_place_where_no_socket_can_be_is_named_and_nothing_there_is_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    for place, fault in (
        (tmp_path / "file", "is there and is no socket (see --uds)"),
        (tmp_path / "no" / "s", "its folder does not exist (see --uds)"),
        (tmp_path / ("x" * 120), "cannot listen: AF_UNIX path too long (see --uds)"),
    ):
        with pytest.raises((Invalid, Unavailable)) as refused:
            server._check_socket(str(place))
        assert str(refused.value) == f"{place}: {fault}"
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_port_that_another_server_has_is_named(command: Run, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        failed = command("serve", "--port", str(port)).failed()
    hint = "another server may be running; choose another --port"
    assert failed == f"127.0.0.1:{port}: cannot listen: Address already in use ({hint})"
    assert not data.exists()


# The first token


def test_the_first_token_is_kept_for_its_owner_only_where_no_terminal_is(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where `data` does not exist yet, because all stores are elsewhere."""
    config = configured(data=data)
    server._announce(config, None, "entrepot_x_y")
    place = data / "first-token"
    assert place.read_text() == "entrepot_x_y\n"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    said = capsys.readouterr().err
    assert "entrepot_x_y" not in said
    assert f"first token    in {place} (ends in 24 hours unless it is used)" in said


def test_an_older_first_token_is_written_over_and_its_mode_put_right(data: Path) -> None:
    data.mkdir()
    (data / "first-token").write_text("something much longer than a token is\n")
    (data / "first-token").chmod(0o644)
    server._announce(configured(data=data), None, "entrepot_x_y")
    assert (data / "first-token").read_text() == "entrepot_x_y\n"
    assert stat.S_IMODE((data / "first-token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("", True),
        ("[access]\nopen = true", False),
        ('[index.root]\ntype = "folder"\npath = "x"', False),
        ('[index.up]\ntype = "hosted"\n[index.root]\ntype = "virtual"\nof = ["up"]', True),
    ],
)
def test_there_is_a_first_token_where_uploads_need_one(tmp_path: Path, config: str, wanted: bool) -> None:
    (tmp_path / "entrepot.toml").write_text(config)
    tokens = Tokens(Disk.open(tmp_path / "store", create=True))
    made = asyncio.run(server._first_token(configured(), tokens))
    assert (made is not None) is wanted
    assert len(asyncio.run(tokens.list())) == int(wanted)


# What is announced


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        ({}, "http://127.0.0.1:8080/"),
        ({"host": "::1", "port": 9000}, "http://[::1]:9000/"),
        ({"path": "/pypi"}, "http://127.0.0.1:8080/pypi/"),
        ({"tls_cert": "a", "tls_key": "b"}, "https://127.0.0.1:8080/"),
        ({"uds": "/run/x.sock"}, "unix:/run/x.sock/"),
    ],
)
def test_it_says_where_it_is(flags: dict[str, Any], url: str, capsys: pytest.CaptureFixture[str]) -> None:
    server._announce(configured(**flags), None, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(f" at {url}")
    assert lines[1] == "  configuration  none (no ./entrepot.toml, no --config)"
    assert lines[3] == "  indexes        private, upstream, root (default: root)"


def test_open_uploads_are_announced(capsys: pytest.CaptureFixture[str]) -> None:
    config, file = server.configured(None, None, [], {}, open_writes=True)
    server._announce(config, file, None)
    assert "uploads        open to everybody who can reach it (--open)" in capsys.readouterr().err
