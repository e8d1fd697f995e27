"""Reads ``BLOBS_URL``: which store of files, and how to reach it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mailbbgun.core.errors import ConfigurationError

#: What the scheme says about TLS.
TLS = {"s3": True, "s3+https": True, "s3+http": False}
OPTIONS = ("region", "style", "ca", "links")


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3 bucket.

    ``host`` may have a port. ``ca``: a PEM file of authorities; empty: the system's. ``links``: whether
    clients can reach the bucket, so that they may get links to it.
    """

    host: str
    name: str
    access_key: str
    secret_key: str
    tls: bool
    region: str = "us-east-1"
    virtual_host: bool = False
    ca: str = ""
    links: bool = True


def read(url: str) -> Path | Bucket:
    """Return the folder or the bucket. Raises :class:`ConfigurationError`, which shows no secret."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _wrong("the port must be a number from 1 to 65535, and an IPv6 address is in brackets") from error
    if parts.scheme == "file":
        return _folder(parts.netloc, unquote(parts.path), parts.query)
    if parts.scheme not in TLS:
        raise _wrong("must begin with file:, s3:, s3+https: or s3+http:")
    if not parts.hostname:
        raise _wrong("has no host: s3://key:secret@host/bucket")
    if not parts.username or not parts.password:
        raise _wrong("needs an access key and a secret key before the host, key:secret@; write / in them as %2F")
    name = unquote(parts.path).strip("/")
    if not 3 <= len(name) <= 63 or "/" in name or name != name.lower():
        raise _wrong(f"needs the name of a bucket after the host, 3 to 63 characters in lower case; it has {name!r}")
    return Bucket(
        host=parts.netloc.rpartition("@")[2],
        name=name,
        access_key=unquote(parts.username),
        secret_key=unquote(parts.password),
        tls=TLS[parts.scheme],
        **_options(parts.query, parts.hostname),
    )


def _folder(host: str, path: str, query: str) -> Path:
    if host or not path.startswith("/"):
        raise _wrong("must be file:// and the absolute path of a folder, so it has three slashes: file:///srv/blobs")
    if query:
        raise _wrong("is a folder, which has no options; a ? in its path is written %3F")
    if len(path.strip("/")) == 0:
        raise _wrong("must not be the root of all folders")
    return Path(path)


def _options(query: str, host: str) -> dict[str, Any]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in OPTIONS:
            raise _wrong(f"has an unknown option {name[:40]!r}; there are {', '.join(OPTIONS)}")
    style = given.pop("style", "host" if host.endswith(".amazonaws.com") else "path")
    if style not in ("path", "host"):
        raise _wrong(f"style is {style[:40]!r}; it must be path (host/bucket) or host (bucket.host)")
    links = given.pop("links", "yes")
    if links not in ("yes", "no"):
        raise _wrong(
            f"links is {links[:40]!r}; it must be yes (clients reach the bucket) or no (the API passes files on)"
        )
    if "region" in given and not given["region"].replace("-", "").isalnum():
        raise _wrong(f"region is {given['region'][:40]!r}; it must be a name like eu-central-1")
    return {**given, "virtual_host": style == "host", "links": links == "yes"}


def _wrong(why: str) -> ConfigurationError:
    return ConfigurationError(f"BLOBS_URL: {why}")
