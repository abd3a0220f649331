"""`entrepot serve`."""

from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.console import ConfigOption, DataOption, run


def register(app: typer.Typer) -> None:
    app.command(
        epilog="For example: entrepot serve --data /srv/packages --port 8080 ./dist",
    )(serve)


def serve(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER", help="Directories of distributions to serve too.")
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    host: Annotated[
        str | None, typer.Option(envvar="ENTREPOT_HOST", metavar="H", help="Address to listen at; else 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(envvar="ENTREPOT_PORT", metavar="P", help="Port to listen at; else 8080.")
    ] = None,
    uds: Annotated[
        Path | None, typer.Option(envvar="ENTREPOT_UDS", metavar="S", help="A Unix socket instead of host and port.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(envvar="ENTREPOT_WORKERS", metavar="N", help="Processes that serve; else 1.")
    ] = None,
    path: Annotated[
        str | None, typer.Option(envvar="ENTREPOT_PATH", metavar="/sub", help="A sub-path for everything.")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make configured stores that do not exist.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Uploads need no token (not through proxies).")] = False,
    grace: Annotated[
        str | None,
        typer.Option(envvar="ENTREPOT_GRACE", metavar="30s", help="How long running requests may finish on SIGTERM."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no upstream: what is kept here answers, and nothing else.")
    ] = False,
    upstream: Annotated[
        str | None,
        typer.Option(envvar="ENTREPOT_UPSTREAM", metavar="URL", help="The index to mirror, with or without /simple/."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Say more in the log.")] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(envvar="ENTREPOT_TLS_CERT", metavar="F", help="Serve https with this certificate.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="ENTREPOT_TLS_KEY", metavar="F", help="And this key.")] = None,
) -> None:
    """Serve the index: at http://127.0.0.1:8080/ unless said otherwise.

    Without a configuration it keeps what is uploaded under --data and serves it, with the given folders.
    Stops on SIGTERM and Ctrl-C, after running requests are done.
    """
    flags = {
        "host": host,
        "port": port,
        "uds": str(uds.absolute()) if uds else None,
        "workers": workers,
        "path": path.rstrip("/") if path is not None else None,
        "grace": grace,
        "offline": offline or None,
        "debug": debug or None,
        "tls_cert": str(tls_cert.absolute()) if tls_cert else None,
        "tls_key": str(tls_key.absolute()) if tls_key else None,
    }

    def start() -> int:
        from entrepot.cli import server

        ready, file = server.configured(config, data, folders or [], flags, open_writes=open_, upstream=upstream)
        return server.serve(ready, file, create=create)

    raise typer.Exit(run(start))
