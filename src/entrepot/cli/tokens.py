"""`entrepot token …`."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.cli.console import (
    ConfigOption,
    DataOption,
    JsonOption,
    YesOption,
    confirm,
    show_json,
    with_catalog,
)

if TYPE_CHECKING:
    from entrepot.access import Permission, Token
    from entrepot.assembly import Assembled

_LONGEST = 100 * 365 * 86_400  # seconds

app = typer.Typer(
    help="Create, list and revoke tokens.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="For example: entrepot token create ci --can upload --project 'acme-*'",
)


@app.command(epilog="For example: entrepot token create ci --can upload --project 'acme-*' --expires '90 days'")
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Whom it is for; stands in the record of what it publishes.")
    ],
    can: Annotated[list[str], typer.Option("--can", metavar="WHAT", help="read, upload, manage or build; repeats.")],
    index: Annotated[list[str] | None, typer.Option("--index", metavar="PATTERN", help="Only these indexes.")] = None,
    project: Annotated[
        list[str] | None, typer.Option("--project", metavar="PATTERN", help="Only these projects.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help='After this long, such as "90 days".')
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and show it, this once.

    `upload` includes `read`; `manage` includes everything. Give it to twine or uv as the password of the
    user __token__.
    """
    permissions, lifetime = _permissions(can), _lifetime(expires)

    async def work(assembled: "Assembled") -> None:
        from entrepot.model import normalise

        secret, token = await assembled.tokens.create(
            name,
            can=permissions,
            now=datetime.now(UTC),
            indexes=tuple(index or ("*",)),
            projects=tuple(normalise(pattern) for pattern in project or ("*",)),
            lifetime=lifetime,
        )
        if as_json:
            show_json({"token": secret, **_described(token)})
        else:
            typer.echo(secret)

    with_catalog(config, data, work, missing="create")


@app.command("list", epilog="For example: entrepot token list --json")
def list_(config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the tokens, without their secrets."""

    async def work(assembled: "Assembled") -> None:
        held = await assembled.tokens.list()
        if as_json:
            show_json([_described(token) for token in held])
            return
        for token in held:
            until = f"until {token.expires:%Y-%m-%d %H:%M} UTC" if token.expires else "for ever"
            where = f"indexes {', '.join(token.indexes)}; projects {', '.join(token.projects)}"
            typer.echo(f"{token.id}  {token.name}: {', '.join(token.can)}; {where}; {until}")
        if not held:
            typer.echo("no tokens")

    with_catalog(config, data, work, missing="ignore")


@app.command(epilog="For example: entrepot token revoke ci")
def revoke(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name or its id, as `entrepot token list` shows them.")
    ],
    config: ConfigOption = None,
    data: DataOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """End a token, at once for every running server. All tokens of that name if it is a name."""
    confirm(f"Revoke {name}?", yes=yes)

    async def work(assembled: "Assembled") -> None:
        revoked = await assembled.tokens.revoke(name)
        if as_json:
            show_json([_described(token) for token in revoked])
        else:
            for token in revoked:
                typer.echo(f"revoked {token.id} {token.name}")

    with_catalog(config, data, work)


def _permissions(given: list[str]) -> "tuple[Permission, ...]":
    from entrepot.access import PERMISSIONS

    if unknown := [what for what in given if what not in PERMISSIONS]:
        words = f"{unknown[0]!r} is no permission; use {', '.join(PERMISSIONS)}"
        raise typer.BadParameter(words, param_hint="--can")
    return tuple(what for what in PERMISSIONS if what in given)


def _lifetime(text: str | None) -> timedelta | None:
    """None is for ever, which nobody gets by an empty text or a zero."""
    if text is None:
        return None
    from entrepot import units
    from entrepot.errors import Invalid

    try:
        seconds = units.seconds(text)
    except Invalid as error:
        raise typer.BadParameter(str(error), param_hint="--expires") from error
    if not 0 < seconds <= _LONGEST:
        raise typer.BadParameter(f"{text!r} must be more than 0, and 100 years at most", param_hint="--expires")
    return timedelta(seconds=seconds)


def _described(token: "Token") -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "can": token.can,
        "indexes": token.indexes,
        "projects": token.projects,
        "created": token.created,
        "expires": token.expires,
    }
