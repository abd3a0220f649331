"""Where upstream may lead us, and where not."""

import pytest

from tests.e2e import raw
from tests.e2e.processes import free_port
from tests.e2e.servers import Options, Servers
from tests.mirror.asking import UNAVAILABLE, ask_page, download, fresh, names, path_of
from tests.mirror.conftest import CONFIG, NO_PROXY, Mirror, Mirrored
from tests.upstream.double import OTHER, Upstream
from tests.upstream.stock import Manner, wheel

ITEM = wheel("demo")


def test_a_relative_redirect_is_followed_and_the_page_read_from_there(mirror: Mirror, upstream: Upstream) -> None:
    item = wheel("demo", told={"url": "demo-1.0-py3-none-any.whl"})
    upstream.add("demo", item)
    server = mirror(prefetch="0")
    upstream.fault("/simple/demo/", redirect="../../mirrors/one/demo/", times=1)
    page = upstream.asked  # the double has nothing there but what the fault says
    upstream.fault("/mirrors/one/demo/", body=b'<a href="demo-1.0-py3-none-any.whl">demo-1.0-py3-none-any.whl</a>')
    upstream.fault("/mirrors/one/demo/*.whl", body=item.data)
    assert names(server, "demo") == {item.filename}
    assert download(server, "demo", item).body == item.data
    assert page("/mirrors/one/demo/demo-1.0-py3-none-any.whl")


def test_a_file_that_lies_elsewhere_on_the_same_host_is_fetched_from_there(always: Mirrored) -> None:
    name, store = fresh(), fresh("store")
    item = wheel(name)
    always.upstream.add(name, item)
    always.upstream.add(store, item)
    assert names(always.server, name)
    with always.upstream.fault(path_of(name, item), redirect=path_of(store, item)):
        assert download(always.server, name, item).body == item.data


@pytest.mark.parametrize("what", ["page", "file"])
def test_a_redirect_to_another_host_without_https_is_refused(always: Mirrored, what: str) -> None:
    name = fresh()
    item = wheel(name)
    always.upstream.add(name, item)
    path = f"/simple/{name}/"
    if what == "file":
        assert names(always.server, name)
        path = path_of(name, item)
    with always.upstream.fault(path, redirect=f"{always.upstream.other}{path}"):
        assert always.server.get(path).status in UNAVAILABLE
    assert always.upstream.asked(path, host=OTHER) == []


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://[", "//", "/simple/elsewhere/?again"]
)
def test_a_redirect_to_what_is_no_web_address_or_for_ever_is_refused(always: Mirrored, target: str) -> None:
    name = fresh()
    always.upstream.add(name, ITEM)
    with (
        always.upstream.fault(f"/simple/{name}/", redirect=target),
        always.upstream.fault("/simple/elsewhere/", redirect=target),
    ):
        always.upstream.forget()
        assert ask_page(always.server, name).status in UNAVAILABLE
        assert len(always.upstream.asked()) < 30


# Private networks.


@pytest.mark.parametrize("spelled", ["127.0.0.2", "127.2", "2130706434", "[::ffff:127.0.0.2]", "0x7f.0.0.2"])
def test_a_file_in_a_private_network_is_not_fetched_unless_that_is_configured(
    mirror: Mirror, upstream: Upstream, spelled: str
) -> None:
    upstream.add("demo", ITEM, manner=Manner(base=f"http://{spelled}:{upstream.port}", metadata="none"))
    server = mirror(private_addresses="false")
    answer = ask_page(server, "demo")
    # Upstream itself is configured by name. Whether it may lie on this machine is left open.
    assert answer.status == 200 or answer.status in UNAVAILABLE
    assert server.get(path_of("demo", ITEM)).status in UNAVAILABLE | {404}
    assert upstream.asked("/files/*") == []


def test_a_file_on_another_host_is_fetched_where_that_is_configured(shared: Mirrored) -> None:
    item = wheel("elsewhere")
    shared.upstream.add("elsewhere", item, manner=Manner(base=shared.upstream.other))
    assert download(shared.server, "elsewhere", item).body == item.data


# Ourselves.


def test_a_server_that_would_mirror_itself_is_refused(serve: Servers, tmp_path_factory: pytest.TempPathFactory) -> None:
    port = free_port()
    config = CONFIG.format(url=f"http://127.0.0.1:{port}/simple/", more="private-addresses = true")
    data = tmp_path_factory.mktemp("self") / "data"
    server = serve.prepare(Options(data=data, port=port, config=config, env=NO_PROXY))
    server.start()
    answer = server.get("/simple/demo/")
    assert answer.status in {*UNAVAILABLE, 508}
    asked = [request for request in server.requests() if request.path == "/simple/demo/"]
    assert 508 in {request.status for request in asked}
    assert len(asked) < 8


def test_a_request_that_has_passed_here_before_is_508(mirror: Mirror, upstream: Upstream) -> None:
    upstream.add("demo", ITEM)
    server = mirror()
    assert names(server, "demo")
    via = upstream.asked("/simple/demo/")[0].headers["via"]
    for given in (via, f"1.1 somebody, {via}", f"{via}, 1.0 another"):
        assert server.get("/simple/demo/", {"Via": given}).status == 508
    assert server.get("/simple/demo/", {"Via": "1.1 somebody"}).status == 200
    assert server.get("/simple/demo/", {"Via": "1.1 entrepot-another", "Accept": raw.JSON}).status == 200
