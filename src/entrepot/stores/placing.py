"""How an object comes into a disk store and out of it: the order of these calls is the promise.

The bytes are durable before the name appears, the name before the caller hears of it; so a crash between
any two calls leaves the old object or the new one, and at most a file in `staging` to be swept. All of
this is blocking, and one call is all that a write needs.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from entrepot.errors import Conflict, Invalid, Unavailable
from entrepot.index import ABSENT, ANY, Etag, Expect, Staged
from entrepot.stores import changes, failures, identity, staging
from entrepot.stores.entries import etag_of, is_object, require_expected
from entrepot.stores.ownership import make_folder, refuse_strangers, sync_folder
from entrepot.stores.staging import StagingFile
from entrepot.stores.stripes import Lock, locked, remember, renew

_TRASH_FOR = 600.0  # seconds for which a file that was found may still be opened by its path
_COPY = 1024 * 1024  # bytes at a time
_ATTEMPTS = 100


def put(root: str, key: str, body: bytes | Staged, expect: Expect) -> Etag:
    """Write the object; returns when it is durable."""
    with failures.translated(failures.while_writing, key, root):
        holder = _writable(root)
        folder = os.path.dirname(f"{root}/{key}")
        with _staged(root, key, body, make_folder(folder, root)) as staged:
            etag = _commit(root, key, staged, expect, holder)
            sync_folder(folder)
            return etag


def put_all(root: str, bodies: Mapping[str, bytes | Staged]) -> None:
    """Write the objects, whatever is there; returns when all are durable. One fsync for each folder."""
    with failures.translated(failures.while_writing, "", root):
        holder = _writable(root)
    folders: dict[str, os.stat_result] = {}
    for key, body in bodies.items():
        folder = os.path.dirname(f"{root}/{key}")
        with failures.translated(failures.while_writing, key, root):
            if folder not in folders:
                folders[folder] = make_folder(folder, root)
            with _staged(root, key, body, folders[folder]) as staged:
                _commit(root, key, staged, ANY, holder)
    for folder in folders:
        with failures.translated(failures.while_writing, folder, root):
            sync_folder(folder)


def begin(root: str, key: str) -> StagingFile:
    """An empty file that will be put under `key`."""
    with failures.translated(failures.while_writing, key, root):
        _writable(root)
        return staging.create(f"{root}/staging", make_folder(os.path.dirname(f"{root}/{key}"), root))


def commit(root: str, key: str, staged: StagingFile, expect: Expect) -> Etag:
    """Put a complete staging file under its key."""
    with failures.translated(failures.while_writing, key, root):
        etag = _commit(root, key, staged, expect, os.stat(root))
        # After the lock: whoever follows us there makes our name durable together with its own.
        sync_folder(os.path.dirname(f"{root}/{key}"))
        return etag


def _commit(root: str, key: str, staged: StagingFile, expect: Expect, holder: os.stat_result) -> Etag:
    """The same, but the name is durable only when its folder is synced. `holder` is the stat of `root`."""
    target = f"{root}/{key}"
    with failures.translated(failures.while_writing, key, root):
        os.fsync(staged.fd)
        with locked(root, key, holder) as lock:
            existing = _existing(target)
            if existing is not None and not is_object(existing):
                raise Conflict("this is a folder of other keys", at=key)
            require_expected(key, expect, None if existing is None else etag_of(existing))
            found = renew(staged.fd, _latest(staged, lock, existing))
            if existing is not None and os.path.samestat(existing, found):
                os.fsync(staged.fd)  # the same file under both names, which a rename leaves alone: a new time
            else:
                _place(root, staged, target, only_if_absent=expect is ABSENT)
            changes.tell(root, key, holder)
        return etag_of(found)


def _latest(staged: StagingFile, lock: Lock, existing: os.stat_result | None) -> int:
    """The latest modification time that the key ever had, in any of its etags."""
    latest = lock.mtime_ns if existing is None else max(lock.mtime_ns, existing.st_mtime_ns)
    # A file of our own making was never under the key, and its own time tells nothing.
    return max(latest, os.fstat(staged.fd).st_mtime_ns) if staged.linked else latest


def discard(root: str, key: str, expect: Expect) -> None:
    """Move the object to the trash."""
    target = f"{root}/{key}"
    with failures.translated(failures.while_writing, key, root):
        holder = _writable(root)
        with locked(root, key, holder) as lock:
            existing = _existing(target)
            if existing is None or not is_object(existing):
                require_expected(key, expect, None)
                return
            require_expected(key, expect, etag_of(existing))
            remember(lock, existing)
            os.rename(target, staging.new_name(f"{root}/trash"))
            changes.tell(root, key, holder)
        folder = os.path.dirname(target)
        sync_folder(folder)
        _prune(root, folder)


def sweep_trash(root: str, now: float) -> None:
    for entry in list(os.scandir(f"{root}/trash")):
        with suppress(FileNotFoundError):
            # A rename renews the ctime, so it tells when the file came here.
            old = now - entry.stat(follow_symlinks=False).st_ctime > _TRASH_FOR
            if old and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)


def _writable(root: str) -> os.stat_result:
    """The stat of the root. Raises `Unavailable` if we must not write there."""
    holder = refuse_strangers(root)
    identity.require(root)  # or we would fill the empty folder where a disk should be mounted
    return holder


@contextmanager
def _staged(root: str, key: str, body: bytes | Staged, folder: os.stat_result) -> Iterator[StagingFile]:
    """The body in `staging`. `folder` is the stat of the one that it will lie in."""
    if isinstance(body, Staged) and body.held is None:
        with _taken_over(root, key, body, folder) as staged:
            yield staged
        return
    data = body if isinstance(body, bytes) else body.held
    assert data is not None
    with staging.create(f"{root}/staging", folder) as staged:
        staged.write(data)
        yield staged


@contextmanager
def _taken_over(root: str, key: str, body: Staged, holder: os.stat_result) -> Iterator[StagingFile]:
    """The staged file under a name of our own, or a verified copy where it cannot have two names."""
    folder = f"{root}/staging"
    try:
        linked = staging.link(folder, body.path, holder)
    except FileNotFoundError as error:
        raise Invalid(f"the staged file {body.path} is gone", at=key) from error
    with linked or staging.create(folder, holder) as staged:
        sha256 = body.sha256 if linked else _copy(body.path, staged)
        size = os.fstat(staged.fd).st_size
        if size != body.size:
            raise Invalid(f"the staged file has {size} bytes and not {body.size}", at=key)
        if sha256 != body.sha256:
            raise Invalid(f"the staged file has sha256 {sha256} and not {body.sha256}", at=key)
        yield staged


def _copy(source: Path, staged: StagingFile) -> str:
    """Copies the file; returns the sha256 of what was copied."""
    digest = hashlib.sha256()
    with open(source, "rb", buffering=0) as file:
        while piece := file.read(_COPY):
            digest.update(piece)
            staged.write(piece)
    return digest.hexdigest()


def _existing(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _place(root: str, staged: StagingFile, target: str, *, only_if_absent: bool) -> None:
    name = staged.name
    assert name is not None
    for _ in range(_ATTEMPTS):
        try:
            if only_if_absent:
                os.link(name, target)  # fails where a name is, also one that no lock knows of
            else:
                os.rename(name, target)
                staged.name = None
            return
        except FileNotFoundError:
            # The folder was empty, and a delete beside us removed it.
            identity.require(root)
            make_folder(os.path.dirname(target), root)
    raise Unavailable("the staged file or its folder is removed again and again", at=target)


def _prune(root: str, folder: str) -> None:
    """Remove the folders that a delete left empty, but none at the top, whose mode somebody may have set."""
    while os.path.dirname(folder) != root and folder != root:
        try:
            os.rmdir(folder)
        except OSError:
            return  # not empty, or gone, or not ours to remove: nothing depends on it
        folder = os.path.dirname(folder)
