"""The configuration as frozen records: every key there is, with its default."""

import re
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

DEFAULT_FILE = "entrepot.toml"
DEFAULT_STORE = "data"  # the disk under `data`, where no [store.NAME] is named

INDEX_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
# Words with a meaning of their own in URLs or in a store (design §6).
RESERVED = frozenset(
    {
        *("simple", "files", "legacy", "pypi", "local", "archives", "project", "projects", "packages", "uploadpackage"),
        *("explain", "builds", "refresh", "health", "ready", "metrics", "static", "api", "admin", "blobs", "access"),
        *("locks", "staging", "trash", "gc"),
    }
)


class Server(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[server]`: how it listens and how much it takes."""

    host: str = "127.0.0.1"
    port: int = 8080
    uds: str | None = None  # a Unix socket instead of host and port
    workers: int = 1
    path: str = ""  # a sub-path such as "/pypi" under which everything but /health and /ready lies
    hosts: tuple[str, ...] = ()  # Host names answered on a loopback bind, beside its own
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose Forwarded headers are believed
    max_upload: str | int = "4 GiB"  # per file
    max_uploads: int = 16  # at once, per node
    stall: str | int = "60 s"  # an upload that sends nothing for so long is cut
    page_cache: str | int = "48 MiB"  # rendered pages kept in memory, per worker
    max_age: str | int = "0 s"  # how long clients may use a page without asking again; 0 means no-cache
    grace: str | int = "30 s"  # how long running requests may take to finish on SIGTERM
    log: Literal["auto", "text", "json", "off"] = "auto"  # the access log; auto: text on a terminal, else JSON
    offline: bool = False  # ask no upstream: what is kept here answers, and nothing else
    debug: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None


class Access(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[access]`: who may read and write where nothing else is said."""

    read: Literal["open", "token"] = "open"
    open: bool = False  # writes need no token (what --open sets)
    store: str | None = None  # the [store.NAME] that holds tokens, or "data"; left out: the only store there is


class StoreSettings(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[store.NAME]`: where bytes and records lie. `url` is file:///… or a path."""

    url: str


class Archives(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """`[archives]`: where `entrepot archive` works. Without `url`: the archives of the hosted index."""

    url: str | None = None  # https://host/{index}/archives/ of a server; or a store: s3://bucket, file:///…, a path
    layout: Literal["entrepot", "tycho"] = "entrepot"  # of a store
    outdir: str = "tycho_packages"  # where pull writes, taken from the current folder
    token: str | None = None  # for a server
    options: dict[str, Any] = {}  # for a store: obstore's own names


class Rule(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """One of `rules = [ … ]`: says exactly one thing about the files that it withholds. See `entrepot.rules`.

    Patterns are "name", "name==1.*" (any version specifier), or "*.exe" against filenames (with their ending).
    """

    allow: str | tuple[str, ...] | None = None  # only what matches passes
    deny: str | tuple[str, ...] | None = None  # what matches does not
    cooldown: str | int | None = None  # files pass when they are so old
    exempt: tuple[str, ...] = ()  # with cooldown: patterns that need not wait
    unknown: Literal["deny", "allow"] | None = None  # with cooldown and at: files without an upload time; deny
    at: str | None = None  # YYYY-MM-DD: files uploaded later do not pass
    formats: tuple[Literal["wheel", "sdist", "egg", "other"], ...] | None = None  # only these pass
    yanked: Literal["hide"] | None = None

    @property
    def said(self) -> dict[str, Any]:
        """The keys that are set: what `rules.build` makes a rule of."""
        return {key: value for key, value in msgspec.structs.asdict(self).items() if value not in (None, ())}


class Hosted(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True, tag="hosted"):
    """`type = "hosted"`: files that were uploaded here."""

    store: str | None = None  # a [store.NAME]; left out, or "data": the disk, under `data`
    read: Literal["open", "token"] | None = None
    rules: tuple[Rule, ...] = ()


class Folder(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True, tag="folder"):
    """`type = "folder"`: distributions in one or several directories, at any depth."""

    path: str | tuple[str, ...]
    read: Literal["open", "token"] | None = None
    rules: tuple[Rule, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path


class Mirror(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True, tag="mirror"):
    """`type = "mirror"`: an upstream index, its pages and files kept here as they are asked for."""

    url: str = "pip"  # "pip": the index of this machine's pip, else PyPI; "pypi"; or a URL
    layout: Literal["simple", "flat"] = "simple"  # flat: one page of links to files of many projects
    credentials: str | None = None  # "pip", or "user:password"; left out: the URL's, netrc's, keyring's
    ttl: str | int = "10 min"  # pages are asked for again when they are so old
    timeout: str | int = "10 s"  # of one answer to begin, and of every silence in it
    max_size: str | int | None = None  # of the files kept; those that were asked for longest ago go first
    private_addresses: bool = False  # whether upstream may lie in a private network
    prefetch: int = 4  # newest wheels whose metadata is fetched when their page is first asked for
    store: str | None = None  # a [store.NAME]; left out, or "data": the disk, under `data`
    read: Literal["open", "token"] | None = None
    rules: tuple[Rule, ...] = ()


class Virtual(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True, tag="virtual"):
    """`type = "virtual"`: other indexes in order; the first that knows a name owns it."""

    of: tuple[str, ...]
    own: tuple[str, ...] = ()  # patterns of names that no mirror may answer, even before their first upload
    merge: tuple[str, ...] = ()  # patterns of names whose files may come from several members
    rules: tuple[Rule, ...] = ()
    rules_for: Literal["mirrored", "all"] = "mirrored"  # mirrored: `rules` see the files of mirrors only
    fallback: Literal["redirect"] | None = None  # unknown names are 302 to the mirror's upstream, which is not asked
    read: Literal["open", "token"] | None = None


IndexSettings = Hosted | Folder | Mirror | Virtual


class Config(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """The whole configuration, checked, with nothing left to look up."""

    data: str = ""
    default: str = "root"
    dotenv: str | None = None  # a file of variables that count where the environment has none of that name
    server: Server = Server()
    access: Access = Access()
    archives: Archives = Archives()
    store: dict[str, StoreSettings] = {}
    index: dict[str, IndexSettings] = {}

    @property
    def store_folder(self) -> Path:
        """The default store: everything that must not be lost."""
        return Path(self.data) / "store"

    @property
    def node_folder(self) -> Path:
        """What only this node needs; may be deleted while it is stopped."""
        return Path(self.data) / "node"
