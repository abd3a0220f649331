"""Who owns what a store writes: whoever owns the folder that holds it, with that folder's mode.

So a command run as root beside a server leaves nothing that the server cannot read, and the mode of one
folder decides for everything in it, whatever the umask.
"""

import os
import pwd
import stat

from entrepot.errors import Unavailable

# A folder is made with the sticky bit and loses it when its name is durable in the folder above. So a
# second writer that finds it, or one that comes after a crash, knows that there is something left to do.
_UNFINISHED = stat.S_ISVTX | stat.S_IRWXU
_ATTEMPTS = 100


def refuse_strangers(root: str) -> os.stat_result:
    """The root folder's stat. Raises `Unavailable` if what we write there would belong to somebody else."""
    found = os.stat(root)
    euid = os.geteuid()
    if euid not in (0, found.st_uid):
        owner = _name(found.st_uid)
        raise Unavailable(
            f"this folder belongs to {owner}, who could not use what {_name(euid)} writes there",
            at=root,
            hint=f"run it as that user, for example with `sudo -u {owner}`",
        )
    return found


def adopt(fd: int, holder: os.stat_result) -> os.stat_result:
    """Give the open file the owner, group and mode of the folder that holds it; returns the stat it had before."""
    found = os.fstat(fd)
    _chown(fd, found, holder)
    wanted = file_mode(holder)
    if stat.S_IMODE(found.st_mode) != wanted:
        os.fchmod(fd, wanted)
    return found


def file_mode(holder: os.stat_result) -> int:
    return holder.st_mode & 0o666


def make_folder(folder: str, root: str) -> os.stat_result:
    """The folder's stat, after it and those above it were made durable where they were missing."""
    for _ in range(_ATTEMPTS):
        try:
            return _make_folder(folder, root)
        except FileNotFoundError:
            os.stat(root)
            continue  # a delete beside us removed a folder because it was empty
    raise Unavailable("this folder is removed again and again", at=folder)


def _make_folder(folder: str, root: str) -> os.stat_result:
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        holder = _make_folder(os.path.dirname(folder), root)
        try:
            os.mkdir(folder, _UNFINISHED)
        except FileExistsError:  # another writer was faster; whoever comes first finishes it
            found = os.stat(folder)
        else:
            return _finish_folder(folder, holder)
    if found.st_mode & stat.S_ISVTX and folder != root:
        found = _finish_folder(folder, os.stat(os.path.dirname(folder)))
    return found


def _finish_folder(folder: str, holder: os.stat_result) -> os.stat_result:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _chown(fd, os.fstat(fd), holder)
        sync_folder(os.path.dirname(folder))
        os.fchmod(fd, stat.S_IMODE(holder.st_mode) & ~stat.S_ISVTX)
        return os.fstat(fd)
    finally:
        os.close(fd)


def _chown(fd: int, found: os.stat_result, holder: os.stat_result) -> None:
    if (found.st_uid, found.st_gid) == (holder.st_uid, holder.st_gid):
        return
    gid = holder.st_gid
    if os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
        # Only root may give files to a group it is not in. `chown NAME folder` leaves such folders
        # everywhere, and the owner, which `refuse_strangers` has checked, is what counts.
        gid = found.st_gid
    if (found.st_uid, found.st_gid) != (holder.st_uid, gid):
        os.fchown(fd, holder.st_uid, gid)


def sync_folder(folder: str) -> None:
    """Make the names in the folder durable; if it is gone because it was empty, that it is gone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return sync_folder(os.path.dirname(folder))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # what sudo -u takes for a user without a name
