"""Other tools' configuration, as ours. `config` knows only our own."""

import configparser
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from entrepot.config import Archives
from entrepot.errors import EntrepotError, Invalid, collected

TYCHOREG_FILE = ".tychoreg.json"

# Arguments of boto3.client, by obstore's names for the same.
_SAME = {
    "endpoint_url": "endpoint",
    "region_name": "region",
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}


class Migrated(Struct, frozen=True, kw_only=True):
    """What the file says, in our words, and what of it we have no words for."""

    archives: Archives
    warnings: tuple[str, ...] = ()


def tychoreg(file: Path, *, environ: Mapping[str, str] = os.environ) -> Migrated:
    """`.tychoreg.json` as tycho reads it. Raises `Invalid` naming every fault.

    The file that `dotenv` names is loaded into the environment of this process first, and overrides nothing there.
    """
    data = _object(file)
    problems: list[EntrepotError] = []
    general = _resolved(data.get("tycho", {}), environ, f"{file}: tycho", problems)
    dotenv = general.get("dotenv")
    if isinstance(dotenv, str):
        from dotenv import load_dotenv  # noqa: PLC0415 - few need it

        load_dotenv(dotenv_path=dotenv)
    backend = general.get("backend", "s3")
    settings = _resolved(data.get(str(backend), {}), environ, f"{file}: {backend}", problems)
    if backend != "s3":
        problems.append(Invalid(f"the backend {backend!r} is unknown", at=f"{file}: tycho.backend", hint="it is s3"))
    elif not settings.get("bucket") and not problems:
        problems.append(Invalid("is missing", at=f"{file}: s3.bucket", hint="the name of the bucket"))
    if (problem := collected(problems, str(file))) is not None:
        raise problem
    options, warnings = s3_options(settings, environ)
    archives = Archives(
        url=f"s3://{settings['bucket']}",
        layout="tycho",
        outdir=str(general.get("outdir", "tycho_packages")),
        options=options,
    )
    unused = tuple(f"tycho.{key} means nothing here" for key in general.keys() - {"backend", "outdir", "dotenv"})
    return Migrated(archives=archives, warnings=(*sorted(unused), *warnings))


def s3_options(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The options of obstore for these arguments of `boto3.client`, and what of them has no equivalent.

    Without keys in them or in the environment, those of the profile files of AWS are taken.
    """
    options: dict[str, Any] = {_SAME[key]: value for key, value in arguments.items() if key in _SAME and value}
    client: dict[str, Any] = {}
    warnings = []
    if str(options.get("endpoint", "")).startswith("http://"):
        client["allow_http"] = True
    for key, value in arguments.items():
        if key in _SAME or key == "bucket" or value is None or (key in {"verify", "use_ssl"} and value is True):
            continue
        if key == "verify" and value is False:
            client["allow_invalid_certificates"] = True
        elif key == "use_ssl" and "endpoint" in options:
            continue  # the scheme of the address decides, as in boto3
        else:
            warnings.append(f"s3.{key} has no equivalent here and is passed over")
    if client:
        options["client_options"] = client
    if "access_key_id" not in options and "AWS_ACCESS_KEY_ID" not in environ:
        options = {**_profile(environ), **options}
    return options, tuple(warnings)


def _profile(environ: Mapping[str, str]) -> dict[str, str]:
    """The keys and region of the profile in AWS's own files; nothing where there are none."""
    name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    home = environ.get("HOME") or str(Path.home())
    secrets = _section(environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials", name)
    section = name if name == "default" else f"profile {name}"
    general = _section(environ.get("AWS_CONFIG_FILE") or f"{home}/.aws/config", section)
    found = {_SAME[key]: value for key, value in {**general, **secrets}.items() if key in _SAME}
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or general.get("region")
    return found | ({"region": region} if region else {})


def _section(file: str, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(Path(file).expanduser(), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise Invalid(f"cannot be read: {error}", at=file) from error
    return dict(parser[name]) if parser.has_section(name) else {}


def _object(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", at=str(file), hint="see --config") from error
    except (ValueError, RecursionError) as error:
        raise Invalid(f"is not JSON: {error}", at=str(file)) from error
    if not isinstance(data, dict) or not all(isinstance(section, dict) for section in data.values()):
        hint = '{"tycho": {"backend": "s3"}, "s3": {"bucket": "…"}}'
        raise Invalid("must hold an object of sections", at=str(file), hint=hint)
    return data


def _resolved(
    section: Mapping[str, Any], environ: Mapping[str, str], at: str, problems: list[EntrepotError]
) -> dict[str, Any]:
    """The section with each {"env": "NAME", "default": "x"} in it replaced."""
    return dict(_values(section, environ, at, problems))


def _values(
    section: Mapping[str, Any], environ: Mapping[str, str], at: str, problems: list[EntrepotError]
) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if not isinstance(value, dict) or "env" not in value:
            yield key, value
        elif value["env"] in environ:
            yield key, environ[value["env"]]
        elif "default" in value:
            yield key, value["default"]
        else:
            hint = 'set it, or add a "default"'
            problems.append(Invalid(f"the environment variable {value['env']} is not set", at=f"{at}.{key}", hint=hint))
