import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from entrepot.errors import Invalid
from entrepot.model import ACTIVE, File, Project, ProjectName, Status, normalise
from entrepot.wire import simple_html
from entrepot.wire.simple_json import Page
from tests.wire.strategies import BASE, FILES, PREFIX, as_html_carries, demo, names, patient, projects, texts

DEMO = normalise("demo")


def html(project: Project) -> str:
    return simple_html.render(project, prefix=PREFIX).decode()


def anchor(project: Project) -> str:
    """The line of the only file."""
    (line,) = [line for line in html(project).splitlines() if line.startswith("<a ")]
    return line


def parsed(page: str) -> Page:
    return simple_html.parse(page.encode(), base=BASE, name=DEMO)


def read_file(attributes: str, href: str = "demo-1.0.tar.gz") -> File:
    (file,) = parsed(f'<a href="{href}" {attributes}>demo-1.0.tar.gz</a>').project.files
    return file


# A browser, and pypi-simple, would put U+FFFD for NUL: HTML cannot carry it.
@patient
@given(projects().filter(lambda project: "\x00" not in repr_of_texts(project)))
def test_a_page_survives_the_wire(project: Project) -> None:
    project = as_html_carries(project)
    page = simple_html.parse(simple_html.render(project, prefix=PREFIX), base=BASE, name=project.name)
    assert page.project == project
    assert page.urls == {file.filename: FILES + quote(file.filename, safe="") for file in project.files}


def repr_of_texts(project: Project) -> str:
    found = [project.status.reason, *(text for f in project.files for text in (f.yanked, f.requires_python))]
    return "".join(text for text in found if text)


@patient
@given(st.lists(names, unique=True))
def test_a_list_survives_the_wire(listed: list[ProjectName]) -> None:
    assert simple_html.parse_list(simple_html.render_list(listed)) == tuple(listed)


@patient
@given(projects())
def test_pypi_simple_reads_our_pages(project: Project) -> None:
    from pypi_simple import ProjectPage

    page = ProjectPage.from_html(project.name, simple_html.render(project, prefix=PREFIX), base_url=BASE)
    assert page.repository_version == "1.4"
    assert (page.status.value if page.status else "active") == project.status.status
    assert page.status_reason == project.status.reason
    for package, file in zip(page.packages, as_html_carries(project).files, strict=True):
        assert package.filename == file.filename
        assert package.url == FILES + quote(file.filename, safe="")
        assert package.digests == file.hashes
        assert package.requires_python == file.requires_python
        assert package.is_yanked == (file.yanked is not None)
        assert package.yanked_reason == file.yanked
        assert bool(package.has_metadata) == (file.core_metadata is not False)
        assert package.has_sig == file.gpg_sig
        assert package.provenance_url == file.provenance


def test_pypi_simple_reads_our_lists() -> None:
    from pypi_simple import IndexPage

    page = IndexPage.from_html(simple_html.render_list([normalise("a"), normalise("b-c")]))
    assert (page.projects, page.repository_version) == (["a", "b-c"], "1.4")


# hatch's and Renovate's idea of a link; both go by regular expressions.
_HATCH = re.compile(r"<a [^>]+>([^<]+)</a>")


@patient
@given(projects())
def test_regular_expressions_find_every_link_on_its_own_line(project: Project) -> None:
    page = html(project)
    assert _HATCH.findall(page) == [file.filename for file in project.files]
    lines = [line for line in page.split("\n") if "<a" in line]
    assert len(lines) == len(project.files)
    assert all(line.startswith("<a href=") and line.endswith("</a><br />") for line in lines)


@patient
@given(texts)
def test_no_text_leaves_its_attribute(nasty: str) -> None:
    project = replace(
        demo(filename=nasty or "x", requires_python=nasty, yanked=nasty, hashes={nasty: nasty}, provenance=nasty),
        status=Status(status="archived", reason=nasty),
    )
    outline = Outline()
    outline.feed(html(project))
    assert outline.tags == ["html", "head", "meta", "meta", "meta", "meta", "title", "body", "h1", "a", "br"]


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.append(tag)


