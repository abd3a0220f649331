"""`archives.lock`: which versions a project uses, with their sha256, for `pull --locked`."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from entrepot.errors import Invalid, NotFound, Unavailable

FILE = "archives.lock"
SCHEMA = 1


class Locked(Struct, frozen=True, kw_only=True):
    """One archive at one version."""

    name: str
    version: str
    sha256: str


class _File(Struct, frozen=True, kw_only=True):
    schema: int = SCHEMA
    archives: tuple[Locked, ...] = ()


def load(path: Path) -> dict[str, Locked]:
    """What the file locks, by name. Raises `NotFound` without a file, `Invalid` for what is none."""
    try:
        held = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError as error:
        raise NotFound("there is no lock file", at=str(path), hint="`pull --lock` writes one") from error
    except msgspec.MsgspecError as error:
        raise Invalid(f"is no lock file: {error}", at=str(path), hint="`pull-list --lock` writes it anew") from error
    except OSError as error:
        raise Unavailable(error.strerror or repr(error), at=str(path)) from error
    if held.schema != SCHEMA:
        raise Invalid(f"has schema {held.schema}, and this entrepot knows {SCHEMA}", at=str(path))
    return {one.name: one for one in held.archives}


def save(path: Path, locked: Iterable[Locked]) -> None:
    """Write the file: what it held of these archives is replaced, all else stays. One archive stands on one line."""
    before = load(path) if path.exists() else {}
    after = before | {one.name: one for one in locked}
    lines = ",\n".join(f"  {msgspec.json.encode(one).decode()}" for _, one in sorted(after.items()))
    body = f'{{"schema": {SCHEMA}, "archives": [\n{lines}\n]}}\n'
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(body, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise Unavailable(error.strerror or repr(error), at=str(path)) from error
