"""pip (newest and 22.3), uv and poetry install what is here, and get from the page what the standards promise."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pypi_simple import ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY, PyPISimple

from tests.distributions.build import make_sdist, make_wheel
from tests.e2e.clients import Installer, Pip, Poetry, Shell, Uv, Venv
from tests.e2e.packages import Built
from tests.e2e.servers import Server, Servers

LATER = ">=4.0"  # a Python that is not there yet


def fetched(server: Server) -> list[str]:
    """The names of the files that clients downloaded, in that order."""
    return [
        request.path.rpartition("/")[2]
        for request in server.requests()
        if "/files/" in request.path and request.method == "GET" and request.status in {200, 206}
    ]


def test_a_wheel_is_installed_with_its_dependency_and_runs(
    installer: Installer, shell: Shell, venv: Venv, server: Server, greeter: Built, shouter: Built
) -> None:
    server.publish(greeter.wheel, shouter.wheel)
    installer.install(venv, server.simple, "greeter").ok()
    assert venv.has() == {"greeter": "1.0", "shouter": "1.2"}
    assert shell.run(venv.folder / "bin" / "greet").ok() == "HELLO!\n"


def test_an_sdist_is_built_with_a_back_end_from_the_same_server(
    installer: Installer, shell: Shell, venv: Venv, serve: Servers, backends: Path, greeter: Built, shouter: Built
) -> None:
    server = serve(backends)
    server.publish(greeter.sdist, *shouter.files)
    installer.install(venv, server.simple, "--no-binary", "greeter", "--no-binary", "shouter", "greeter").ok()
    assert shell.run(venv.folder / "bin" / "greet").ok() == "HELLO!\n"
    assert {greeter.sdist.name, shouter.sdist.name} <= set(fetched(server))
    assert shouter.wheel.name not in fetched(server)


def test_an_extra_brings_its_requirements(
    installer: Installer, venv: Venv, server: Server, dist: Path, greeter: Built, shouter: Built
) -> None:
    server.publish(greeter.wheel, shouter.wheel, make_wheel(dist, "manners", "3.0"))
    installer.install(venv, server.simple, "greeter[polite]").ok()
    assert venv.has() == {"greeter": "1.0", "shouter": "1.2", "manners": "3.0"}


def test_the_newest_version_for_this_python_is_chosen(
    installer: Installer, venv: Venv, server: Server, dist: Path
) -> None:
    server.publish(make_wheel(dist, "demo", "1.0"), make_wheel(dist, "demo", "2.0", requires_python=LATER))
    installer.install(venv, server.simple, "demo").ok()
    assert venv.has() == {"demo": "1.0"}


def test_a_version_for_another_python_cannot_be_installed(
    installer: Installer, venv: Venv, server: Server, dist: Path
) -> None:
    server.publish(make_wheel(dist, "demo", "2.0", requires_python=LATER))
    installer.install(venv, server.simple, "demo").refused()
    assert venv.has() == {}


def test_a_pre_release_is_installed_only_on_request(
    installer: Installer, venv: Venv, server: Server, dist: Path
) -> None:
    server.publish(make_wheel(dist, "demo", "1.0"), make_wheel(dist, "demo", "2.0rc1"))
    installer.install(venv, server.simple, "demo").ok()
    assert venv.has() == {"demo": "1.0"}
    installer.install(venv, server.simple, "demo==2.0rc1").ok()
    assert venv.has() == {"demo": "2.0rc1"}


def test_hashes_are_required_and_hold(
    installer: Installer, venv: Venv, server: Server, dist: Path, tmp_path: Path
) -> None:
    server.publish(make_wheel(dist, "demo", "1.0"))
    [sha256] = server.files("demo").values()
    locked = tmp_path / "requirements.txt"
    locked.write_text(f"demo==1.0 --hash=sha256:{'0' * 64}\n")
    installer.install(venv, server.simple, "--require-hashes", "-r", locked).refused()
    assert venv.has() == {}
    locked.write_text(f"demo==1.0 --hash=sha256:{sha256}\n")
    installer.install(venv, server.simple, "--require-hashes", "-r", locked).ok()
    assert venv.has() == {"demo": "1.0"}


def test_an_unknown_project_is_named_in_the_error(installer: Installer, venv: Venv, steady: Server) -> None:
    assert "nowhere-to-be-found" in installer.install(venv, steady.simple, "nowhere-to-be-found").refused()


def test_a_name_in_another_spelling_is_installed(installer: Installer, venv: Venv, server: Server, dist: Path) -> None:
    server.publish(make_wheel(dist, "Acme.Pretty_Name", "1.0"))
    installer.install(venv, server.simple, "ACME-pretty.name").ok()
    assert list(venv.has()) == ["acme_pretty_name"]


@pytest.mark.parametrize("which", ["pip", "old_pip"])
def test_pip_downloads_a_wheel_and_an_sdist(
    which: str, request: pytest.FixtureRequest, server: Server, tmp_path: Path, shouter: Built
) -> None:
    pip: Pip = request.getfixturevalue(which)
    server.publish(*shouter.files)
    download = ("download", "--index-url", server.simple, "--no-deps", "--dest", tmp_path / "got", "shouter")
    pip.run(*download).ok()
    pip.run(*download, "--no-binary", "shouter", "--no-build-isolation").ok()
    assert {file.name: file.read_bytes() for file in (tmp_path / "got").iterdir()} == {
        file.name: file.read_bytes() for file in shouter.files
    }


def test_a_report_of_pip_needs_the_metadata_and_never_the_wheel(
    pip: Pip, venv: Venv, server: Server, greeter: Built, shouter: Built
) -> None:
    server.publish(greeter.wheel, shouter.wheel)
    # Without its requirement on `shouter`, which only METADATA tells, the report would be shorter.
    report = venv.folder / "report.json"
    pip.install(venv, server.simple, "--dry-run", "--report", report, "greeter").ok()
    planned = {item["metadata"]["name"] for item in json.loads(report.read_text())["install"]}
    assert planned == {"greeter", "shouter"}
    assert fetched(server) == [f"{greeter.wheel.name}.metadata", f"{shouter.wheel.name}.metadata"]


def test_a_lock_by_uv_needs_the_metadata_and_never_the_wheel(
    uv: Uv, poetry: Poetry, server: Server, greeter: Built, shouter: Built
) -> None:
    server.publish(*greeter.files, *shouter.files)
    project = _project_needing(poetry, "greeter")
    uv.run("lock", "--default-index", server.simple, cwd=project).ok()
    locked = (project / "uv.lock").read_text()
    assert all(sha256 in locked for name in ("greeter", "shouter") for sha256 in server.files(name).values())
    assert "upload-time" in locked
    assert sorted(fetched(server)) == [f"{greeter.wheel.name}.metadata", f"{shouter.wheel.name}.metadata"]


def test_what_uv_locked_is_synced_from_the_index(
    uv: Uv, poetry: Poetry, server: Server, greeter: Built, shouter: Built
) -> None:
    server.publish(*greeter.files, *shouter.files)
    project = _project_needing(poetry, "greeter")
    uv.run("lock", "--default-index", server.simple, cwd=project).ok()
    uv.run("sync", "--locked", "--default-index", server.simple, cwd=project).ok()
    assert Venv(project / ".venv").has() == {"greeter": "1.0", "shouter": "1.2"}


def test_uv_and_pip_leave_out_what_was_uploaded_after_a_day(
    uv: Uv, pip: Pip, venv: Venv, server: Server, dist: Path
) -> None:
    server.publish(make_wheel(dist))
    now = datetime.now(UTC)
    yesterday, tomorrow = (f"{now + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (-1, 1))
    uv.install(venv, server.simple, "--exclude-newer", yesterday, "demo").refused()
    pip.install(venv, server.simple, "--uploaded-prior-to", yesterday, "demo").refused()
    assert venv.has() == {}
    pip.install(venv, server.simple, "--uploaded-prior-to", tomorrow, "demo").ok()
    uv.install(venv, server.simple, "--exclude-newer", tomorrow, "--reinstall", "demo").ok()
    assert venv.has() == {"demo": "1.0"}


def test_uv_asks_again_with_the_etag_and_hears_that_nothing_changed(
    uv: Uv, venv: Venv, server: Server, dist: Path
) -> None:
    server.publish(make_wheel(dist, "demo", "1.0"))
    for _ in range(2):
        uv.install(venv, server.simple, "--reinstall", "demo").ok()
    pages = [request.status for request in server.requests() if request.path == "/simple/demo/"]
    assert pages == [200, 304]
    server.publish(make_wheel(dist, "demo", "1.1"))
    uv.install(venv, server.simple, "--upgrade", "demo").ok()
    assert venv.has() == {"demo": "1.1"}


def test_poetry_adds_a_package_from_an_explicit_source(
    poetry: Poetry, shell: Shell, venv: Venv, server: Server, greeter: Built, shouter: Built
) -> None:
    server.publish(greeter.wheel, shouter.wheel)
    project, active = poetry.project("app"), {"VIRTUAL_ENV": str(venv.folder)}
    poetry.run("source", "add", "--priority", "explicit", "ours", server.simple, cwd=project).ok()
    poetry.run("add", "--source", "ours", "shouter", cwd=project, env=active).ok()
    assert venv.has() == {"shouter": "1.2"}
    assert shouter.wheel.name in (project / "poetry.lock").read_text()


def test_poetry_locks_from_metadata_and_installs_from_its_lock(
    poetry: Poetry, shell: Shell, venv: Venv, server: Server, greeter: Built, shouter: Built
) -> None:
    server.publish(*greeter.files, *shouter.files)
    project, active = _project_needing(poetry, "greeter"), {"VIRTUAL_ENV": str(venv.folder)}
    poetry.run("source", "add", "--priority", "primary", "ours", server.simple, cwd=project).ok()
    poetry.run("lock", cwd=project, env=active).ok()
    assert fetched(server) == [f"{greeter.wheel.name}.metadata", f"{shouter.wheel.name}.metadata"]
    poetry.run("install", cwd=project, env=active).ok()
    assert venv.has() == {"greeter": "1.0", "shouter": "1.2"}
    assert shell.run(venv.folder / "bin" / "greet").ok() == "HELLO!\n"


def test_poetry_builds_an_sdist_with_a_back_end_from_the_same_server(
    poetry: Poetry, venv: Venv, serve: Servers, backends: Path, shouter: Built
) -> None:
    server = serve(backends)
    server.publish(shouter.sdist)
    project, active = _project_needing(poetry, "shouter"), {"VIRTUAL_ENV": str(venv.folder)}
    poetry.run("source", "add", "--priority", "primary", "ours", server.simple, cwd=project).ok()
    poetry.run("lock", cwd=project, env=active).ok()
    poetry.run("install", cwd=project, env=active).ok()
    assert venv.has() == {"shouter": "1.2"}


@pytest.mark.parametrize("accept", [ACCEPT_JSON_ONLY, ACCEPT_HTML_ONLY], ids=["json", "html"])
def test_an_independent_reader_understands_the_pages(
    accept: str, server: Server, dist: Path, tmp_path: Path, greeter: Built
) -> None:
    plain = make_sdist(dist, "demo", "2.0", requires_python="")
    server.publish(*greeter.files, plain)
    with PyPISimple(server.simple, accept=accept) as reader:
        reader.s.trust_env = False
        assert reader.get_index_page().projects == ["demo", "greeter"]
        page = reader.get_project_page("greeter")
        assert page.repository_version == "1.4"
        wheel = next(package for package in page.packages if package.package_type == "wheel")
        sdist = next(package for package in page.packages if package.package_type == "sdist")
        assert (wheel.filename, wheel.version, wheel.requires_python) == (greeter.wheel.name, "1.0", ">=3.9")
        assert (wheel.is_yanked, wheel.has_metadata, bool(sdist.has_metadata)) == (False, True, False)
        assert wheel.digests == {"sha256": server.files("greeter")[greeter.wheel.name]}
        assert b"Name: greeter\n" in reader.get_package_metadata_bytes(wheel)
        for package, built in ((wheel, greeter.wheel), (sdist, greeter.sdist)):
            # It verifies the digest as well.
            reader.download_package(package, tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == built.read_bytes()
        if accept == ACCEPT_JSON_ONLY:
            assert page.versions == ["1.0"]
            assert wheel.size == greeter.wheel.stat().st_size
            assert wheel.upload_time is not None
            assert abs(datetime.now(UTC) - wheel.upload_time) < timedelta(minutes=2)


def _project_needing(poetry: Poetry, requirement: str) -> Path:
    """A project of which uv and poetry make an environment, and which is no package itself."""
    project = poetry.project("app")
    text = (project / "pyproject.toml").read_text()
    needs = f'dependencies = ["{requirement}"]\n[tool.uv]\npackage = false\n'
    (project / "pyproject.toml").write_text(text.replace("[tool.poetry]", f"{needs}[tool.poetry]"))
    return project