def test_a_page_reads_as_the_standard_writes_it() -> None:
    project = demo(
        filename="holygrail-1.0-py3-none-any.whl",
        requires_python=">=3.9",
        yanked="reason",
        core_metadata={"sha256": "c" * 64},
        provenance="https://index.example/p",
        gpg_sig=False,
    )
    project = replace(project, name=normalise("holygrail"), status=Status(status="archived", reason="it's done"))
    assert (
        simple_html.render(project, prefix="../../files/holygrail/").decode()
        == f"""\
<!DOCTYPE html>
<html lang="en"><head>
<meta charset="utf-8">
<meta name="pypi:repository-version" content="1.4">
<meta name="pypi:project-status" content="archived">
<meta name="pypi:project-status-reason" content="it&#x27;s done">
<title>Links for holygrail</title></head><body><h1>Links for holygrail</h1>
<a href="../../files/holygrail/holygrail-1.0-py3-none-any.whl#sha256={"a" * 64}" data-requires-python="&gt;=3.9" \
data-yanked="reason" data-dist-info-metadata="sha256={"c" * 64}" data-core-metadata="sha256={"c" * 64}" \
data-provenance="https://index.example/p" data-gpg-sig="false">holygrail-1.0-py3-none-any.whl</a><br />
</body></html>
"""
    )


def test_a_list_reads_as_the_standard_writes_it() -> None:
    assert (
        simple_html.render_list([normalise("frob"), normalise("x-y")]).decode()
        == """\
<!DOCTYPE html>
<html lang="en"><head>
<meta charset="utf-8">
<meta name="pypi:repository-version" content="1.4">
<title>Simple index</title></head><body><h1>Simple index</h1>
<a href="frob/">frob</a><br />
<a href="x-y/">x-y</a><br />
</body></html>
"""
    )


def test_a_page_of_unknown_sizes_is_of_version_1_4() -> None:
    assert '<meta name="pypi:repository-version" content="1.4">' in html(demo(size=None))


def test_a_plainly_active_status_is_left_out() -> None:
    assert "project-status" not in html(demo())
    assert "project-status" in html(replace(demo(), status=Status(reason="adopted")))


def test_a_plain_link_has_an_address_and_nothing_else() -> None:
    assert anchor(demo(hashes={})) == (
        '<a href="../../files/demo/demo-1.0-py3-none-any.whl">demo-1.0-py3-none-any.whl</a><br />'
    )


@pytest.mark.parametrize(
    ("core_metadata", "expected"),
    [(True, "true"), ({}, "true"), ({"sha256": "c"}, "sha256=c"), ({"md5": "d", "sha256": "c"}, "sha256=c")],
)
def test_core_metadata_has_both_names_and_one_value(core_metadata: object, expected: str) -> None:
    line = anchor(demo(core_metadata=core_metadata))
    assert f'data-dist-info-metadata="{expected}" data-core-metadata="{expected}"' in line


def test_an_empty_reason_is_an_empty_attribute() -> None:
    assert ' data-yanked="">' in anchor(demo(yanked=""))


@pytest.mark.parametrize(
    ("hashes", "expected"),
    [
        ({"md5": "0", "sha256": "1"}, "#sha256=1"),
        ({"md5": "0", "sha512": "1"}, "#sha512=1"),
        ({"md5": "0"}, "#md5=0"),
        ({"sha256": '"><b>'}, "#sha256=&quot;&gt;&lt;b&gt;"),
    ],
)
def test_the_fragment_is_the_best_hash(hashes: Mapping[str, str], expected: str) -> None:
    assert f'demo-1.0-py3-none-any.whl{expected}"' in anchor(demo(hashes=hashes))


def test_a_prefix_is_escaped() -> None:
    assert '<a href="/a&amp;b/demo-1.0' in simple_html.render(demo(), prefix="/a&b/").decode()


@patient
@given(texts.filter(bool))
def test_any_filename_comes_back_from_its_url(filename: str) -> None:
    match = re.search(r'href="([^"]*)"', anchor(demo(filename=filename, hashes={})))
    assert match is not None
    assert unquote(urlsplit(match[1]).path.removeprefix(PREFIX)) == filename


# Reading what others write.


