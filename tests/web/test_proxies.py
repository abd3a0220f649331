"""Whose word about the client is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import Invalid
from entrepot.web.proxies import Proxies

ADDRESSES = st.ip_addresses().map(str)


def test_nobody_is_trusted_unless_named() -> None:
    proxies = Proxies(())
    assert not proxies.trusts("127.0.0.1")
    assert proxies.client("127.0.0.1", "10.0.0.1") == "127.0.0.1"
    assert proxies.base("127.0.0.1", {"host": "a", "x-forwarded-host": "b"}, scheme="http") == "http://a"


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "192.0.2.7"])
def test_networks_and_addresses_of_both_families_are_trusted(peer: str) -> None:
    assert Proxies(("10.0.0.0/8", "fd00::/8", "192.0.2.7")).trusts(peer)


@pytest.mark.parametrize(
    "peer", ["11.1.2.3", "::1", "unix", "", "10.0.0", "10.0.0.1.evil", "::ffff:11.0.0.1", "010.0.0.1"]
)
def test_others_are_not(peer: str) -> None:
    assert not Proxies(("10.0.0.0/8", "fd00::/8", "192.0.2.7")).trusts(peer)


def test_what_is_no_network_is_an_error_that_says_so() -> None:
    with pytest.raises(Invalid, match=r"10\.0\.0\.0/99"):
        Proxies(("10.0.0.0/99",))


@given(
    client=ADDRESSES, lies=st.lists(ADDRESSES | st.text(st.characters(exclude_characters=","), max_size=8), max_size=4)
)
def test_whatever_a_client_claims_our_proxy_tells_where_it_comes_from(client: str, lies: list[str]) -> None:
    proxies = Proxies(("10.0.0.1",))
    if proxies.trusts(client):
        return
    assert proxies.client("10.0.0.1", ", ".join([*lies, client])) == client
    assert proxies.client(client, ", ".join(lies)) == client
