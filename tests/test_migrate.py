"""Other tools' configuration, read as it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from entrepot import migrate
from entrepot.config import Archives
from entrepot.errors import Invalid

NOTHING: dict[str, str] = {"HOME": "/nowhere"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".tychoreg.json"


def read(file: Path, data: Any, environ: dict[str, str] | None = None) -> migrate.Migrated:
    file.write_text(json.dumps(data))
    return migrate.tychoreg(file, environ=NOTHING if environ is None else {**NOTHING, **environ})


def test_a_whole_file_becomes_a_store_with_options(file: Path) -> None:
    read_ = read(
        file,
        {
            "tycho": {"backend": "s3", "outdir": "out"},
            "s3": {
                "bucket": "team",
                "endpoint_url": "http://127.0.0.1:9000",
                "region_name": "eu-1",
                "aws_access_key_id": "key",
                "aws_secret_access_key": {"env": "S3_SECRET", "default": "x"},
                "aws_session_token": {"env": "S3_TOKEN", "default": "t"},
            },
        },
        {"S3_SECRET": "secret"},
    )
    assert read_ == migrate.Migrated(
        archives=Archives(
            url="s3://team",
            layout="tycho",
            outdir="out",
            options={
                "endpoint": "http://127.0.0.1:9000",
                "region": "eu-1",
                "access_key_id": "key",
                "secret_access_key": "secret",
                "session_token": "t",
                "client_options": {"allow_http": True},
            },
        )
    )


def test_what_is_left_out_is_as_tycho_has_it(file: Path) -> None:
    found = read(file, {"s3": {"bucket": "b"}}).archives
    assert (found.url, found.layout, found.outdir, found.options) == ("s3://b", "tycho", "tycho_packages", {})


def test_arguments_without_an_equivalent_are_named(file: Path) -> None:
    arguments = {
        "bucket": "b", "config": {"retries": 3}, "api_version": "x", "verify": "/ca.pem", "use_ssl": False,
        "aws_session_token": None,
    }  # fmt: skip
    found = read(file, {"tycho": {"colour": "red"}, "s3": arguments})
    assert found.warnings == (
        "tycho.colour means nothing here",
        "s3.config has no equivalent here and is passed over",
        "s3.api_version has no equivalent here and is passed over",
        "s3.verify has no equivalent here and is passed over",
        "s3.use_ssl has no equivalent here and is passed over",
    )
    assert "secret" not in str(found)


def test_verify_and_use_ssl_as_boto3_means_them(file: Path) -> None:
    secure = {"bucket": "b", "endpoint_url": "https://s3.example", "verify": True, "use_ssl": True}
    assert read(file, {"s3": secure}) == read(file, {"s3": {"bucket": "b", "endpoint_url": "https://s3.example"}})
    lax = read(file, {"s3": {**secure, "verify": False, "use_ssl": False}})
    assert lax.archives.options["client_options"] == {"allow_invalid_certificates": True}
    assert lax.warnings == ()


def test_a_variable_that_is_missing_is_named_unless_there_is_a_default(file: Path) -> None:
    with pytest.raises(Invalid) as failed:
        read(file, {"tycho": {"outdir": {"env": "OUT"}}, "s3": {"bucket": {"env": "BUCKET"}}})
    assert [str(problem) for problem in failed.value.problems] == [
        f'{file}: tycho.outdir: the environment variable OUT is not set (set it, or add a "default")',
        f'{file}: s3.bucket: the environment variable BUCKET is not set (set it, or add a "default")',
    ]


def test_the_dotenv_file_comes_first_and_overrides_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / ".env").write_text("BUCKET=from-file\nOUT=from-file\n")
    monkeypatch.setenv("OUT", "from-environment")
    monkeypatch.setenv("BUCKET", "")
    monkeypatch.delenv("BUCKET")
    monkeypatch.setenv("HOME", "/nowhere")
    data = {"tycho": {"dotenv": ".env", "outdir": {"env": "OUT"}}, "s3": {"bucket": {"env": "BUCKET"}}}
    file.write_text(json.dumps(data))
    found = migrate.tychoreg(file).archives
    assert (found.url, found.outdir) == ("s3://from-file", "from-environment")


def test_without_keys_those_of_the_profile_are_taken(file: Path, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = d\naws_secret_access_key = ds\n"
        "[team]\naws_access_key_id = t\naws_secret_access_key = ts%\n"
    )
    (tmp_path / ".aws" / "config").write_text("[profile team]\nregion = eu-2\noutput = json\n")
    data = {"s3": {"bucket": "b"}}
    home = {"HOME": str(tmp_path)}
    assert read(file, data, home).archives.options == {"access_key_id": "d", "secret_access_key": "ds"}
    assert read(file, data, {**home, "AWS_PROFILE": "team"}).archives.options == {
        "access_key_id": "t", "secret_access_key": "ts%", "region": "eu-2",
    }  # fmt: skip
    assert read(file, data, {**home, "AWS_ACCESS_KEY_ID": "e"}).archives.options == {}, "the driver reads them"
    own = {"s3": {"bucket": "b", "aws_access_key_id": "o", "aws_secret_access_key": "os"}}
    assert read(file, own, home).archives.options["access_key_id"] == "o"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must hold an object of sections"),
        ('{"s3": "x"}', "must hold an object of sections"),
        ('{"s3": {}}', "s3.bucket: is missing"),
        ("{}", "s3.bucket: is missing"),
        ('{"tycho": {"backend": "ftp"}}', "the backend 'ftp' is unknown"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(Invalid, match=words) as failed:
        migrate.tychoreg(file, environ=NOTHING)
    assert str(file) in str(failed.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        migrate.tychoreg(file)
