"""Who may read and who may write: 401, 403, 404, and nothing that tells more."""

import base64
from datetime import timedelta

import pytest

from tests.e2e.raw import basic
from tests.web.fronts import JSON, PIP, Front, fresh, wheel

READS = ("/simple/{}/", "/files/{}/{}", "/files/{}/{}.metadata", "/pypi/{}/json", "/pypi/{}/1.0/json")


def reads(index: str, name: str) -> list[str]:
    return [index + target.format(name, wheel(name).filename) for target in READS]


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": basic(token)}


@pytest.fixture
def secret(front: Front) -> str:
    """A project of the index that is read with a token."""
    name = fresh("secret")
    front.publish(wheel(name), index="/secret")
    return name


# Writing.


def test_no_token_is_401_with_a_challenge(front: Front) -> None:
    name = fresh()
    answer = front.upload(wheel(name).form(), token="")
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="entrepot", charset="UTF-8"'
    assert "this needs a token" in answer.text
    assert front.filenames(name) == []


@pytest.mark.parametrize(
    "token",
    [
        "entrepot_0123456789ab_" + "x" * 43,
        "entrepot__",
        "entrepot_" + "_" * 1000,
        "pypi-AgEIcHlwaS5vcmc",
        "hunter2",
        "x" * 40_000,
        "\x00",
        "entrepot_é_é",
    ],
)
def test_a_wrong_token_is_401_saying_so(front: Front, token: str) -> None:
    answer = front.upload(wheel(fresh()).form(), token=token)
    assert answer.status == 401
    assert "www-authenticate" in answer.headers
    assert "not known here" in answer.text
    assert token not in answer.text.replace("token", "")


def test_a_token_with_another_secret_is_401(front: Front) -> None:
    token = front.token("upload")
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in (changed, token[:-1], token + "A", token.upper(), token + " ", " " + token):
        assert front.upload(wheel(fresh()).form(), token=wrong).status == 401


def test_an_expired_token_is_401_saying_when_it_ended(front: Front) -> None:
    token = front.token("upload", lifetime=timedelta(seconds=-1))
    answer = front.upload(wheel(fresh()).form(), token=token)
    assert answer.status == 401
    assert "expired at 2" in answer.text


def test_a_revoked_token_is_401_at_once(front: Front) -> None:
    name = fresh("robot")
    token = front.token("upload", name=name)
    file = wheel(fresh())
    assert front.upload(file.form(), token=token).status == 200
    front.manage(lambda assembled: assembled.tokens.revoke(name))
    assert front.upload(file.form(), token=token).status == 401


def test_a_token_that_may_only_read_is_403(front: Front) -> None:
    name = fresh()
    answer = front.upload(wheel(name).form(), token=front.token("read", name="reader"))
    assert answer.status == 403
    assert "reader may not upload to index root" in answer.text
    assert "www-authenticate" not in answer.headers
    assert front.filenames(name) == []


def test_a_token_for_another_index_is_403(front: Front) -> None:
    token = front.token("upload", indexes=("secret",))
    assert front.upload(wheel(fresh()).form(), token=token).status == 403
    assert front.upload(wheel(fresh()).form(), token=token, index="/secret").status == 200
    # Granted on the virtual index or on the hosted one behind it: both mean the same place.
    for granted in ("root", "private"):
        assert front.upload(wheel(fresh()).form(), token=front.token("upload", indexes=(granted,))).status == 200


def test_a_token_for_another_project_is_403_whatever_the_file_is(front: Front) -> None:
    token = front.token("upload", projects=("acme-*",))
    name = fresh()
    good, bad = wheel(name), wheel(name, files={"x": b""}).form(sha256_digest="0" * 64)
    for form in (good.form(), bad):
        answer = front.upload(form, token=token)
        assert answer.status == 403
        assert "may not upload to project" in answer.text
        assert "digest" not in answer.text  # to strangers a refusal tells nothing of the file
    assert front.upload(wheel(fresh("acme-")).form(), token=token).status == 200
    assert front.staging == []


