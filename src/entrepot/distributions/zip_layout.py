"""Whether the local headers of a ZIP archive tell the same as its central directory, byte after byte.

Then a reader of either sees the same members, and there is no room for bytes that only one of them sees
(the differentials behind PyPI's checks of 2025).
"""

from entrepot.distributions.zip_records import DESCRIPTOR, LocalHeader, Member
from entrepot.distributions.zips import Zip


def check(archive: Zip) -> None:
    """Notes what differs. Raises `Invalid` where there is no local header at all."""
    expected = 0
    for member in sorted(archive.members, key=lambda member: member.offset):
        archive.budget.tick()
        if member.flags & DESCRIPTOR:
            # The sizes stand behind the data then, where a streaming reader has to guess the end.
            archive.malformed("a member has a data descriptor", member.name)
            return
        if member.offset != expected:
            archive.malformed("there are bytes between members, or members overlap", member.name)
        header = archive.local(member)
        for difference in _differences(header, member):
            archive.malformed(difference, member.name)
        expected = member.offset + header.length + member.packed
    if expected != archive.end.offset:
        archive.malformed("there are bytes between the members and the central directory")


def _differences(header: LocalHeader, member: Member) -> list[str]:
    pairs = (
        ("names", header.raw, member.raw),
        ("flags", header.flags, member.flags),
        ("compression methods", header.method, member.method),
        ("checksums", header.crc, member.crc),
        ("packed sizes", header.packed, member.packed),
        ("sizes", header.size, member.size),
    )
    differing = [f"the local and the central {what} differ" for what, local, central in pairs if local != central]
    return header.faults + differing
