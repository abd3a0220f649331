"""The configuration of nodes that share a bucket."""

from tests.servers.buckets import Bucket

CONFIG = """
default = "private"
[store.main]
url = "{url}"
{more}
[store.main.options]
{options}
[index.private]
type = "hosted"
store = "main"
"""


def config(bucket: Bucket, url: str, more: str = "", **options: str) -> str:
    """`more` stands in the [store.main], `options` in place of those that the bucket is opened with."""
    said = {**bucket.options, **options}
    return CONFIG.format(url=url, more=more, options="\n".join(f'{key} = "{value}"' for key, value in said.items()))