def test_the_form_cannot_name_another_project_than_the_file(front: Front) -> None:
    token = front.token("upload", projects=("acme-*",))
    form = wheel(fresh()).form(name="acme-tools")
    assert front.upload(form, token=token).status == 403


@pytest.mark.parametrize("user", ["__token__", "", "anyone", "a b"])
def test_the_user_of_basic_credentials_does_not_matter(front: Front, user: str) -> None:
    encoded = base64.b64encode(f"{user}:{front.uploader}".encode()).decode()
    for scheme in ("Basic", "basic", "BASIC"):
        headers = {"Authorization": f"{scheme} {encoded}"}
        assert front.upload(wheel(fresh()).form(), token="", headers=headers).status == 200


def test_a_bearer_token_is_as_good(front: Front) -> None:
    headers = {"Authorization": f"Bearer {front.uploader}"}
    assert front.upload(wheel(fresh()).form(), token="", headers=headers).status == 200


@pytest.mark.parametrize(
    "credentials",
    ["Basic", "Basic ", "Basic !!!", "Basic YQ", "Basic YTpi=", "Digest username=x", "Bearer", "Bearer ", "", "x", "Basic " + "A" * 40_001,
     "Basic " + base64.b64encode(b"no colon").decode(), "Basic " + base64.b64encode(b"a:\xff\xfe").decode()],
)  # fmt: skip
def test_credentials_that_cannot_be_read_are_401_and_never_500(front: Front, credentials: str) -> None:
    answer = front.upload(wheel(fresh()).form(), token="", headers={"Authorization": credentials})
    assert answer.status == 401
    assert "www-authenticate" in answer.headers


# Reading.


def test_a_guarded_index_asks_for_credentials(front: Front, secret: str) -> None:
    for index in ("/secret", "/mixed"):  # a virtual index does not show what its member hides
        for target in (f"{index}/simple/", *reads(index, secret), *reads(index, "nobody-has-this")):
            for accept in (PIP, "text/html"):
                answer = front.get(target, {"Accept": accept})
                assert answer.status == 401, target
                assert "www-authenticate" in answer.headers
                assert secret not in answer.text
                assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("can", ["read", "upload", "build", "manage"])
def test_a_token_that_may_read_gets_it(front: Front, secret: str, can: str) -> None:
    token = front.token(can)  # type: ignore[arg-type]
    for target in ("/secret/simple/", *reads("/secret", secret)):
        for _ in range(2):
            answer = front.get(target, bearing(token))
            assert answer.status == 200, target
            assert answer.headers["cache-control"].startswith("private, ")


def test_a_guarded_answer_is_private_even_if_all_may_have_it(front: Front, secret: str) -> None:
    name = fresh()
    front.publish(wheel(name))
    token = front.token("read")
    for target in ("/simple/", *reads("", name)):
        for _ in range(2):
            assert front.get(target, bearing(token)).headers["cache-control"].startswith("private, ")
            assert not front.get(target).headers["cache-control"].startswith("private")


def test_to_a_token_without_the_right_a_project_does_not_exist(front: Front, secret: str) -> None:
    """Warm or not, and for a project that exists or not, the answers are the same."""
    rightful = front.token("read")
    for stranger in (front.token("read", projects=("other-*",)), front.token("read", indexes=("private",))):
        for _ in range(2):
            for mine, nobodys in zip(reads("/secret", secret), reads("/secret", "nobody-has-this"), strict=True):
                assert front.get(mine, bearing(rightful)).status == 200
                hidden, absent = front.get(mine, bearing(stranger)), front.get(nobodys, bearing(stranger))
                assert hidden.status == 404
                assert hidden.text.replace(secret, "X") == absent.text.replace("nobody-has-this", "X")
                assert dict(hidden.headers, **{"content-length": ""}) == dict(absent.headers, **{"content-length": ""})
                assert front.get(mine).status == 401


def test_an_etag_does_not_open_a_guarded_page(front: Front, secret: str) -> None:
    rightful, stranger = front.token("read"), front.token("read", projects=("other-*",))
    for target in reads("/secret", secret):
        etag = front.get(target, bearing(rightful)).headers["etag"]
        assert front.get(target, {"If-None-Match": etag}).status == 401
        assert front.get(target, {"If-None-Match": "*", **bearing(stranger)}).status == 404
        assert front.get(target, {"If-None-Match": etag, **bearing(rightful)}).status == 304


