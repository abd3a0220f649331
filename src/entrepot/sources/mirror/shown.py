"""What our page shows of upstream's files: what its page says, and what is known here besides."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from entrepot.model import File, Withheld
from entrepot.sources.mirror.companions import SMALL
from entrepot.sources.mirror.kept import agree
from entrepot.wire import filenames, legacy_json


class More(NamedTuple):
    """What is known here of a project's files beside upstream's page, by filename."""

    origin: str
    kept: Mapping[str, File]
    made: Mapping[str, str]  # hashes of metadata
    told: Mapping[str, legacy_json.Told]
    seen: Mapping[str, datetime | None]
    ranged: bool  # metadata can be made of any wheel

    def of(self, file: File) -> File:
        """The file as our page shows it. Built anew, not by `replace`, which takes three times as long."""
        filename = file.filename
        told = self.told.get(filename)
        kept = self.kept.get(filename)
        if kept is not None and not agree(kept, file):
            kept = None
        return File(
            filename=filename,
            version=file.version,
            size=file.size if file.size is not None else _size(kept, told),
            hashes=file.hashes or (kept.hashes if kept is not None else {}),
            uploaded=file.uploaded or (told.uploaded if told is not None else None) or self.seen.get(filename),
            requires_python=file.requires_python,
            yanked=file.yanked,
            core_metadata=self._companion(file, kept),
            provenance=file.provenance,
            gpg_sig=file.gpg_sig,
            legacy=file.legacy,
            by=file.by,
            origin=self.origin,
        )

    def _companion(self, file: File, kept: File | None) -> Mapping[str, str] | bool:
        """What the page says of its metadata: the hash once it is here, else whether it will be there in time."""
        if kept is not None:
            return kept.core_metadata
        if not file.is_wheel:
            return False
        made = self.made.get(file.filename)
        if made is not None:
            return {"sha256": made}
        return self.ranged or bool(file.core_metadata) or (file.size is not None and file.size < SMALL)


def _size(kept: File | None, told: legacy_json.Told | None) -> int | None:
    if kept is not None:
        return kept.size
    return told.size if told is not None else None


def without(files: tuple[File, ...], unusable: Mapping[str, str]) -> tuple[tuple[File, ...], tuple[Withheld, ...]]:
    """The files that have metadata, and the others with the reason why not."""
    held = tuple(
        Withheld(file=file, why=f"its metadata cannot be used: {unusable[file.filename]}")
        for file in files
        if file.filename in unusable
    )
    return tuple(file for file in files if file.filename not in unusable), held


def likely(files: tuple[File, ...], most: int) -> tuple[File, ...]:
    """Wheels of the newest version whose metadata will probably be asked for first.

    Of that version alone: a resolver seldom asks for an older one, and each request upstream takes time from the client
    that waits for others.
    """
    newest = _newest(files)
    wheels = [file for file in files if file.version == newest and file.is_wheel]
    pure = [file for file in wheels if file.filename.endswith("-none-any.whl")]
    chosen = pure or [file for file in wheels if "x86_64" in file.filename and "linux" in file.filename]
    return tuple(chosen[-most:]) if most else ()


def _newest(files: tuple[File, ...]) -> str | None:
    """The newest final version that has a wheel; the newest pre-release where there is none."""
    found = None
    for file in reversed(files):
        if file.is_wheel and file.yanked is None:
            if filenames.is_final(file.version):
                return file.version
            found = found or file.version
    return found