def test_a_page_of_the_wild_is_read() -> None:
    page = parsed("""
        <HTML><HEAD><TITLE>Links for Demo</TITLE><base href="/mirror/pool/" target=_blank></HEAD>
        <BODY><h1>Links for Demo</h1>
        <p>See <a name=top>the top</a>, <a href="https://demo.example/">home page</a>
        <A DATA-REQUIRES-PYTHON='&gt;=3.9, &#60;4' data-yanked HREF=demo-2.0.tar.gz#md5=ABCD>demo-2.0.tar.gz</A>
        <a rel="internal"
           href="&#46;./x/demo-1.0-py3-none-any.whl?a=1&amp;b=2#egg=demo&amp;sha256=00ff"
           data-dist-info-metadata="sha256=AA"
           data-gpg-sig=TRUE> demo-1.0-<b>py3</b>-none-any.whl </a>
        <a href="//cdn.example/demo-3.0.zip">unclosed
        <a href="demo-2.0.tar.gz">again</a>
    """)
    assert page.urls == {
        "demo-2.0.tar.gz": "https://index.example/mirror/pool/demo-2.0.tar.gz",
        "demo-1.0-py3-none-any.whl": "https://index.example/mirror/x/demo-1.0-py3-none-any.whl?a=1&b=2",
        "demo-3.0.zip": "https://cdn.example/demo-3.0.zip",
    }
    assert page.project.files == (
        File(
            filename="demo-1.0-py3-none-any.whl",
            version="1.0",
            hashes={"sha256": "00ff"},
            core_metadata={"sha256": "aa"},
            gpg_sig=True,
        ),
        File(
            filename="demo-2.0.tar.gz",
            version="2.0",
            hashes={"md5": "abcd"},
            requires_python=">=3.9, <4",
            yanked="",
        ),
        File(filename="demo-3.0.zip", version="3.0"),
    )


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [("", None), ("data-yanked", ""), ('data-yanked=""', ""), ('data-yanked="false"', "false")],
)
def test_presence_alone_yanks(attribute: str, expected: str | None) -> None:
    assert read_file(attribute).yanked == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", False),
        ('data-core-metadata="true"', True),
        ('data-core-metadata="false" data-dist-info-metadata="true"', False),
        ('data-core-metadata="SHA256=AB"', {"sha256": "ab"}),
        ('data-dist-info-metadata="true"', True),
        ('data-dist-info-metadata="sha256=ab"', {"sha256": "ab"}),
        ('data-core-metadata=""', False),
        ('data-core-metadata="sha256=oops"', False),
    ],
)
def test_core_metadata_is_believed_only_if_well_said(attributes: str, expected: object) -> None:
    assert read_file(attributes).core_metadata == expected


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("", {}),
        ("#sha256=", {}),
        ("#egg=abc", {}),
        ("#sha256=AB", {"sha256": "ab"}),
        ("#md5=ab&subdirectory=cd", {"md5": "ab"}),
        ("#crc32=ab", {}),
    ],
)
def test_the_fragment_holds_the_hash(fragment: str, expected: Mapping[str, str]) -> None:
    assert read_file("", href=f"demo-1.0.tar.gz{fragment}").hashes == expected


def test_the_text_names_the_file_where_the_url_does_not() -> None:
    page = parsed('<a href="/download?id=7">demo-1.0.tar.gz</a> <a href="/download?id=8">read me</a>')
    assert page.urls == {"demo-1.0.tar.gz": "https://index.example/download?id=7"}


def test_a_filename_is_decoded_from_its_url() -> None:
    page = parsed('<a href="demo-1.0%2Blocal.1.tar.gz">demo</a>')
    assert [(f.filename, f.version) for f in page.project.files] == [("demo-1.0+local.1.tar.gz", "1.0+local.1")]


def test_only_the_first_base_counts() -> None:
    page = parsed('<base target="x"><base href="/a/"><base href="/b/"><a href="demo-1.tar.gz">x</a>')
    assert page.urls == {"demo-1.tar.gz": "https://index.example/a/demo-1.tar.gz"}


def test_pages_that_are_not_utf_8_are_read() -> None:
    data = b'<title>L\xfcnks</title><a href="demo-1.tar.gz" data-yanked="na\xefve">demo-1.tar.gz</a>'
    (file,) = simple_html.parse(data, base=BASE, name=DEMO).project.files
    assert file.yanked == "naïve"


def test_a_byte_order_mark_is_no_text() -> None:
    assert simple_html.parse_list(b"\xef\xbb\xbf<a href=x/>x</a>") == ("x",)


def test_a_list_of_the_wild_is_read() -> None:
    page = b'<a href="/simple/foo-bar/">Foo_Bar</a><a href="foo-bar/">foo-bar</a><a href="../simple/b.c/">B C!</a><a href="/">\xe2\x86\x91</a>'
    assert simple_html.parse_list(page) == ("foo-bar", "b-c")


