"""The configuration: what is written is what is meant, and every fault is named with its place."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config import RESERVED, Archives, Config, Folder, Hosted, Mirror, StoreSettings, Virtual, checked, load
from entrepot.errors import Invalid

Read = Callable[..., Config]
Faults = Callable[..., list[str]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The configuration of a file with this text, in an environment that has only these variables."""

    def reading(text: str, **environ: str) -> Config:
        file = tmp_path / "entrepot.toml"
        file.write_text(text)
        return load(file, environ=environ)

    return reading


@pytest.fixture
def faults(tmp_path: Path, read: Read) -> Faults:
    """What is said of a file with this text: a line for each fault, without the file's name, which all begin with."""

    def finding(text: str, **environ: str) -> list[str]:
        with pytest.raises(Invalid) as refused:
            read(text, **environ)
        lines = [str(problem) for problem in refused.value.problems or (refused.value,)]
        assert all(line.startswith(f"{tmp_path}/entrepot.toml: ") for line in lines)
        return [line.removeprefix(f"{tmp_path}/entrepot.toml: ") for line in lines]

    return finding


SMALL = """
[index.private]
type = "hosted"
[index.root]
type = "virtual"
of = ["private"]
"""


# What is meant


def test_without_a_file_there_are_a_private_index_and_a_mirror_behind_it() -> None:
    config = load(None)
    assert config.index == {"private": Hosted(), "upstream": Mirror(), "root": Virtual(of=("private", "upstream"))}
    assert (config.default, config.server.port, config.access.read) == ("root", 8080, "open")
    assert Path(config.data).is_absolute()
    assert Path(config.data).name == "entrepot"


def test_an_empty_file_is_as_good_as_none(read: Read) -> None:
    assert read("") == load(None)


def test_a_file_that_a_windows_editor_wrote_is_read(tmp_path: Path) -> None:
    file = tmp_path / "entrepot.toml"
    file.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 9000\r\n")
    assert load(file).server.port == 9000


def test_a_whole_configuration(read: Read, tmp_path: Path) -> None:
    config = read(
        """
        data = "data"
        default = "all"
        [server]
        port = 9000
        max-upload = "1 GiB"
        hosts = ["packages.example"]
        [access]
        read = "token"
        store = "main"
        [store.main]
        url = "file:///srv/packages"
        [index.private]
        type = "hosted"
        store = "main"
        [index.wheels]
        type = "folder"
        path = "dist"
        read = "open"
        [index.all]
        type = "virtual"
        of = ["private", "wheels"]
        """
    )
    assert config.data == str(tmp_path / "data")
    assert config.store_folder == tmp_path / "data" / "store"
    assert config.node_folder == tmp_path / "data" / "node"
    assert config.server.hosts == ("packages.example",)
    assert config.store == {"main": StoreSettings(url="file:///srv/packages")}
    assert config.index["wheels"] == Folder(path=(str(tmp_path / "dist"),), read="open")
    assert config.index["all"] == Virtual(of=("private", "wheels"))


def test_relative_paths_are_relative_to_the_file(read: Read, tmp_path: Path) -> None:
    config = read(
        """
        data = "../data"
        [server]
        uds = "run/socket"
        tls-cert = "/etc/cert.pem"
        tls-key = "key.pem"
        [store.main]
        url = "packages"
        [index.root]
        type = "folder"
        path = ["one", "/srv/two"]
        """
    )
    assert config.data == str(tmp_path.parent / "data")
    assert config.server.uds == str(tmp_path / "run/socket")
    assert (config.server.tls_cert, config.server.tls_key) == ("/etc/cert.pem", str(tmp_path / "key.pem"))
    assert config.store["main"].url == str(tmp_path / "packages")
    assert config.index["root"] == Folder(path=(str(tmp_path / "one"), "/srv/two"))


