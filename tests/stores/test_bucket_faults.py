"""What a node does when its object store fails: nothing acknowledged is lost, nothing happens twice, nobody hangs."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entrepot.access import Tokens
from entrepot.errors import Conflict, Invalid, NotFound, Unavailable
from entrepot.index import ABSENT, ANY, Store
from entrepot.sources.hosted import Hosted
from entrepot.stores import Remote, objects, open_store
from entrepot.stores.documents import Documents
from tests.servers.buckets import Bucket, azurite, moto, rgw
from tests.servers.faults import Proxy, proxied
from tests.sources.samples import DEMO, NOON, add, faults, wheel_name
from tests.stores.test_contract import content, keys

COUNT = "access/count"


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with proxied(rgw().endpoint) as proxy:
        yield proxy


def opened(bucket: Bucket, folder: Path, **options: str) -> Store:
    remote = Remote(folder=folder, name="main", options={**bucket.options, **options})
    return open_store(bucket.fresh(), remote, create=True)


@pytest.fixture
async def store(proxy: Proxy, tmp_path: Path) -> Store:
    from entrepot.threads import finished

    bucket = rgw()
    # In a thread: opening blocks, and the proxy is in this very loop.
    made = await finished(opened, bucket, tmp_path / "node", endpoint=proxy.endpoint)
    await made.prepare()  # type: ignore[attr-defined]
    return made


def counted(store: Store) -> Documents[bytes]:
    return Documents[bytes](store, encode=bytes, decode=lambda data, _: data)


# Writes whose answer is lost.


@pytest.mark.parametrize("kind", ["lost", "cut", "twice", "500", "503"])
async def test_a_change_happens_once_whatever_becomes_of_its_answer(store: Store, proxy: Proxy, kind: str) -> None:
    """Each change adds its own word, as an upload adds its own file, and recognises it."""
    documents = counted(store)

    async def append(word: bytes) -> None:
        def appended(held: bytes | None) -> bytes:
            words = (held or b"").split()
            return held if held is not None and word in words else b" ".join([*words, word])

        await documents.change(COUNT, appended)

    proxy.next(kind, "PUT", COUNT)  # type: ignore[arg-type]
    await append(b"first")  # expects nothing to be there
    proxy.next(kind, "PUT", COUNT)  # type: ignore[arg-type]
    await append(b"second")  # expects an etag
    assert await content(store, COUNT) == b"first second"
    assert proxy.done == [kind, kind]


@pytest.mark.parametrize("kind", ["lost", "twice", "503"])
async def test_an_upload_is_there_once_and_told_as_added(store: Store, proxy: Proxy, kind: str) -> None:
    hosted = Hosted("private", store)
    for path in ("names.json", "projects/demo.json"):
        proxy.next(kind, "PUT", path)  # type: ignore[arg-type]
    assert await add(hosted, wheel_name())
    assert [file.filename for file in (await hosted.project(DEMO)).files] == [wheel_name()]
    assert proxy.done == [kind, kind]
    assert await faults(store) == []


async def test_a_delete_whose_answer_is_lost_leaves_one_tombstone(store: Store, proxy: Proxy) -> None:
    hosted = Hosted("private", store)
    await add(hosted, wheel_name())
    proxy.next("lost", "PUT", "projects/demo.json")
    await hosted.remove(DEMO, frozenset({wheel_name()}), by="test", now=NOON)
    assert len(await hosted.removed(DEMO)) == 1


async def test_a_token_whose_answer_is_lost_is_made_once(store: Store, proxy: Proxy) -> None:
    tokens = Tokens(store)
    proxy.next("lost", "PUT", "tokens.json")
    _, made = await tokens.create("ci", can=("upload",), now=NOON)
    assert await tokens.list() == (made,)


async def test_a_condition_is_never_sent_twice_behind_our_back(store: Store, proxy: Proxy) -> None:
    proxy.next("503", "PUT", "a.json")
    with pytest.raises(Unavailable):
        await store.write("a.json", b"1", expect=ABSENT)
    assert [path for method, path in proxy.seen if method == "PUT" and "a.json" in path].__len__() == 1


@pytest.mark.parametrize("kind", ["500", "503", "cut"])
async def test_what_may_be_repeated_is(store: Store, proxy: Proxy, kind: str) -> None:
    proxy.next(kind, "PUT", "blob")  # type: ignore[arg-type]
    await store.write("blob", b"bytes", expect=ANY)
    proxy.next("503", "HEAD", "blob")
    assert (await store.stat("blob")).size == 5
    proxy.next("503", "GET", "blob")
    assert await content(store, "blob") == b"bytes"


# Failures that last.


async def test_a_store_that_fails_is_unavailable_and_nothing_is_absent(store: Store, proxy: Proxy) -> None:
    await store.write("a", b"1", expect=ANY)
    for method in ("HEAD", "GET", "PUT", "POST"):
        proxy.next("503", method, times=1000)
    for asked in (store.stat("a"), store.stat("nothing"), store.read("a"), store.write("b", b"", expect=ANY)):
        with pytest.raises(Unavailable):
            await asked
    with pytest.raises(Unavailable):
        await keys(store)


async def test_a_silent_store_is_unavailable_in_time(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PATIENCE", 0.2)
    for method in ("HEAD", "GET", "PUT"):
        proxy.next("silent", method, times=1000)
    for asked in (store.stat("a"), store.read("a"), store.write("b", b"", expect=ANY)):
        with pytest.raises(Unavailable, match="in time"):
            await asked
    proxy.release.set()


async def test_a_download_that_is_cut_never_ends_as_if_it_were_whole(store: Store, proxy: Proxy) -> None:
    data = os.urandom(3_000_000)
    await store.write("blob", data, expect=ANY)
    proxy.next("cut", "GET", "blob", times=1000)
    came = b""
    try:
        came = await content(store, "blob")
    except Unavailable:
        return
    assert came == data  # it was taken up where it broke off, again and again


async def test_a_large_upload_survives_failing_parts(store: Store, proxy: Proxy) -> None:
    data = os.urandom(12_000_000)
    for kind in ("503", "lost"):
        proxy.next(kind, "PUT", "partNumber=2")

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1_000_000):
            yield data[start : start + 1_000_000]

    await store.write("large", body(), expect=ANY)
    assert await content(store, "large") == data


# Wrong settings, said in words that help and tell no secret.


async def test_a_wrong_secret_is_told_and_not_printed(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="refuses us: 403 SignatureDoesNotMatch") as refused:
        opened(rgw(), tmp_path, secret_access_key="hunter2hunter2")
    assert "hunter2" not in str(refused.value)
    assert rgw().url in str(refused.value)


async def test_a_wrong_account_key_is_told_and_not_printed(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="refuses us: 403") as refused:
        opened(azurite(), tmp_path, account_key="aHVudGVyMmh1bnRlcjI=")
    assert "aHVudGVyMmh1" not in str(refused.value)


@pytest.mark.parametrize("server", [moto, rgw, azurite])
async def test_a_bucket_that_does_not_exist_is_named(server: object, tmp_path: Path) -> None:
    bucket: Bucket = server()  # type: ignore[operator]
    remote = Remote(folder=tmp_path, options=bucket.options)
    for create in (False, True):
        with pytest.raises(Unavailable, match="there is no such bucket") as refused:
            open_store(bucket.url + "-elsewhere", remote, create=create)
        assert bucket.url in str(refused.value)


async def test_a_bucket_without_a_store_is_refused_unless_it_is_to_be_made(tmp_path: Path) -> None:
    bucket, remote = rgw(), Remote(folder=tmp_path, options=rgw().options)
    url = bucket.fresh()
    with pytest.raises(Unavailable, match="serve --create"):
        open_store(url, remote, create=False)
    made = open_store(url, remote, create=True)
    assert open_store(url, remote, create=False).traits.id == made.traits.id
    assert open_store(url, remote, create=True).traits.id == made.traits.id


async def test_an_endpoint_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        opened(rgw(), tmp_path, endpoint="http://127.0.0.1:9")


async def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"store\.main\.options: .*'endpiont'"):
        opened(rgw(), tmp_path, endpiont="http://127.0.0.1:9")


@pytest.mark.parametrize("endpoint", ["localhost:9000", "http://", "http://a b", "ftp://a"])
async def test_what_is_no_address_is_named(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(Invalid, match=r"store\.main\.options\.endpoint: is no address"):
        opened(rgw(), tmp_path, endpoint=endpoint)


async def test_where_the_bucket_vanished_nothing_is_absent(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound):
        await store.stat("a")
    monkeypatch.setattr(objects, "_PROVEN", 0.0)
    await store._bucket.quick.delete_async("entrepot.json")  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="there is no store here"):
        await store.stat("a")


async def test_a_writer_that_comes_second_finds_out(store: Store) -> None:
    etag = await store.write("a", b"1", expect=ABSENT)
    await store.write("a", b"2", expect=etag)
    with pytest.raises(Conflict):
        await store.write("a", b"3", expect=etag)


# Credentials that stand elsewhere.


@pytest.mark.parametrize("credentials", [None, "boto3"])
async def test_credentials_may_come_from_the_environment(
    credentials: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = rgw()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.options["secret_access_key"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    options = {key: bucket.options[key] for key in ("endpoint", "region")}
    remote = Remote(folder=tmp_path, options=options, credentials=credentials)
    assert open_store(bucket.fresh(), remote, create=True).traits.id


async def test_a_provider_whose_package_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"store\.main\.credentials: azure needs a package that is missing"):
        open_store(azurite().fresh(), Remote(folder=tmp_path, name="main", credentials="azure"), create=True)


async def test_where_obstore_is_not_installed_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "entrepot.stores.objects")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(Invalid, match=r"needs the package obstore \(pip install 'entrepot\[objects\]'\)"):
        open_store("s3://bucket", Remote(folder=tmp_path), create=False)


@pytest.mark.parametrize("where", ["memory://", "file:///nowhere"])
async def test_options_of_buckets_are_refused_elsewhere(tmp_path: Path, where: str) -> None:
    with pytest.raises(Invalid, match="are for stores such as s3://"):
        open_store(where, Remote(folder=tmp_path, options={"region": "moon"}), create=False)
