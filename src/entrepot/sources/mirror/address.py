"""Which index a mirror follows: a URL, PyPI, or the one that pip on this machine is configured for."""

import ast
import configparser
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from entrepot.errors import Invalid

_SECTIONS = ("global", "install", "download")  # pip's; later ones count more
_CONSTANT = "PYPI_SIMPLE_ENDPOINT"


class Address(Struct, frozen=True, kw_only=True):
    """An upstream's URL without credentials, ending in "/" unless it is a flat page; and what goes with it."""

    url: str
    user: str = ""
    password: str = ""
    certificates: str | None = None  # a bundle in place of the system's

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


def resolve(url: str, *, credentials: str | None, flat: bool, environ: Mapping[str, str] = os.environ) -> Address:
    """`url` may be "pip", "pypi" or a URL. `credentials` may be "pip" or "user:password". Raises `Invalid`."""
    certificates = None
    if url == "pip":
        settings = pip_settings(environ)
        found = settings.get("index-url") or pypi()
        address = _parsed(found, flat=flat)
        if credentials != "pip":
            address = Address(url=address.url)
        certificates = settings.get("cert")
    else:
        address = _parsed(pypi() if url == "pypi" else url, flat=flat)
    if credentials is not None and credentials != "pip":
        user, _, password = credentials.partition(":")
        address = Address(url=address.url, user=user, password=password)
    return Address(url=address.url, user=address.user, password=address.password, certificates=certificates)


def _parsed(url: str, *, flat: bool) -> Address:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"{url!r} is no URL: {error}", at="url") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise Invalid(f"{url!r} is no URL of an index", at="url", hint="it begins with https:// or http://")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    path = parts.path if flat or parts.path.endswith("/") else f"{parts.path}/"
    clean = urlunsplit((parts.scheme, netloc, path, parts.query if flat else "", ""))
    return Address(url=clean, user=parts.username or "", password=parts.password or "")


def pypi() -> str:
    """PyPI's address, from the constant in `pypi-simple`; read and not imported, which would cost 16 MiB."""
    found = importlib.util.find_spec("pypi_simple")
    for location in found.submodule_search_locations or () if found is not None else ():
        for file in sorted(Path(location).glob("*.py")):
            if (value := _constant(file)) is not None:
                return value
    raise Invalid("the package pypi-simple, which knows PyPI's address, is not installed", at="url")


def _constant(file: Path) -> str | None:
    text = file.read_text(encoding="utf-8")
    if _CONSTANT not in text:
        return None
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        value = getattr(node, "value", None)
        if _CONSTANT in names and isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return None


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The options of pip as its files and environment give them (pip's "Configuration" page), for installing."""
    settings: dict[str, str] = {}
    for file in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # pip itself will say so
        for section in _SECTIONS:
            if parser.has_section(section):
                settings |= {key.replace("_", "-"): value.strip() for key, value in parser.items(section)}
    prefix = "PIP_"
    given = {key[len(prefix) :]: value for key, value in environ.items() if key.startswith(prefix) and value}
    settings |= {key.lower().replace("_", "-"): value for key, value in given.items()}
    return settings


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """In the order in which pip reads them: later ones win."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    for base in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")):
        yield Path(base) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if named:
        yield Path(named)
