"""tycho's layout: `<name>/tycho.json` and `<name>/tycho_<version>.pkg`, so that both tools can work on one bucket.

A version is there if its file is. What tycho does not know, such as the sha256, stands in a member `entrepot` of
`tycho.json`, which tycho keeps as it is.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from entrepot.archives.claims import claimed
from entrepot.archives.listing import folder_of, folders
from entrepot.archives.model import (
    IN_ONE_REQUEST,
    LATEST,
    Archive,
    Offer,
    Summary,
    Version,
    check_apart,
    check_channel,
    check_localname,
    check_name,
    check_version,
    exists,
    held,
    missing,
    ordered,
    unknown,
)
from entrepot.errors import Conflict, NotFound, Unavailable
from entrepot.index import ABSENT, ANY, Content, Entry, Span, Store
from entrepot.stores.collecting import digest_of
from entrepot.stores.documents import Documents

_AT_ONCE = 16  # records that are read at once for a list
_REMEMBERED = 256
_OURS = "entrepot"
_SCHEMA = 1  # of that member


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What we know of a version beyond its file. If the file was replaced since, pull and verify say so."""

    size: int
    sha256: str
    uploaded: datetime
    by: str | None = None
    filename: str | None = None


class Ours(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The member of `tycho.json` that is ours."""

    schema: int = _SCHEMA
    channels: dict[str, str] = {}  # those besides `latest`
    versions: dict[str, Facts] = {}


class Meta(Struct, frozen=True, kw_only=True):
    """`tycho.json`: the two members of tycho, ours, and all others as they are."""

    members: dict[str, Any]
    ours: Ours = Ours()

    @property
    def localname(self) -> str | None:
        found = self.members.get("localname")
        return found if isinstance(found, str) else None

    @property
    def channels(self) -> dict[str, str]:
        latest = self.members.get("latest")
        return {**({LATEST: latest} if isinstance(latest, str) and latest else {}), **self.ours.channels}

    def pointing(self, channel: str, version: str | None) -> "Meta":
        """With the channel at the version, or nowhere; itself if it points there."""
        if self.channels.get(channel) == version:
            return self
        if channel == LATEST:
            return Meta(members={**self.members, LATEST: version}, ours=self.ours)
        channels = {name: to for name, to in self.ours.channels.items() if name != channel}
        channels |= {channel: version} if version is not None else {}
        return Meta(members=self.members, ours=Ours(channels=channels, versions=self.ours.versions))

    def knowing(self, version: str, facts: Facts | None) -> "Meta":
        """With what is known of the version, or without; itself if that is so."""
        if self.ours.versions.get(version) == facts:
            return self
        versions = {text: known for text, known in self.ours.versions.items() if text != version}
        versions |= {version: facts} if facts is not None else {}
        return Meta(members=self.members, ours=Ours(channels=self.ours.channels, versions=versions))


Change = Callable[[Meta], Meta]


def begun(localname: str) -> Meta:
    return Meta(members={"localname": localname, "latest": None})


def encode(meta: Meta) -> bytes:
    """The bytes that tycho writes for these members; ours is left out while it is empty."""
    members = {name: value for name, value in meta.members.items() if name != _OURS}
    if meta.ours != Ours():
        members[_OURS] = msgspec.to_builtins(meta.ours)
    return json.dumps(members, indent=2).encode()


def decode(data: bytes, at: str) -> Meta:
    """Raises `Unavailable` for what tycho could not read either."""
    try:
        members = msgspec.convert(json.loads(data), dict[str, Any])
        meta = Meta(members=members, ours=msgspec.convert(members.get(_OURS, {}), Ours))
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        hint = 'it should hold {"localname": "…", "latest": null}'
        raise Unavailable(f"it cannot be read: {error}", at=at, hint=hint) from error
    if meta.ours.schema != _SCHEMA:
        words = f"its member {_OURS} has schema {meta.ours.schema}, and this entrepot knows schema {_SCHEMA}"
        raise Unavailable(words, at=at, hint="run a newer entrepot")
    return meta


class TychoArchives:
    """The packages in a store that tycho works on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._metas = Documents[Meta](store, encode=encode, decode=decode, remember=_REMEMBERED)

    async def summaries(self) -> AsyncIterator[Summary]:
        """Every first-level prefix, also without `tycho.json`."""
        waiting: list[str] = []
        async for entry in folders(self.store, ""):
            waiting.append(folder_of(entry, ""))
            if len(waiting) == _AT_ONCE:
                for summary in await asyncio.gather(*map(self._summary, waiting)):
                    yield summary
                waiting.clear()
        for summary in await asyncio.gather(*map(self._summary, waiting)):
            yield summary

    async def archive(self, name: str) -> Archive:
        check_name(name)
        meta, entries = await asyncio.gather(self._metas.load(_meta_key(name)), self._entries(name))
        if meta is None and not entries and not await self._is_folder(name):
            raise unknown(name)
        known = meta or Meta(members={})
        versions = {text: _version(text, entry, known) for text, entry in entries.items()}
        return Archive(name=name, localname=known.localname, channels=known.channels, versions=ordered(versions))

    async def init(self, name: str, localname: str) -> bool:
        check_name(name)
        check_localname(localname)
        fresh = begun(localname)

        def made(meta: Meta | None) -> Meta:
            if meta is not None and meta.localname != localname:
                raise Conflict(f"Already Initialized: {name}", hint=f"its local name is {meta.localname}")
            return meta or fresh

        return await self._metas.change(_meta_key(name), made) is fresh

    async def push(self, name: str, version: str, offer: Offer, *, channel: str | None = None) -> bool:
        _check_push(name, version, offer, channel)
        await self._check_apart(name, channel, version)
        added = False
        if not await self._has(name, version, offer):
            async with claimed(self.store, _claim_key(name, version), name, version, offer):
                if added := not await self._has(name, version, offer):  # whoever had the claim before may have come far
                    await self._write(name, version, offer)
        facts = Facts(size=offer.size, sha256=offer.sha256, uploaded=offer.now, by=offer.by, filename=offer.filename)

        def pushed(meta: Meta | None) -> Meta:
            known = meta or begun(offer.filename)
            before = known.ours.versions.get(version)
            if added or before is None or before.sha256 != offer.sha256:
                known = known.knowing(version, facts)
            return known if channel is None else known.pointing(channel, version)

        await self._metas.change(_meta_key(name), pushed)
        return added

    async def promote(self, name: str, channel: str, version: str) -> None:
        check_channel(channel)
        if await self._stat(name, version) is None:
            raise missing(name, version)
        check_apart(Summary(name=name), set(await self._entries(name)), channel=channel)

        def promoted(meta: Meta | None) -> Meta:
            if meta is None:
                hint = f"`entrepot archive init {name} FILENAME` says what pull calls the file"
                raise NotFound(f"{name} has no tycho.json", hint=hint)
            return meta.pointing(channel, version)

        await self._metas.change(_meta_key(name), promoted)

    async def remove(self, name: str, version: str, *, by: str | None, now: datetime) -> None:  # noqa: ARG002
        archive = await self.archive(name)
        if version in archive.channels:
            await self._change(name, lambda meta: meta.pointing(version, None))
            return
        archive.version(version)
        if channels := archive.channels_at(version):
            raise held(name, version, channels)
        await self.store.delete(_file_key(name, version), expect=ANY)
        await self._change(name, lambda meta: meta.knowing(version, None))

    async def open(self, name: str, version: Version, span: Span | None = None) -> Content:
        entry = await self._stat(name, version.version)
        if entry is None:
            raise missing(name, version.version)
        if _etag(entry) != version.etag:
            raise Conflict(f"version {version.version} of {name} was replaced since it was looked up", hint="try again")
        return await self.store.read(entry.key, span)

    async def _summary(self, name: str) -> Summary:
        meta = await self._metas.load(_meta_key(name)) or Meta(members={})
        return Summary(name=name, localname=meta.localname, channels=meta.channels)

    async def _change(self, name: str, change: Change) -> None:
        """Change what there is; without `tycho.json` there is nothing to change."""
        if await self._metas.load(_meta_key(name)) is not None:
            await self._metas.change(_meta_key(name), lambda meta: change(meta or Meta(members={})))

    async def _entries(self, name: str) -> Mapping[str, Entry]:
        """The file of each version."""
        prefix = f"{name}/tycho_"
        found = {}
        async for entry in self.store.list(prefix):
            if entry.key.endswith(".pkg"):
                found[entry.key.removeprefix(prefix).removesuffix(".pkg")] = entry
        return found

    async def _is_folder(self, name: str) -> bool:
        async for _ in self.store.list(f"{name}/"):
            return True
        return False

    async def _stat(self, name: str, version: str) -> Entry | None:
        try:
            return await self.store.stat(_file_key(name, version))
        except NotFound:  # and nothing else: a refusal is not absence
            return None

    async def _check_apart(self, name: str, channel: str | None, version: str) -> None:
        summary = await self._summary(name)
        versions = set(await self._entries(name)) if channel not in {None, LATEST} else set()
        check_apart(summary, versions, channel=channel, version=version)

    async def _has(self, name: str, version: str, offer: Offer) -> bool:
        """Whether these bytes are there. Raises `Conflict` if others are."""
        entry = await self._stat(name, version)
        if entry is None:
            return False
        meta = await self._metas.load(_meta_key(name)) or Meta(members={})
        facts = meta.ours.versions.get(version)
        if entry.size != offer.size:
            raise exists(name, version)
        if facts is not None and facts.size == entry.size:
            known = facts.sha256
        else:
            known = await digest_of(await self.store.read(entry.key))
        if known != offer.sha256:
            raise exists(name, version)
        return True

    async def _write(self, name: str, version: str, offer: Offer) -> None:
        # Large files go in parts, which no bucket makes conditional: there the claim alone keeps others away.
        expect = ABSENT if offer.size <= IN_ONE_REQUEST else ANY
        try:
            await self.store.write(_file_key(name, version), offer.body(), expect=expect)
        except Conflict:
            if not await self._has(name, version, offer):
                raise


def _check_push(name: str, version: str, offer: Offer, channel: str | None) -> None:
    check_name(name)
    check_version(version)
    check_localname(offer.filename)
    if channel is not None:
        check_channel(channel)


def _version(text: str, entry: Entry, meta: Meta) -> Version:
    facts = meta.ours.versions.get(text)
    modified = datetime.fromtimestamp(entry.modified, UTC)
    if facts is None:
        return Version(version=text, size=entry.size, uploaded=modified, etag=_etag(entry))
    return Version(
        version=text, size=entry.size, sha256=facts.sha256, uploaded=facts.uploaded, by=facts.by,
        filename=facts.filename, etag=_etag(entry),
    )  # fmt: skip


def _etag(entry: Entry) -> str:
    """As S3 sends it: with its quotes."""
    return '"' + entry.etag.strip('"') + '"'


def _meta_key(name: str) -> str:
    return f"{name}/tycho.json"


def _file_key(name: str, version: str) -> str:
    return f"{name}/tycho_{version}.pkg"


def _claim_key(name: str, version: str) -> str:
    """Not in the listing of versions, whatever the version is, and short enough."""
    return f"{name}/.claims/{hashlib.sha256(version.encode()).hexdigest()}"
