"""``BLOBS_URL``: what it may say, and one sentence about anything else."""

from pathlib import Path

import pytest

from mailbbgun import startup
from mailbbgun.blobs import url
from mailbbgun.blobs.url import Bucket
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.services import build
from mailbbgun.settings.load import load

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("file:///srv/blobs", Path("/srv/blobs")),
        ("file:///srv/a%20b%3Fc", Path("/srv/a b?c")),
        ("s3://key:secret@s3.example.com/bucket", Bucket("s3.example.com", "bucket", "key", "secret", tls=True)),
        ("s3+https://k:s@h:9000/bucket/", Bucket("h:9000", "bucket", "k", "s", tls=True)),
        ("s3+http://k:s@[::1]:9000/bucket", Bucket("[::1]:9000", "bucket", "k", "s", tls=False)),
        ("s3+http://k%40:a%2Fb%3A%2B@h/bucket", Bucket("h", "bucket", "k@", "a/b:+", tls=False)),
        (
            "s3://k:s@s3.eu-central-1.amazonaws.com/bucket?region=eu-central-1",
            Bucket(
                "s3.eu-central-1.amazonaws.com", "bucket", "k", "s", tls=True, region="eu-central-1", virtual_host=True
            ),
        ),
        (
            "s3://k:s@s3.amazonaws.com/bucket?style=path&ca=/etc/ca.pem&links=no",
            Bucket("s3.amazonaws.com", "bucket", "k", "s", tls=True, ca="/etc/ca.pem", links=False),
        ),
        ("s3://k:s@h/bucket?style=host", Bucket("h", "bucket", "k", "s", tls=True, virtual_host=True)),
    ],
)
def test_a_folder_or_a_bucket_is_read(given: str, read: Path | Bucket) -> None:
    assert url.read(given) == read


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("file://srv/blobs", "three slashes"),
        ("file:blobs", "three slashes"),
        ("file:///", "root of all folders"),
        ("file:///srv/blobs?x=1", "no options"),
        (f"s3://key:{SECRET}@/bucket", "no host"),
        ("s3://host/bucket", "needs an access key and a secret key"),
        (f"s3://:{SECRET}@host/bucket", "needs an access key"),
        (f"s3://key:{SECRET}@host", "needs the name of a bucket"),
        (f"s3://key:{SECRET}@host/Bucket", "lower case; it has 'Bucket'"),
        (f"s3://key:{SECRET}@host/one/two", "needs the name of a bucket"),
        (f"s3://key:{SECRET}@host:port/bucket", "the port must be a number"),
        (f"s3://key:{SECRET}@host/bucket?regoin=x", "unknown option 'regoin'; there are region, style, ca, links"),
        (f"s3://key:{SECRET}@host/bucket?style=virtual", "style is 'virtual'; it must be path"),
        (f"s3://key:{SECRET}@host/bucket?links=maybe", "links is 'maybe'; it must be yes"),
        (f"s3://key:{SECRET}@host/bucket?region=a/b", "region is 'a/b'"),
        ("s3+ftp://k:s@h/bucket", "must begin with file:, s3:, s3+https: or s3+http:"),
        ("http://host/bucket", "must begin with file: or s3:, not http:"),
        ("", "must begin with file: or s3:"),
    ],
)
def test_anything_else_is_refused_in_one_line_without_its_secret(given: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        startup.check(load({"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_BLOBS_URL": given}))
    assert str(raised.value).startswith("BLOBS_URL: ")
    assert told in str(raised.value)
    assert SECRET not in str(raised.value)


def test_the_folder_is_in_var_by_default(tmp_path: Path) -> None:
    settings = load({"MAILBBGUN_VAR": str(tmp_path / "a b%")})
    assert url.read(settings.BLOBS_URL) == tmp_path / "a b%" / "blobs"


def test_authorities_that_cannot_be_read_are_told_when_the_program_starts(tmp_path: Path) -> None:
    where = f"s3://k:s@host/bucket?ca={tmp_path}/none.pem"
    with pytest.raises(ConfigurationError, match=r"BLOBS_URL: the file '.*none\.pem' of its option ca"):
        build(load({"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_BLOBS_URL": where}))