def test_a_virtual_index_wants_a_grant_for_every_guarded_member(front: Front, secret: str) -> None:
    for indexes, status in ((("mixed",), 404), (("secret",), 200), (("mixed", "secret"), 200)):
        token = front.token("read", indexes=indexes)
        assert front.get(f"/mixed/simple/{secret}/", bearing(token)).status == status


def test_the_list_shows_only_the_names_that_the_token_may_read(front: Front) -> None:
    """Also when somebody who may read more asked a moment ago."""
    mine, others = fresh("mine"), fresh("others")
    front.publish(wheel(mine), wheel(others), index="/secret")
    everything, limited = front.token("read"), front.token("read", projects=("mine*",))
    nothing = front.token("read", indexes=("private",))
    for _ in range(2):
        for accept in (JSON, "text/html"):
            assert others in front.get("/secret/simple/", {"Accept": accept, **bearing(everything)}).text
            seen = front.get("/secret/simple/", {"Accept": accept, **bearing(limited)}).text
            assert mine in seen
            assert others not in seen
            assert mine not in front.get("/secret/simple/", {"Accept": accept, **bearing(nothing)}).text
            assert front.get("/secret/simple/", {"Accept": accept}).status == 401


def test_guarded_lists_of_two_callers_have_different_etags(front: Front) -> None:
    front.publish(wheel(fresh("mine")), wheel(fresh("others")), index="/secret")
    etags = {
        front.get("/secret/simple/", bearing(front.token("read", projects=projects))).headers["etag"]
        for projects in (("*",), ("mine*",), ("none",))
    }
    assert len(etags) == 3


def test_wrong_credentials_are_401_where_none_are_needed(front: Front) -> None:
    """Someone whose token has expired must hear of it, and not see half of the world."""
    name = fresh()
    front.publish(wheel(name))
    for target in ("/simple/", *reads("", name)):
        for _ in range(2):
            front.get(target)
            assert front.get(target, bearing("entrepot_0_0")).status == 401
    expired = front.token("read", lifetime=timedelta(seconds=-1))
    assert front.get(f"/simple/{name}/", bearing(expired)).status == 401


def test_an_expiry_holds_for_warm_pages(front: Front, secret: str) -> None:
    name = fresh("brief")
    token = front.token("read", name=name)
    target = f"/secret/simple/{secret}/"
    assert [front.get(target, bearing(token)).status for _ in range(2)] == [200, 200]
    front.manage(lambda assembled: assembled.tokens.revoke(name))
    assert front.get(target, bearing(token)).status == 401


def test_a_redirect_and_an_upload_do_not_ask_for_a_read_grant_but_show_nothing(front: Front, secret: str) -> None:
    assert front.get(f"/secret/simple/{secret}").status == 301
    assert front.get("/secret/simple/nobody-has-this").status == 301


def test_health_and_ready_need_no_token(front: Front) -> None:
    for target, text in (("/health", "alive\n"), ("/ready", "ready\n")):
        answer = front.ask("GET", target)
        assert (answer.status, answer.text, answer.headers["cache-control"]) == (200, text, "no-store")
        assert front.ask("HEAD", target).headers == answer.headers
        assert front.ask("POST", target).status == 405
        assert front.ask("GET", f"{target}?x=1").status == 200


def test_ready_says_when_the_store_is_gone(make: object) -> None:
    assert callable(make)
    front: Front = make("asgi")
    assert front.get("/ready").status == 200
    store = front.settings.store_folder
    store.rename(store.with_name("elsewhere"))
    assert front.get("/ready").status == 503
    assert front.get("/health").status == 200
    # An unmounted disk is no empty index.
    assert front.get("/simple/demo/").status == 503
    assert front.upload(wheel("demo").form(), token="entrepot_0_0").status in {401, 503}
    store.with_name("elsewhere").rename(store)
    assert front.get("/ready").status == 200
