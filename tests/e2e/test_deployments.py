"""The ways to run it: several workers, a sub-path, TLS, a Unix socket, folders on the command line."""

import socket
import ssl
from pathlib import Path

from tests.distributions.build import make_sdist, make_wheel, wheel_bytes, wheel_filename
from tests.e2e import raw
from tests.e2e.clients import Installer, Pip, Publisher, Twine, Uv, Venv
from tests.e2e.packages import Built
from tests.e2e.processes import until
from tests.e2e.raw import Form
from tests.e2e.servers import Certificate, Options, Server, Servers

MANY = 40  # fresh connections; that all of them reach the same one of two workers is as good as impossible


def versions_seen(server: Server) -> list[frozenset[str]]:
    """What many fresh connections, and so all workers, say that there is of demo."""
    return [frozenset(server.files("demo")) for _ in range(MANY)]


# Workers.


def test_an_upload_is_seen_at_once_by_all_workers(serve: Servers) -> None:
    server = serve(workers=2)
    assert len(server.workers()) == 2
    wanted = frozenset[str]()
    assert set(versions_seen(server)) == {wanted}  # and so both of them remember that there is nothing
    for number in range(4):
        form = Form(wheel_filename("demo", f"1.{number}"), wheel_bytes("demo", f"1.{number}"))
        assert server.upload(form, token=server.first_token).status == 200
        wanted |= {form.filename}
        assert set(versions_seen(server)) == {wanted}


def test_a_token_is_known_and_unknown_to_all_workers_at_once(serve: Servers) -> None:
    server = serve(workers=2, config='[access]\nread = "token"\n')
    credentials = {"Authorization": raw.basic(server.token("read", name="guest"))}
    assert {server.get("/simple/", credentials).status for _ in range(MANY)} == {200}
    server.command("token", "revoke", "guest", "--yes")
    assert {server.get("/simple/", credentials).status for _ in range(MANY)} == {401}


def test_clients_work_with_several_workers(
    twine: Twine, pip: Pip, serve: Servers, venv: Venv, greeter: Built, shouter: Built
) -> None:
    server = serve(workers=2)
    twine.publish(server.legacy, server.first_token, *greeter.files, *shouter.files).ok()
    pip.install(venv, server.simple, "greeter").ok()
    assert venv.has() == {"greeter": "1.0", "shouter": "1.2"}


# A sub-path.


def test_publishing_works_below_a_sub_path(publisher: Publisher, serve: Servers, dist: Path) -> None:
    server = serve(path="/deep/pypi")
    wheel = make_wheel(dist)
    publisher.publish(f"{server.origin}/deep/pypi/legacy/", server.first_token, wheel).ok()
    assert list(server.files("demo")) == [wheel.name]


def test_installing_works_below_a_sub_path(installer: Installer, serve: Servers, venv: Venv, dist: Path) -> None:
    server = serve(path="/deep/pypi")
    server.publish(make_wheel(dist))
    installer.install(venv, f"{server.origin}/deep/pypi/simple/", "demo").ok()
    assert venv.has() == {"demo": "1.0"}


def test_above_a_sub_path_there_is_only_health(serve: Servers, dist: Path) -> None:
    server = serve(path="/pypi")
    server.publish(make_wheel(dist))
    for _ in range(2):  # the second time from memory
        assert server.get("/simple/demo/").status == 200
        for path in ("/simple/demo/", "/legacy/", "/", "/pypifoo/simple/demo/"):
            assert server.get(path, below_path=False).status == 404, path
    for path in ("/health", "/ready"):
        assert server.get(path, below_path=False).status == 200
    assert server.get("/simple/Demo/").headers["location"] == "/pypi/simple/demo/"
    assert server.get("/simple/demo").headers["location"] == "/pypi/simple/demo/"


# TLS.


def test_pip_installs_over_tls_of_our_own(
    serve: Servers, pip: Pip, venv: Venv, dist: Path, certificate: Certificate
) -> None:
    server = serve(tls=certificate)
    server.publish(make_wheel(dist))
    pip.install(venv, server.simple, "--cert", certificate.cert, "demo").ok()
    assert venv.has() == {"demo": "1.0"}


def test_pip_does_not_trust_a_certificate_that_it_was_not_given(
    serve: Servers, pip: Pip, venv: Venv, dist: Path, certificate: Certificate
) -> None:
    server = serve(tls=certificate)
    server.publish(make_wheel(dist))
    pip.install(venv, server.simple, "demo").refused()
    assert venv.has() == {}


