"""Pages of the usual form are read by a path of their own: it must read what the careful one reads."""

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import Invalid
from entrepot.model import ProjectName
from entrepot.wire import simple_html
from entrepot.wire.simple_json import Page
from entrepot.wire.usual_html import Usual

BASE = "https://packages.example.org/simple/demo/"
DIGEST = "0123456789abcdef" * 4
HEADS = [
    "<!DOCTYPE html><html><head><title>Links for demo</title></head><body><h1>Links for demo</h1>\n",
    '<html><head><meta name="pypi:repository-version" content="1.4"></head><body>',
    '<meta name="pypi:project-status" content="archived">',
    '<meta name="pypi:repository-version" content="2.0">',
    "",
    "<!-- ",
    "<!-- --><body>",
    "<title>",
    "<script>",
    "<base href='https://files.example.org/'>",
    "<a href=x>y</a>",
]
FOLDERS = [
    "https://files.example.org/a/b/",
    "../../files/demo/",
    "",
    "http://127.0.0.1/",
    "x/y/",
    "//h/",
    "/f/",
    "http://[/",
    "x:y/",
    "/a%20b/",
]
FILENAMES = [
    "demo-1.0.tar.gz", "demo-1.0-py3-none-any.whl", "demo-1.0-1-py3-none-any.whl", "demo-2.0+x.tar.gz", "demo.exe",
    "Demo-1.0.zip", "demo-1.0rc1-cp311-cp311-linux_x86_64.whl", "other-1.0-py3-none-any.whl", "demo-x-py3-none-any.whl",
]  # fmt: skip
ATTRIBUTES = [
    "", ' data-requires-python="&gt;=3.9"', ' data-requires-python=">=3.9"', ' data-yanked=""', ' data-yanked="a &amp; b"',
    ' data-yanked="&copy=2"', ' data-yanked="&copy;"', ' data-yanked="&#62;"', ' data-core-metadata="true"',
    f' data-dist-info-metadata="sha256={DIGEST}"', ' data-upload-time="2026-05-14T19:25:26.443000Z"',
    ' data-gpg-sig="true"', ' data-upload-time=""', ' data-upload-time="yesterday"', ' data-requires-python=""', ' data-yanked="1" data-yanked="2"', ' rel="internal"', ' data-provenance="javascript:x"',
]  # fmt: skip
ENDS = ["", "\n</body></html>\n", "<!-- -->", "<p>", "<a href='demo-9.tar.gz'>demo-9.tar.gz</a>"]


@st.composite
def links(draw: st.DrawFn) -> str:
    filename = draw(st.sampled_from(FILENAMES))
    text = draw(st.sampled_from([filename, filename, filename, "click"]))
    filename = draw(st.sampled_from([filename, filename.replace("+", "%2B"), filename.replace("-", "%2D")]))
    hashed = draw(st.sampled_from([f"#sha256={DIGEST}"] * 3 + ["", "#md5=0123"]))
    attributes = "".join(draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=3)))
    between = draw(st.sampled_from(["<br/>\n", "<br>\n", "\n", "", "<b>", "x"]))
    return f'<a href="{draw(st.sampled_from(FOLDERS))}{filename}{hashed}"{attributes}>{text}</a>{between}'


def read(page: str) -> Page | str:
    try:
        return simple_html.parse(page.encode(), base=BASE, name=ProjectName("demo"))
    except Invalid as error:
        return str(error)


@given(st.sampled_from(HEADS), st.lists(links(), max_size=5), st.sampled_from(ENDS))
def test_both_ways_read_the_same(head: str, found: list[str], end: str) -> None:
    page = head + "".join(found) + end
    with patch.object(Usual, "links", lambda _: None):
        careful = read(page)
    assert read(page) == careful


@pytest.mark.parametrize("head", HEADS[:3])
def test_a_page_of_a_mirror_is_usual(head: str) -> None:
    line = f'<a href="{FOLDERS[0]}{FILENAMES[1]}#sha256={DIGEST}" data-requires-python="&gt;=3.9">{FILENAMES[1]}</a><br/>\n'
    page = Usual(f"{head}{line * 3}</body>\n</html>\n")
    assert len(page.links() or ()) == 3


@pytest.mark.parametrize("head", HEADS[5:])
def test_a_head_that_does_not_end_is_not(head: str) -> None:
    line = f'<a href="{FOLDERS[0]}{FILENAMES[1]}#sha256={DIGEST}">{FILENAMES[1]}</a><br/>\n'
    assert Usual(head + line).links() is None
