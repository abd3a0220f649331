"""The links of a page, against what a browser's parser finds in the same page."""

from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from entrepot.wire.links import Document
from tests.wire.strategies import patient

_PIECES = (
    "<a href=x>", "<A HREF='y>z'>", '<a href="&amp;&copy=1" data-x>', "<a\nhref = u href=v>", "<a/href=w/>", "<a name=n>",
    "<a href>", "<a =href=x href=e>", "<a href=\"<b>'\">", "<a href='\"'x>", '<a b=c"d href=q>', "<area href=no>", "<abbr>",
    "</a>", "</a x='>'>", "<b>", "</b>", "<br />", "text ", "&lt;a href=no&gt;", "< a href=no>", "<!-- <a href=no> -->",
    "<!--> <a href=c>", "<!---> <a href=d>", "<!-- --!>", "<!doctype html>", "<?xml <a href=no>", "</ <a href=no>", "<p title='<a'>",
    "<script><a href=no></script>", "<style><!--</style>", "<title><a href=no></title>", "\r\n", "é", "<", ">", "'", '"', "=",
)  # fmt: skip
_pages = st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)


def links(page: str) -> list[tuple[str, dict[str, str | None]]]:
    return [(link.href, dict(link.attributes)) for link in Document(page).links()]


@patient
@given(_pages)
def test_links_and_their_attributes_are_those_of_a_browser(page: str) -> None:
    tree = LexborHTMLParser(page)
    expected = [((node.attributes["href"] or "").strip(), node.attributes) for node in tree.css("a[href]")]
    # A link that is not closed may stand in a browser's tree several times.
    assert list(dict.fromkeys(map(repr, links(page)))) == list(dict.fromkeys(map(repr, expected)))


def test_links_are_read_across_pieces() -> None:
    page = "".join(
        f'<a href="demo-{number}.tar.gz" data-yanked="{"<a " * 50}">{number}</a>\n' for number in range(9_000)
    )
    found = list(Document(page).links())
    assert [link.href for link in found] == [f"demo-{number}.tar.gz" for number in range(9_000)]
    assert [link.text for link in found] == [str(number) for number in range(9_000)]


def test_a_tag_of_more_attributes_than_any_link_has_is_no_link() -> None:
    some, many = (" ".join(f"a{number}=1" for number in range(count)) for count in (40, 60))
    assert len(links(f"<a {some} href=x>")) == 1
    assert links(f"<a {many} href=x>") == []
