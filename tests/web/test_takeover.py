"""The first file of a name that a mirror knows: it would hide what is public, so it must be meant."""

from collections.abc import Iterator

import pytest

from entrepot.config import Hosted, IndexSettings, Mirror, Virtual
from entrepot.errors import Unavailable
from tests.indexes import DEMO, NOON, Public, file
from tests.web.doubled import Doubled, doubled
from tests.web.fronts import Loop, wheel

INDEX: dict[str, IndexSettings] = {
    "private": Hosted(),
    "apart": Hosted(),
    "upstream": Mirror(),
    "root": Virtual(of=("private", "upstream"), own=("acme-*",)),
}


@pytest.fixture
def upstream() -> Public:
    return Public("upstream", file("demo-1.0.tar.gz"), file("acme_kit-1.0.tar.gz"))


@pytest.fixture
def front(loop: Loop, upstream: Public) -> Iterator[Doubled]:
    with doubled(loop, INDEX, upstream) as made:
        yield made


@pytest.mark.parametrize("index", ["", "/root", "/private"])
def test_the_first_file_of_a_name_that_upstream_knows_is_refused(front: Doubled, index: str) -> None:
    answer = front.upload(wheel("demo"), front.token("upload"), index=index)
    assert answer.status == 403
    assert answer.text == (
        "this would hide project demo of index upstream (`own` in the configuration, "
        "a token made for --project demo, or one that may manage allows it)\n"
    )
    assert front.get("/private/simple/demo/").status == 404


def test_a_pattern_is_not_the_name(front: Doubled) -> None:
    for pattern in ("*", "d*", "dem?", "demo*"):
        assert front.upload(wheel("demo"), front.token("upload", projects=(pattern,))).status == 403


def test_a_token_for_that_very_project_may(front: Doubled) -> None:
    token = front.token("upload", projects=("other-*", "demo"))
    assert front.upload(wheel("demo"), token).status == 200
    assert front.upload(wheel("demo", "2.0"), front.token("upload")).status == 200  # the first file is there


def test_a_token_that_manages_may(front: Doubled) -> None:
    assert front.upload(wheel("demo"), front.token("manage")).status == 200


def test_a_name_that_is_owned_may_be_published_and_upstream_is_not_asked(front: Doubled, upstream: Public) -> None:
    assert front.upload(wheel("acme-kit"), front.token("upload")).status == 200
    assert upstream.asked == []


def test_a_name_that_upstream_does_not_know_may_be_published(front: Doubled, upstream: Public) -> None:
    assert front.upload(wheel("other"), front.token("upload")).status == 200
    assert len(upstream.asked) == 1
    assert front.upload(wheel("other", "2.0"), front.token("upload")).status == 200
    assert len(upstream.asked) == 1  # for the first file only


def test_where_no_mirror_stands_behind_the_index_nobody_is_asked(front: Doubled, upstream: Public) -> None:
    assert front.upload(wheel("demo"), front.token("upload"), index="/apart").status == 200
    assert upstream.asked == []


def test_where_upstream_cannot_be_asked_it_is_refused_too(front: Doubled, upstream: Public) -> None:
    upstream.fail(DEMO, Unavailable("it does not answer", at="https://user:secret@upstream.example/"))
    answer = front.upload(wheel("demo"), front.token("upload"))
    assert answer.status == 403
    assert answer.text.startswith(
        "this may hide project demo of index upstream, which cannot be asked: it does not answer (`own` in the "
    )
    assert "secret" not in answer.text
    assert front.upload(wheel("demo"), front.token("upload", projects=("demo",))).status == 200


def test_who_may_not_publish_the_project_learns_nothing_of_upstream(front: Doubled, upstream: Public) -> None:
    answer = front.upload(wheel("demo"), front.token("upload", projects=("other",)))
    assert answer.status == 403
    assert "may not upload to project demo" in answer.text
    assert upstream.asked == []


def test_a_project_whose_files_were_all_deleted_is_no_new_one(front: Doubled, loop: Loop, upstream: Public) -> None:
    assert front.upload(wheel("demo"), front.token("manage")).status == 200
    sink = front.catalog.indexes["root"].sink
    assert sink is not None
    loop.run(sink.remove(DEMO, frozenset({wheel("demo").filename}), by="test", now=NOON))
    assert front.upload(wheel("demo", "2.0"), front.token("upload")).status == 200


def test_where_everybody_may_write_everybody_may(loop: Loop, upstream: Public) -> None:
    with doubled(loop, INDEX, upstream, open_writes=True) as front:
        assert front.upload(wheel("demo")).status == 200