def test_a_path_may_start_in_the_home_folder(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert read('data = "~/packages"').data == "/home/somebody/packages"


def test_a_value_may_come_from_the_environment(read: Read) -> None:
    text = """
    [server]
    port = { env = "PORT", default = 9000 }
    debug = { env = "DEBUG", default = false }
    hosts = ["a.example", { env = "NAME" }]
    """
    config = read(text, NAME="b.example", PORT="9001", DEBUG="true")
    assert (config.server.port, config.server.debug) == (9001, True)
    assert config.server.hosts == ("a.example", "b.example")
    assert read(text, NAME="").server.port == 9000
    assert read(text, NAME="").server.hosts == ("a.example", "")


def test_an_index_may_be_called_env_or_default(read: Read) -> None:
    config = read('default = "env"\n[index.env]\ntype = "hosted"\n[index.default]\ntype = "hosted"')
    assert list(config.index) == ["env", "default"]


@pytest.mark.parametrize("written", ['"1 GiB"', str(2**30), f'"{2**30}"'])
def test_a_size_may_be_a_number(read: Read, written: str) -> None:
    assert read(f"[server]\nmax-upload = {written}").server.max_upload in {"1 GiB", 2**30, str(2**30)}


def test_hosted_indexes_may_name_the_disk_under_data(read: Read) -> None:
    config = read('[access]\nstore = "data"\n[store.main]\nurl = "x"\n[index.root]\ntype = "hosted"\nstore = "data"')
    assert config.access.store == "data"


def test_a_configuration_goes_to_the_workers_as_json_and_comes_back_the_same(read: Read) -> None:
    config = read(SMALL + '[index.wheels]\ntype = "folder"\npath = ["a", "b"]\n[server]\nmax-upload = 5\nuds = "s"')
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config


# What is wrong


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        load(tmp_path / "missing.toml")
    assert str(refused.value) == f"{tmp_path}/missing.toml: cannot be read: No such file or directory (see --config)"
    with pytest.raises(Invalid, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"data = ", b"\xff\xfe", b"[a]\n[a]", b"x = " + b"[" * 5000])