def test_the_status_is_read() -> None:
    meta = '<meta name="pypi:project-status" content="{}"><meta content="why" name="pypi:project-status-reason">'
    assert parsed(meta.format("quarantined")).project.status == Status(status="quarantined", reason="why")
    assert parsed(meta.format("of-the-future")).project.status == ACTIVE
    assert parsed("").project.status == ACTIVE


@pytest.mark.parametrize("version", ["2.0", "9.9"])
def test_another_major_version_is_refused_by_name(version: str) -> None:
    page = f'<meta name="pypi:repository-version" content="{version}">'
    with pytest.raises(Invalid, match=rf"repository-version: the Simple API of version {version} is not supported"):
        parsed(page)
    with pytest.raises(Invalid, match=version):
        simple_html.parse_list(page.encode())


@pytest.mark.parametrize("version", ["1.0", "1.4", "1.27"])
def test_another_minor_version_is_read(version: str) -> None:
    page = f'<meta name="pypi:repository-version" content="{version}"><a href="demo-1.tar.gz">x</a>'
    assert parsed(page).project.files


def test_every_faulty_link_is_named() -> None:
    links = ["ok-1.tar.gz", "http://[/demo-1.tar.gz", "demo-2.tar.gz#sha256=xyz"]
    with pytest.raises(Invalid) as caught:
        parsed("".join(f'<a href="{link}">x</a>' for link in links))
    assert [problem.at for problem in caught.value.problems] == ["link 2, url", "link 3, href.sha256"]


def test_a_base_that_is_no_url_is_a_fault() -> None:
    with pytest.raises(Invalid, match="<base href>"):
        parsed('<base href="http://[">')


@pytest.mark.parametrize(
    "page", ["", "<![oops[", "<", "<a", "<a href=", '<a href="demo-1.tar.gz', "<!--", "\0", "</a>"]
)
def test_a_page_without_a_whole_link_has_no_files(page: str) -> None:
    assert parsed(page).project.files == ()


def test_a_link_that_is_no_link_to_a_browser_is_none_here() -> None:
    page = parsed("""
        <!-- <a href="demo-1.tar.gz">x</a> --><script>"<a href=demo-2.tar.gz>"</script><style><a href=demo-3.tar.gz></style>
        <title><a href="demo-4.tar.gz">x</a></title><p title='<a href="demo-5.tar.gz">'>
        <textarea><a href="demo-6.tar.gz"></textarea><!doctype <a href=demo-7.tar.gz>
        <A HREF="demo-8.tar.gz" >y</A ><a/href=demo-9.tar.gz>z<a\nhref=demo-10.tar.gz>
    """)
    assert list(page.urls) == ["demo-8.tar.gz", "demo-9.tar.gz", "demo-10.tar.gz"]


def test_markup_in_a_value_stays_in_it() -> None:
    page = parsed("""<a data-yanked='see <a href="x"> & <b>' href=demo-1.tar.gz>x</a><a href="demo-2.tar.gz">y</a>""")
    assert [file.yanked for file in page.project.files] == ['see <a href="x"> & <b>', None]


def test_a_value_is_decoded_as_browsers_do() -> None:
    page = parsed('<a href="demo-1.tar.gz?a=1&copy=2&amp;b=3&#x26;c" data-yanked="&copy; &notit;">x</a>')
    assert page.urls == {"demo-1.tar.gz": "https://index.example/root/simple/demo/demo-1.tar.gz?a=1&copy=2&b=3&c"}
    assert page.project.files[0].yanked == "© &notit;"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.678901Z", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
        ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (" 2026-01-02 03:04:05 ", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        ("9999-12-31T23:59:59-23:59", None),
    ],
)
def test_an_upload_time_that_some_mirrors_add_is_read(value: str, expected: datetime | None) -> None:
    assert read_file(f'data-upload-time="{value}"').uploaded == expected


# Pages of files of many projects.


def flat(page: str) -> dict[ProjectName, Page]:
    return simple_html.parse_flat(page.encode(), base="https://index.example/whl/cu124/")