def test_twine_and_uv_publish_and_uv_installs_over_tls(
    serve: Servers, twine: Twine, uv: Uv, venv: Venv, dist: Path, certificate: Certificate
) -> None:
    server = serve(tls=certificate)
    trusting = {"SSL_CERT_FILE": str(certificate.cert)}
    twine.publish(server.legacy, server.first_token, make_wheel(dist), ca=certificate.cert).ok()
    publish = ("publish", "--trusted-publishing", "never", "--publish-url", server.legacy)
    uv.run(*publish, "--token", server.first_token, make_sdist(dist), env=trusting).ok()
    assert len(server.files("demo")) == 2
    uv.install(venv, server.simple, "demo", env=trusting).ok()
    assert venv.has() == {"demo": "1.0"}


def test_tls_agrees_on_http_1_1(serve: Servers, certificate: Certificate) -> None:
    server = serve(tls=certificate)
    context = ssl.create_default_context(cafile=str(certificate.cert))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", server.options.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        assert secure.selected_alpn_protocol() == "http/1.1"


# A Unix socket.


def test_a_unix_socket_answers_and_takes_uploads(serve: Servers, tmp_path: Path) -> None:
    server = serve(uds=tmp_path / "entrepot.sock")
    form = Form(wheel_filename(), wheel_bytes())
    assert server.upload(form, token=server.first_token).status == 200
    assert list(server.files("demo")) == [form.filename]
    assert server.download("demo", form.filename) == form.content
    server.stop()
    server.start()  # the socket of before must not be in the way
    assert list(server.files("demo")) == [form.filename]


def test_a_unix_socket_left_by_a_killed_server_is_no_hindrance(serve: Servers, tmp_path: Path) -> None:
    server = serve(uds=tmp_path / "entrepot.sock")
    server.kill()
    server.start()
    assert server.get("/simple/").status == 200


# Folders.


def test_folders_on_the_command_line_are_installed_from(
    installer: Installer, serve: Servers, venv: Venv, tmp_path: Path, greeter: Built
) -> None:
    more = tmp_path / "more" / "deep" / "down"
    more.mkdir(parents=True)
    make_wheel(more, "shouter", "1.3", files={"shouter/__init__.py": b"def shout(t): return t\n"})
    server = serve(greeter.wheel.parent, tmp_path / "more")
    installer.install(venv, server.simple, "greeter").ok()
    assert venv.has() == {"greeter": "1.0", "shouter": "1.3"}


def test_what_is_copied_into_a_served_folder_appears_and_what_is_removed_goes(serve: Servers, dist: Path) -> None:
    server = serve(dist)
    assert server.files("demo") == {}
    wheel = make_wheel(dist)
    sdist = make_sdist(dist)
    until(lambda: set(server.files("demo")) == {wheel.name, sdist.name}, within=5, what="the new files")
    assert server.download("demo", wheel.name) == wheel.read_bytes()
    wheel.unlink()
    until(lambda: set(server.files("demo")) == {sdist.name}, within=5, what="the wheel's end")
    assert server.get(f"/files/demo/{wheel.name}").status == 404


def test_an_uploaded_project_hides_the_folders_files_of_that_name(
    uv: Uv, serve: Servers, venv: Venv, dist: Path, tmp_path: Path
) -> None:
    make_wheel(dist, "demo", "9.0")
    server = serve(dist)
    uv.publish(server.legacy, server.first_token, make_wheel(tmp_path, "demo", "1.0")).ok()
    uv.install(venv, server.simple, "demo").ok()
    assert venv.has() == {"demo": "1.0"}


def test_a_folder_that_is_not_there_is_an_empty_index_and_a_warning(serve: Servers, dist: Path) -> None:
    server = serve(dist / "later")
    assert server.get("/simple/").status == 200
    assert "later" in server.said()
    (dist / "later").mkdir()
    make_wheel(dist / "later")
    until(lambda: server.files("demo"), within=5, what="the folder's first file")


# What cannot be started says so.


def test_a_fault_in_the_configuration_is_named(serve: Servers, tmp_path: Path) -> None:
    server = serve.prepare(Options(data=tmp_path / "data", config='[server]\nmax-uplod = "1 MB"\n'))
    said = server.start_in_vain()
    assert "max-uplod" in said
    assert "did you mean 'max-upload'?" in said


def test_a_port_that_another_server_has_is_refused_and_named(server: Server, serve: Servers, tmp_path: Path) -> None:
    second = serve.prepare(Options(data=tmp_path / "other", port=server.options.port))
    said = second.start_in_vain()
    assert "Traceback" not in said
    assert f":{server.options.port}" in said.partition("error:")[2]


def test_a_socket_that_another_server_has_is_refused_and_named(serve: Servers, tmp_path: Path) -> None:
    first = serve(uds=tmp_path / "entrepot.sock")
    second = serve.prepare(Options(data=tmp_path / "other", uds=tmp_path / "entrepot.sock"))
    said = second.start_in_vain()
    assert "Traceback" not in said
    assert "entrepot.sock" in said.partition("error:")[2]
    assert first.get("/simple/").status == 200