def test_what_is_not_toml_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "entrepot.toml"
    file.write_bytes(content)
    with pytest.raises(Invalid, match=r"entrepot.toml: is not TOML: "):
        load(file)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        # keys
        ("dat = 'x'", "dat: 'dat' is not a key here (did you mean 'data'?)"),
        (
            "zzz = 1",
            "zzz: 'zzz' is not a key here (known: access, archives, data, default, dotenv, index, server, store)",
        ),
        ("env = 'X'", "env: 'env' is not a key here (did you mean 'dotenv'?)"),
        ("[server]\nprot = 1", "server.prot: 'prot' is not a key here (did you mean 'port'?)"),
        ("[server]\nmax_upload = 1", "server.max_upload: 'max_upload' is not a key here (did you mean 'max-upload'?)"),
        ("[acces]\nread = 'open'", "acces: 'acces' is not a key here (did you mean 'access'?)"),
        (
            "[index.a]\ntype = 'hosted'\npath = 'x'",
            "index.a.path: 'path' is not a key here (known: read, rules, store)",
        ),
        ("[store.a]\nurl = 'x'\nkey = 1", "store.a.key: 'key' is not a key here (known: url)"),
        # missing ones
        ("[index.a]\npath = 'x'", "index.a.type: is missing (known: folder, hosted, mirror, virtual)"),
        ("[index.a]\ntype = 'folder'", "index.a.path: is missing"),
        ("[index.a]\ntype = 'virtual'", "index.a.of: is missing"),
        ("[store.a]", "store.a.url: is missing"),
        # kinds
        ("[index.a]\ntype = 'hostd'", "index.a.type: 'hostd' is not a kind of index (did you mean 'hosted'?)"),
        (
            "[index.a]\ntype = ['hosted']",
            "index.a.type: ['hosted'] is not a kind of index (did you mean 'hosted'?)",
        ),
        # types
        ("data = 5", "data: must be text, not a whole number"),
        ("server = 5", "server: must be a table, not a whole number"),
        ("index = 'x'", "index: must be a table, not text"),
        ("[index]\na = 'hosted'", "index.a: must be a table, not text"),
        ("[server]\nport = 'web'", "server.port: must be a whole number, not text"),
        ("[server]\nport = 80.5", "server.port: must be a whole number, not a number"),
        ("[server]\nhosts = 'a'", "server.hosts: must be a list, not text"),
        ("[server]\nhosts = ['a', 5]", "server.hosts[1]: must be text, not a whole number"),
        ("[server]\ndebug = 'perhaps'", "server.debug: must be true or false, not text"),
        ("[server]\nuds = { path = 'x' }", "server.uds: must be text, not a table"),
        ("[server]\nmax-upload = true", "server.max-upload: must be a whole number or text, not true or false"),
        (
            "[index.a]\ntype = 'folder'\npath = { env = 'X', defalt = 'y' }",
            "index.a.path: must be text or a list, not a table",
        ),
        ("[access]\nread = 'opn'", "access.read: 'opn' is not a value here (did you mean 'open'?)"),
        ("[index.a]\ntype = 'hosted'\nread = 'all'", "index.a.read: 'all' is not a value here (known: open, token)"),
        ("[server]\nlog = 5", "server.log: must be text, not a whole number"),
        # values
        ("[server]\nport = 70000", "server.port: 70000 is not a port"),
        ("[server]\nport = -1", "server.port: -1 is not a port"),
        ("[server]\nworkers = 0", "server.workers: must be at least 1"),
        ("[server]\nmax-uploads = 0", "server.max-uploads: must be at least 1"),
        ("[server]\nstall = 0", "server.stall: must be at least 1"),
        ("[server]\nmax-upload = '0 GiB'", "server.max-upload: must be at least 1"),
        ("[server]\nmax-upload = '4 GB/s'", "server.max-upload: '4 GB/s' is not a size such as \"4 GiB\""),
        (
            "[server]\npage-cache = '4 G'",
            "server.page-cache: '4 G' has an unknown unit of size (use B, kB, MB, GB, KiB, MiB or GiB)",
        ),
        (
            "[server]\ngrace = '500 ms'",
            "server.grace: '500 ms' has an unknown unit of time (use s, min, h or days)",
        ),
        ("[server]\nmax-age = -1", 'server.max-age: -1 is not a duration such as "10 min"'),
        (
            "[server]\ntrusted-proxies = ['10.0.0.0/33']",
            "server.trusted-proxies: '10.0.0.0/33' is no address or network (for example \"10.0.0.0/8\")",
        ),
        ("[server]\ntls-cert = 'x'", "server: tls-cert and tls-key go together"),
        ("[server]\nuds = ''", "server.uds: '' is not a path"),
        ("[store.a]\nurl = ''", "store.a.url: '' is not a path"),
        ('data = "a\\u0000b"', "data: 'a\\x00b' is not a path"),
        ("data = '~nobody-of-this-name/x'", "data: '~nobody-of-this-name/x' names a user without a home"),
        # what belongs together
        (
            SMALL + "[index.x]\ntype = 'hosted'\nstore = 'man'",
            "index.x.store: 'man' is not a [store.NAME] (known: data)",
        ),
        (SMALL + "[access]\nstore = 'x'", "access.store: 'x' is not a [store.NAME] (known: data)"),
        (
            SMALL + "[store.main]\nurl = 'x'",
            "access.store: several stores: say which one holds the tokens (name one of: data, main)",
        ),
        (
            SMALL + "[access]\nstore = 'data'\n[store.data]\nurl = 'x'",
            "store.data: this name means the disk under `data` (choose another name)",
        ),
        ("default = 'rot'\n" + SMALL, "default: 'rot' is not an index (did you mean 'root'?)"),
        ("[index.a]\ntype = 'hosted'", "default: 'root' is not an index (known: a)"),
        (SMALL + "[index.a]\ntype = 'virtual'\nof = []", "index.a.of: needs at least one index"),
        (
            SMALL + "[index.a]\ntype = 'virtual'\nof = ['privat']",
            "index.a.of: 'privat' is not an index (did you mean 'private'?)",
        ),
        (
            SMALL + "[index.a]\ntype = 'virtual'\nof = ['a']",
            "index: the virtual indexes contain one another: a → a",
        ),
        (
            SMALL
            + "[index.a]\ntype='virtual'\nof=['private', 'b']\n[index.b]\ntype='virtual'\nof=['c']"
            + "\n[index.c]\ntype='virtual'\nof=['private', 'a']",
            "index: the virtual indexes contain one another: a → b → c → a",
        ),
        # rules, patterns and redirects
        (
            SMALL + "[index.a]\ntype='hosted'\nrules=[{ deny = 'a' }, { }]",
            "index.a.rules[1]: says nothing (one of: allow, deny, cooldown, at, formats, yanked)",
        ),
        (
            SMALL + "[index.a]\ntype='hosted'\nrules=[{ deny = [] }]",
            "index.a.rules[0]: says nothing (one of: allow, deny, cooldown, at, formats, yanked)",
        ),
        (
            SMALL + "[index.a]\ntype='hosted'\nrules=[{ cooldown = 'soon' }]",
            "index.a.rules[0].cooldown: 'soon' is not a duration such as \"10 min\"",
        ),
        (
            SMALL + "[index.a]\ntype='hosted'\nrules=[{ deni = 'a' }]",
            "index.a.rules[0].deni: 'deni' is not a key here (did you mean 'deny'?)",
        ),
        (
            SMALL + "[index.a]\ntype='virtual'\nof=['private']\nown=['acme-*', 'a b']",
            'index.a.own[1]: \'a b\' matches no project name (a pattern is "name", "acme-*", "name==1.*" or "*.exe")',
        ),
        (
            SMALL + "[index.a]\ntype='virtual'\nof=['private']\nmerge=['acme==1']",
            "index.a.merge[0]: 'acme==1' is no pattern of project names (for example \"acme-*\")",
        ),
        (
            SMALL + "[index.a]\ntype='virtual'\nof=['private']\nfallback='redirect'",
            "index.a.fallback: redirects to a mirror, and none is among the members",
        ),
        (
            SMALL + "[index.m]\ntype='mirror'\nrules=[{ yanked = 'hide' }]\n[index.b]\ntype='virtual'\nof=['m']"
            "\n[index.a]\ntype='virtual'\nof=['private', 'b']\nfallback='redirect'",
            "index.a.fallback: redirects past the rules of m (leave out one of the two)",
        ),
        (
            SMALL + "[index.Wheels]\ntype = 'hosted'",
            "index.Wheels: an index name has a-z, 0-9 and - only and starts with a letter",
        ),
        # the environment
        (
            "data = { env = 'HERE' }",
            'data: the environment variable HERE is not set (set it, or add a default: { env = "…", default = "…" })',
        ),
    ],
)
def test_a_fault_is_named_with_its_place_and_a_way_out(faults: Faults, text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_all_faults_of_rules_are_told_at_once(faults: Faults) -> None:
    text = SMALL + "[index.a]\ntype='hosted'\nrules=[{ allow = ['a b', 'c=1'] }, { cooldown = 'x', exempt = ['a b'] }]"
    assert [fault.partition(": ")[0] for fault in faults(text)] == [
        "index.a.rules[0].allow",
        "index.a.rules[0].allow",
        "index.a.rules[1].cooldown",
        "index.a.rules[1].exempt",
    ]


@pytest.mark.parametrize("path", ["pypi", "/", "/pypi/", "//", "/a b", "/a?b", "/a/../b\n", "/é"])
def test_a_sub_path_has_one_form(faults: Faults, path: str) -> None:
    [fault] = faults(f"[server]\npath = {path!r}")
    assert fault.startswith("server.path: starts with /, does not end with one, and has letters, digits and . _ ~ -")
    assert fault.endswith('(for example "/pypi")')


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_words_of_urls_and_stores_are_no_names_of_indexes(faults: Faults, name: str) -> None:
    assert f"index.{name}: {name!r} is a reserved word (choose another name)" in faults(
        SMALL + f"[index.{name}]\ntype = 'hosted'"
    )


def test_all_reserved_words_of_the_design_are_reserved() -> None:
    design = """simple files legacy pypi local archives project projects packages uploadpackage explain builds refresh
    health ready metrics static api admin blobs access locks staging trash gc"""
    assert set(design.split()) == RESERVED


def test_all_faults_are_told_at_once(faults: Faults) -> None:
    text = """
    dat = "x"
    [server]
    port = "web"
    hosts = [1, "a", 2]
    debug = { env = "DEBUG" }
    [index.a]
    type = "folder"
    pth = "x"
    [index.b]
    type = "hosted"
    read = "opn"
    """
    assert [line.partition(":")[0] for line in faults(text)] == [
        "server.debug",
        "dat",
        "server.port",
        "server.hosts[0]",
        "index.a.pth",
        "index.a.path",
        "index.b.read",
    ]


def test_all_faults_of_meaning_are_told_at_once(faults: Faults) -> None:
    text = SMALL + "[index.simple]\ntype = 'virtual'\nof = []\n[server]\nport = 99999\nworkers = 0\ngrace = 'x'\n"
    assert len(faults("default = 'no'\n" + text)) == 6


def test_a_secret_from_the_environment_is_not_repeated_in_a_fault(faults: Faults) -> None:
    [fault] = faults("[server]\nport = { env = 'SECRET' }", SECRET="hunter2")
    assert fault == "server.port: must be a whole number, not text"


def test_flags_are_checked_like_a_file() -> None:
    config = load(None)
    with pytest.raises(Invalid, match=r"server\.port: 123456 is not a port"):
        checked(msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, port=123456)))


