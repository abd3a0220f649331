"""OpenStack Swift with its S3 gate: a real object store without compare-and-swap."""

import getpass

from tests.e2e.processes import free_port
from tests.servers.processes import Family, answers

_HASH = """\
[swift-hash]
swift_hash_path_prefix = aa
swift_hash_path_suffix = bb
[storage-policy:0]
name = one
default = yes
"""

_STORAGE = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {here}
devices = {here}/srv
mount_check = false
disable_fallocate = true
log_level = ERROR
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
[{name}-replicator]
[{name}-auditor]
"""

_PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {here}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def start(family: Family) -> str:
    """Its endpoint, 5 s later. The key is test:tester, the secret testing."""
    here, user = family.folder, getpass.getuser()
    (here / "srv" / "d1").mkdir(parents=True)
    (here / "swift.conf").write_text(_HASH)
    for name in ("account", "container", "object"):
        port, builder = free_port(), f"{name}.builder"
        family.run(["swift-ring-builder", builder, "create", "4", "1", "0"])
        family.run(["swift-ring-builder", builder, "add", f"r1z1-127.0.0.1:{port}/d1", "1"])
        family.run(["swift-ring-builder", builder, "rebalance"])
        (here / f"{name}-server.conf").write_text(_STORAGE.format(name=name, port=port, here=here, user=user))
        family.start([f"swift-{name}-server", here / f"{name}-server.conf"])
    memcached, port = free_port(), free_port()
    family.start(["memcached", "-u", user, "-l", "127.0.0.1", "-p", str(memcached), "-m", "32"])
    (here / "proxy-server.conf").write_text(_PROXY.format(port=port, memcached=memcached, here=here, user=user))
    family.start(["swift-proxy-server", here / "proxy-server.conf"])
    endpoint = f"http://127.0.0.1:{port}"
    family.until(lambda: answers(f"{endpoint}/healthcheck"))
    return endpoint
