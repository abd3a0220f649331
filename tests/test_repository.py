"""What the repository as a whole promises: no foreign hosts, no paths of one machine, whole locks, links that lead."""

import ast
import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from entrepot import config

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src" / "entrepot"
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))

# In pieces, so that this file passes its own test.
HOSTS = (
    "pypi" + ".org",
    "pypi.python" + ".org",
    "pythonhosted" + ".org",
    "docker" + ".io",
    "ghcr" + ".io",
    "quay" + ".io",
)
MACHINES = ("/work" + "/main", "/work" + "/shared")


def files() -> list[Path]:
    """What is tracked, and what would be."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    ran = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip("this is no git checkout")
    return [path for name in ran.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def holding(needles: tuple[str, ...]) -> list[str]:
    texts = ((path, path.read_bytes().lower()) for path in files())
    return [
        f"{path.relative_to(ROOT)}: {needle}" for path, text in texts for needle in needles if needle.encode() in text
    ]


def test_no_file_names_the_host_of_a_public_registry() -> None:
    assert holding(HOSTS) == []


def test_no_file_holds_a_path_of_the_machine_that_wrote_it() -> None:
    # A short path such as /src would be found everywhere.
    here = (str(ROOT).lower(),) if len(ROOT.parts) > 3 else ()
    assert holding((*MACHINES, *here)) == []


# Locks.


def test_there_are_locks() -> None:
    assert [lock.name for lock in LOCKS] == ["dev.lock", "oldpip.lock", "run.lock"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_holds_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_of_a_lock_has_its_version_and_hashes(lock: Path) -> None:
    lines = [line for line in lock.read_text().replace("\\\n", " ").splitlines() if line and line.lstrip()[0] != "#"]
    assert lines
    assert [line[:40] for line in lines if not re.match(r"[a-z0-9.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []


# Docs.


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, fragment = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        assert not fragment or fragment in anchors(found), target


def examples() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "configuration.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("text", examples())
def test_an_example_of_the_configuration_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "entrepot.toml"
    # A fragment shows one table; what it does not show has its default.
    file.write_text(text)
    loaded = config.load(file, environ={})
    assert set(tomllib.loads(text).get("index", {})) <= set(loaded.index)


def test_the_example_of_nginx_goes_with_a_configuration_that_loads(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    (tmp_path / "entrepot.toml").write_text(text)
    assert config.load(tmp_path / "entrepot.toml").server.trusted_proxies == ("127.0.0.1",)


def test_make_knows_every_target_that_a_page_names() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for page in PAGES for word in re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(), re.MULTILINE)}
    assert {"serve", "test"} <= named <= targets


def test_ci_runs_the_commands_of_the_readme() -> None:
    steps = re.findall(r"^make (\w+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert steps == ["servers", "check", "test"]


# Packages.


def packages() -> list[str]:
    return sorted(path.parent.name for path in SOURCES.glob("*/__init__.py") if "__all__" in path.read_text())


def imported_from(package: str) -> set[str]:
    """What the other packages import from this one by name, its modules left out."""
    modules = {path.stem for path in (SOURCES / package).iterdir()}
    trees = (ast.parse(path.read_text()) for path in SOURCES.rglob("*.py") if path.parent.name != package)
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    names = (alias.name for node in nodes if node.module == f"entrepot.{package}" for alias in node.names)
    return set(names) - modules


@pytest.mark.parametrize("package", packages())
def test_what_a_package_offers_is_there_and_what_others_take_is_offered(package: str) -> None:
    module = import_module(f"entrepot.{package}")
    offered: list[str] = module.__all__
    assert len(offered) == len(set(offered))
    assert [name for name in offered if not hasattr(module, name)] == []
    assert imported_from(package) <= set(offered)