_texts = st.text(max_size=5) | st.sampled_from(["a", "hosted", "folder", "virtual", "data", "10 min", "file:///x", "~"])
_scalars = st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False) | _texts
_words = ["type", "of", "path", "store", "url", "env", "default", "hosts", "port", "uds", "read", "x"]
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_words), inner, max_size=3),
    max_leaves=6,
)
_tops = st.sampled_from(["data", "default", "server", "access", "store", "index", "env", "y"])


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@given(st.dictionaries(_tops, _values))
def test_no_file_leads_to_another_error_than_invalid(
    tmp_path_factory: pytest.TempPathFactory, raw: dict[str, object]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in raw.items()))
    with suppress(Invalid):
        assert isinstance(load(file, environ={}), Config)


# The file of variables.


def test_variables_of_the_dotenv_file_count_where_the_environment_has_none(tmp_path: Path) -> None:
    (tmp_path / "own.env").write_text("# for tests\nPORT=1000\nexport HOST='127.0.0.2'\nEMPTY\n")
    file = tmp_path / "entrepot.toml"
    file.write_text(
        'dotenv = "own.env"\n[server]\nport = { env = "PORT" }\nhost = { env = "HOST" }\n'
        'path = { env = "EMPTY", default = "/x" }\n'
    )
    found = load(file, environ={"PORT": "2000"}).server
    assert (found.port, found.host, found.path) == (2000, "127.0.0.2", "/x")
    (tmp_path / "own.env").unlink()
    with pytest.raises(Invalid, match=r"dotenv: .*own\.env cannot be read"):
        load(file, environ={})


def test_the_store_of_archives_is_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "entrepot.toml"
    file.write_text('[archives]\nurl = "bucket"\nlayout = "tycho"\noptions = { region = "eu" }\n')
    assert load(file).archives == Archives(url=str(tmp_path / "bucket"), layout="tycho", options={"region": "eu"})
    file.write_text('[archives]\nurl = "s3://b"\nlayout = "zip"\n')
    with pytest.raises(Invalid, match=r"archives\.layout"):
        load(file)
