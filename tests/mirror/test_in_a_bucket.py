"""A mirror whose pages and files are kept in a bucket, for all nodes that share it."""

from tests.e2e.processes import until
from tests.e2e.raw import JSON
from tests.e2e.servers import Server, Servers
from tests.mirror.asking import download, fresh, metadata, names, path_of
from tests.mirror.conftest import NO_PROXY
from tests.servers.buckets import Bucket, moto
from tests.upstream.double import Upstream
from tests.upstream.stock import sdist, wheel

CONFIG = """
default = "upstream"
[store.main]
url = "{url}"
cache = {{ size = "1 GiB" }}
[store.main.options]
{options}
[index.upstream]
type = "mirror"
store = "main"
url = "{upstream}"
private-addresses = true
"""


def config(bucket: Bucket, url: str, upstream: Upstream) -> str:
    options = "\n".join(f'{key} = "{value}"' for key, value in bucket.options.items())
    return CONFIG.format(url=url, options=options, upstream=upstream.url)


def test_what_one_node_fetched_another_has_without_asking_upstream(serve: Servers, upstream: Upstream) -> None:
    bucket, name = moto(), fresh()
    url = bucket.fresh()
    text = config(bucket, url, upstream)
    built, source = wheel(name), sdist(name)
    upstream.add(name, built, source)
    one = serve(config=text, args=["--create"], env=NO_PROXY)
    assert names(one, name) == {built.filename, source.filename}
    for item in (built, source):
        assert download(one, name, item).body == item.data
    until(lambda: kept(one, name) == 2, what="both are kept")
    other = serve(config=text, env=NO_PROXY)
    assert download(other, name, built).body == built.data
    part = download(other, name, source, {"Range": "bytes=3-9"})
    assert (part.status, part.body) == (206, source.data[3:10])
    assert metadata(other, name, built).status == 200
    for item in (built, source):
        fetched = [seen for seen in upstream.asked(path_of(name, item), method="GET") if not seen.range]
        assert len(fetched) == 1
    one.command("check")


def kept(server: Server, name: str) -> int:
    """How many files of the project are kept."""
    answer = server.get(f"/local/{name}/", {"Accept": JSON})
    return len(answer.json()["files"]) if answer.status == 200 else 0
