"""One Ceph cluster in memory, a monitor and a store, with its S3 gateway."""

import uuid

from tests.e2e.processes import free_port
from tests.servers.processes import Family, answers

_CONF = """\
[global]
fsid = {fsid}
mon host = 127.0.0.1:{mon}
mon initial members = a
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv4 = true
ms bind ipv6 = false
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
mon allow pool delete = true
mon allow pool size one = true
mon max pg per osd = 1000
osd pool default pg autoscale mode = off
run dir = {here}/run
log file = {here}/log/$name.log
admin socket = {here}/run/$name.asok
pid file = {here}/run/$name.pid
[mon.a]
host = localhost
mon addr = 127.0.0.1:{mon}
mon data = {here}/mon
[osd.0]
host = localhost
osd data = {here}/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{gate} tcp_nodelay=1
rgw thread pool size = 32
rgw enable usage log = false
rgw gc obj min wait = 60
keyring = {here}/none
"""


def start(family: Family) -> str:
    """Its endpoint, 12 s later. The key is testkey, the secret testsecret."""
    here, mon, gate, fsid = family.folder, free_port(), free_port(), str(uuid.uuid4())
    for name in ("mon", "osd", "run", "log"):
        (here / name).mkdir()
    conf = here / "ceph.conf"
    conf.write_text(_CONF.format(fsid=fsid, mon=mon, gate=gate, here=here))
    (here / "keyring").touch()
    known = {"CEPH_CONF": str(conf)}
    address = f"[v1:127.0.0.1:{mon}]"
    family.run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, here / "monmap"])
    family.run(["ceph-mon", "--mkfs", "-i", "a", "--monmap", here / "monmap", "--keyring", here / "keyring"], **known)
    family.start(["ceph-mon", "-i", "a", "-f"], **known)
    osd = str(uuid.uuid4())
    family.run(["ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd], **known)
    family.run(["ceph", "osd", "new", osd, "0"], **known)
    family.start(["ceph-osd", "-i", "0", "-f"], **known)
    family.run(["ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost"], **known)
    family.until(lambda: " 1 up" in family.run(["ceph", "osd", "stat"], **known))
    family.run(
        ["radosgw-admin", "user", "create", "--uid=test", "--display-name=test", "--access-key=testkey",
         "--secret-key=testsecret"], **known,
    )  # fmt: skip
    family.start(["radosgw", "-n", "client.rgw", "-f"], **known)
    endpoint = f"http://127.0.0.1:{gate}"
    family.until(lambda: answers(endpoint))
    return endpoint