def test_a_flat_page_is_sorted_by_project() -> None:
    pages = flat("""
        <a href="torch-2.6.0%2Bcu124-cp312-cp312-linux_x86_64.whl">torch-2.6.0+cu124-cp312-cp312-linux_x86_64.whl</a><br>
        <a href="../cu124/torch-2.5.1%2Bcu124-cp312-cp312-linux_x86_64.whl#sha256=AB">torch</a><br>
        <a href="https://files.example/Nvidia_Nvtx_cu12-12.4.127-py3-none-manylinux2014_x86_64.whl">nvtx</a><br>
        <a href="old.name-1.0.zip">zip</a> <a href="/">up</a> <a href="readme.html">?</a> <a href="x-1.0.exe">?</a>
    """)
    assert {name: [file.filename for file in page.project.files] for name, page in pages.items()} == {
        "torch": [
            "torch-2.5.1+cu124-cp312-cp312-linux_x86_64.whl",
            "torch-2.6.0+cu124-cp312-cp312-linux_x86_64.whl",
        ],
        "nvidia-nvtx-cu12": ["Nvidia_Nvtx_cu12-12.4.127-py3-none-manylinux2014_x86_64.whl"],
        "old-name": ["old.name-1.0.zip"],
    }
    torch = pages[normalise("torch")]
    assert [(file.version, file.hashes) for file in torch.project.files] == [
        ("2.5.1+cu124", {"sha256": "ab"}),
        ("2.6.0+cu124", {}),
    ]
    here = "https://index.example/whl/cu124/torch"
    assert sorted(torch.urls.values()) == [
        f"{here}-2.5.1%2Bcu124-cp312-cp312-linux_x86_64.whl",
        f"{here}-2.6.0%2Bcu124-cp312-cp312-linux_x86_64.whl",
    ]


def test_the_first_link_to_a_filename_counts_on_a_flat_page_too() -> None:
    pages = flat('<a href="a/demo-1.0.tar.gz#sha256=aa">x</a><a href="b/demo-1.0.tar.gz#sha256=bb">x</a>')
    assert pages[DEMO].project.files[0].hashes == {"sha256": "aa"}


def test_a_flat_page_of_another_major_version_is_refused() -> None:
    with pytest.raises(Invalid, match="not supported"):
        flat('<meta name="pypi:repository-version" content="2.0"><a href="demo-1.0.tar.gz">x</a>')


@patient
@given(projects().filter(lambda project: "\x00" not in repr_of_texts(project)))
def test_a_page_is_the_same_as_a_flat_one(project: Project) -> None:
    """Where filenames tell their project without doubt, as the ones of current standards do."""
    project = replace(as_html_carries(project), status=ACTIVE)
    pages = simple_html.parse_flat(simple_html.render(project, prefix=PREFIX), base=BASE)
    assert [page.project for page in pages.values()] == ([project] if project.files else [])


# Hostile pages: 10 MB of them in little time and memory. What lexbor alone would take minutes for is among them.

_SIZE = 10 << 20
_NESTED = b"<b %s>" % b" ".join(b"a%d=1" % number for number in range(3000))
_HOSTILE = {
    "nesting": b"<div>",
    "links within": b"<a href=x><b>",
    "links without end": b"<a href=demo-1.tar.gz>x",
    "attributes of a link": b"<a " + b" ".join(b"a%d=1" % number for number in range(500_000)),
    "attributes with brackets": b"<a " + b" ".join(b"a%d='><'" % number for number in range(500_000)) + b">",
    "attributes of others": _NESTED,
    "entities": b'<a href="' + b"&amp;" * 2_000_000 + b'">',
    "entities without end": b"<a href=x>&#" + b"&CounterClockwiseContourIntegra" * 300_000,
    "open quotes": b"""<a href="'""",
    "comments": b"<!-- <!",
    "scripts": b"<script></script",
    "brackets": b"<",
    "closing": b"</a></p",
    "equal signs": b"<a =" + b" = " * 3_000_000,
    "bases": b"<base href=x><meta name=x>",
}


@pytest.mark.parametrize("kind", _HOSTILE)
@pytest.mark.timeout(30)
def test_a_hostile_page_costs_little(kind: str) -> None:
    part = _HOSTILE[kind]
    data = part * (_SIZE // len(part))
    began = time.process_time()
    page = simple_html.parse(data, base=BASE, name=DEMO)
    assert time.process_time() - began < 10  # seconds; a tenth of it here
    assert len(page.urls) <= 1


@patient
@given(st.binary(max_size=80) | st.text("<>!-[]&#;/= ab\"'", max_size=60).map(str.encode))
def test_reading_fails_only_with_invalid(data: bytes) -> None:
    for read in (lambda: simple_html.parse(data, base=BASE, name=DEMO), lambda: simple_html.parse_list(data)):
        try:
            read()
        except Invalid:
            continue
