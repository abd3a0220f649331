"""When files were uploaded, and how large they are: told by upstream, or seen here."""

from datetime import UTC, datetime, timedelta

from tests.e2e import raw
from tests.e2e.processes import until
from tests.e2e.servers import Server
from tests.mirror.asking import fresh, listed, names
from tests.mirror.conftest import Mirror, Mirrored
from tests.upstream.double import Upstream
from tests.upstream.pages import moment
from tests.upstream.stock import LONG_AGO, Manner, wheel

UNTOLD = {"times": False, "max_age": 0}


def times(server: Server, name: str) -> dict[str, str | None]:
    return {filename: file.get("upload-time") for filename, file in listed(server, name).items()}


def test_times_and_sizes_pass(shared: Mirrored) -> None:
    name = fresh()
    item = wheel(name)
    shared.upstream.add(name, item)
    told = listed(shared.server, name)[item.filename]
    assert (told["size"], told["upload-time"]) == (len(item.data), moment(LONG_AGO))


def test_they_are_taken_from_the_older_document_where_the_page_has_none(shared: Mirrored) -> None:
    name = fresh()
    item = wheel(name)
    shared.upstream.add(name, item, manner=Manner(json=False, legacy_json=True))

    def complete() -> bool:
        file = listed(shared.server, name)[item.filename]
        return (file.get("size"), file.get("upload-time")) == (len(item.data), moment(LONG_AGO))

    until(complete, what="the size and the time")


def test_files_of_unknown_time_stay_so_and_later_ones_have_the_time_they_were_seen(
    mirror: Mirror, upstream: Upstream
) -> None:
    old, new = wheel("demo", "1.0"), wheel("demo", "2.0")
    upstream.add("demo", old, manner=Manner(**UNTOLD))  # type: ignore[arg-type]
    server = mirror(ttl='"0 s"')
    assert times(server, "demo") == {old.filename: None}
    before = datetime.now(UTC)
    upstream.add("demo", new)
    until(lambda: times(server, "demo").get(new.filename), what="the time of the new file")
    seen = times(server, "demo")
    assert seen[old.filename] is None
    when = datetime.fromisoformat(str(seen[new.filename]))
    assert before - timedelta(seconds=1) <= when <= datetime.now(UTC)
    server.stop()
    server.start()
    assert times(server, "demo") == seen


def test_workers_agree_on_when_a_file_was_first_seen(mirror: Mirror, upstream: Upstream) -> None:
    old, new = wheel("demo", "1.0"), wheel("demo", "2.0")
    upstream.add("demo", old, manner=Manner(**UNTOLD))  # type: ignore[arg-type]
    server = mirror(ttl='"0 s"', workers=2)
    for _ in range(10):
        assert times(server, "demo") == {old.filename: None}
    upstream.add("demo", new)
    seen: list[str | None] = []

    def many() -> bool:
        seen.append(times(server, "demo").get(new.filename))
        return sum(time is not None for time in seen) >= 20

    until(many, what="the time of the new file, many times over")
    assert len({time for time in seen if time is not None}) == 1


def test_a_file_that_comes_while_the_server_is_down_is_not_of_unknown_time(mirror: Mirror, upstream: Upstream) -> None:
    old, new = wheel("demo", "1.0"), wheel("demo", "2.0")
    upstream.add("demo", old, manner=Manner(**UNTOLD))  # type: ignore[arg-type]
    server = mirror(ttl='"0 s"')
    assert names(server, "demo") == {old.filename}
    until((server.data / "store" / "upstream" / "seen" / "demo.json").exists, what="what was seen, in the store")
    server.stop()
    upstream.add("demo", new)
    server.start()
    until(lambda: times(server, "demo").get(new.filename), what="the time of the new file")
    assert times(server, "demo")[old.filename] is None


def test_a_page_whose_times_are_known_keeps_them_when_upstream_stops_telling(
    mirror: Mirror, upstream: Upstream
) -> None:
    item = wheel("demo")
    upstream.add("demo", item, manner=Manner(max_age=0))
    server = mirror(ttl='"0 s"')
    assert times(server, "demo") == {item.filename: moment(LONG_AGO)}
    answer = server.get("/simple/demo/", {"Accept": raw.HTML})
    assert item.filename in answer.text
