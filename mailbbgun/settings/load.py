"""Reads the settings from ``config.py`` and from ``MAILBBGUN_<NAME>`` environment variables.

A wrong or unknown value stops the program with one line that names it.
"""

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote

from mailbbgun.core import faults, net
from mailbbgun.core.errors import ConfigurationError, NotPermitted
from mailbbgun.core.hosts import Pattern, public_url
from mailbbgun.core.net import Allowed
from mailbbgun.settings import hostname, paths, urls, values
from mailbbgun.settings.given import from_environment, from_file
from mailbbgun.settings.paths import PROJECT
from mailbbgun.settings.settings import Settings

#: The environment variable with the path of ``config.py``.
CONFIG_VARIABLE = "MAILBBGUN_CONFIG"
#: The schemes that a URL may have.
SCHEMES = {
    "DATABASE_URL": ("sqlite", "postgresql"),
    "QUEUE_URL": ("embedded", "amqp", "amqps"),
    "BLOBS_URL": ("file", "s3"),
    "SMTP_URL": ("catcher", "smtp", "smtps", "mx"),
    "SLACK_API_URL": ("https", "http"),
}
#: The same for URLs that may be empty.
OPTIONAL_SCHEMES = {"REDIS_URL": ("redis", "rediss"), "OTEL_EXPORTER_OTLP_ENDPOINT": ("http", "https")}
#: The settings that name a file or a folder.
FILES = ("SMTP_CA_FILE", "MAILDIR_ROOT", "SMTPD_TLS_CERT", "SMTPD_TLS_KEY")
#: Characters of METRICS_KEY, at least: nobody guesses that many.
SHORTEST_KEY = 20
#: Characters of RETURN_PATH_DOMAIN, at most: the local parts there are long (``return_paths/paths.py``).
LONGEST_RETURN_PATH_DOMAIN = 200
_BRACES = re.compile(r"\{(VAR|HOSTNAME)\}")


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read ``config.py`` and the environment; ``environ`` stands in for the process's own.

    ``MAILBBGUN_CONFIG`` names the file. By default it is ``config.py`` of the working folder, else
    that of the project's folder, if there is one. Raises :class:`ConfigurationError` that names the
    first wrong or unknown setting.
    """
    environ = os.environ if environ is None else environ
    faults.wanted_by(environ)
    known = [one.name for one in fields(Settings)]
    given = _from_file(environ.get(CONFIG_VARIABLE), known) | from_environment(
        environ, known, (CONFIG_VARIABLE, *faults.VARIABLES)
    )
    hints = get_type_hints(Settings)
    checked: dict[str, Any] = {}
    # Before the settings that name it in braces.
    own_name = values.checked("HOSTNAME", given.get("HOSTNAME", ""), str, {})
    given["HOSTNAME"] = own_name or hostname.of_this_machine()[0]
    for one in sorted(fields(Settings), key=lambda one: one.name != "VAR"):  # VAR first: others name it
        name, value = one.name, one.default
        if name in given:
            value = values.checked(name, given[name], hints[name], one.metadata)
        checked[name] = _filled_in(name, value, checked, given) if isinstance(value, str) else value
        if name == "VAR":
            checked["VAR"] = paths.of_folder(checked["VAR"], PROJECT)
    for name in FILES:
        checked[name] = paths.of_file(name, checked[name], PROJECT)
    checked["DATABASE_URL"] = paths.of_database(_with_driver(checked["DATABASE_URL"]), PROJECT)
    settings = Settings(**checked)
    check_contents(settings)
    return settings


def _with_driver(url: str) -> str:
    """Return a URL that names the PostgreSQL driver that we have.

    Providers give out postgres:// and postgresql://, for which SQLAlchemy would look for another
    driver.
    """
    return re.sub(r"^postgres(ql)?(\+psycopg2)?:", "postgresql+psycopg2:", url)


def unusable_machine_name(settings: Settings) -> str:
    """Return the machine's name, quoted, if it is invalid and HOSTNAME was made from it; else
    "".
    """
    made, invalid = hostname.of_this_machine()
    return invalid if made == settings.HOSTNAME else ""


def _from_file(path: str | None, known: Collection[str]) -> dict[str, Any]:
    try:
        if path:
            return from_file(Path(path), known)
        here = Path("config.py")
        here = here if os.path.lexists(here) else PROJECT / here
        return from_file(here, known)
    except FileNotFoundError as error:
        if path:
            raise ConfigurationError(f"{CONFIG_VARIABLE}: there is no file {path}{paths.hint(path)}") from error
        if here.is_symlink():
            raise ConfigurationError(f"{here}: is a link to {here.readlink()}, which does not exist") from error
        return {}


def _filled_in(name: str, value: str, settings: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return a value with VAR and HOSTNAME in place of ``{VAR}`` and ``{HOSTNAME}``.

    Other braces stay (a password may have some). Raises :class:`ConfigurationError` if VAR names
    itself.
    """
    if name == "HOSTNAME":
        return value  # whose braces are no part of a host name
    if name == "VAR":
        if "{VAR}" in value:
            raise ConfigurationError(f"VAR: {values.shown(value)} names itself: write the path without {{VAR}}")
        return value.replace("{HOSTNAME}", given["HOSTNAME"])
    texts = {"VAR": settings["VAR"], "HOSTNAME": given["HOSTNAME"]}
    if name.endswith("_URL"):
        texts = {one: quote(text) for one, text in texts.items()}  # readers of a URL unquote it
    return _BRACES.sub(lambda found: texts[found[1]], value)


def check_contents(settings: Settings) -> None:
    """Raise :class:`ConfigurationError` for the first URL, host or list whose content is wrong."""
    optional = {name: schemes for name, schemes in OPTIONAL_SCHEMES.items() if getattr(settings, name)}
    for name, schemes in (SCHEMES | optional).items():
        if fault := urls.fault_of(getattr(settings, name), schemes):
            raise ConfigurationError(f"{name}: {fault}")
    if fault := hostname.fault_of(settings.HOSTNAME):
        raise ConfigurationError(f"HOSTNAME: {settings.HOSTNAME!r} {fault}")
    if settings.RETURN_PATH_DOMAIN and (fault := _fault_of_return_path(settings.RETURN_PATH_DOMAIN)):
        raise ConfigurationError(f"RETURN_PATH_DOMAIN: {settings.RETURN_PATH_DOMAIN!r} {fault}")
    for name in ("HOST", "CATCHER_HOST", "METRICS_HOST", "SMTPD_HOST"):
        if not _is_host(getattr(settings, name)):
            told = "is no IP address and no host name; the port is a setting of its own"
            raise ConfigurationError(f"{name}: {values.shown(getattr(settings, name))} {told}")
    for entry in settings.ALLOWED_HOSTS:
        try:
            Pattern.read(entry)
        except ValueError as error:
            raise ConfigurationError(f"ALLOWED_HOSTS: {error}") from error
    for name in ("PUBLIC_URL", "CDN_URL"):
        try:
            public_url(getattr(settings, name) or "http://localhost")
        except ValueError as error:
            raise ConfigurationError(f"{name}: {error}") from error
    try:
        Allowed.read(settings.ALLOW_PRIVATE_HOSTS)
    except ValueError as error:
        raise ConfigurationError(f"ALLOW_PRIVATE_HOSTS: {error}") from error
    _check_metrics(settings)
    if not settings.RETRY_DELAYS:
        raise ConfigurationError("RETRY_DELAYS: at least one delay is needed")


def _fault_of_return_path(domain: str) -> str:
    if len(domain) > LONGEST_RETURN_PATH_DOMAIN:
        return f"has {len(domain)} characters, and {LONGEST_RETURN_PATH_DOMAIN} are the most"
    return hostname.fault_of(domain)


def _check_metrics(settings: Settings) -> None:
    key = settings.METRICS_KEY
    if key and (len(key) < SHORTEST_KEY or not key.isascii() or " " in key):
        told = f"has {len(key)} characters" if len(key) < SHORTEST_KEY else "has a space or a letter that is not ASCII"
        raise ConfigurationError(f"METRICS_KEY: {told}; it needs at least {SHORTEST_KEY} of A-Z, a-z, 0-9, - and _")
    if settings.METRICS_PORT and not key and not net.is_loopback(settings.METRICS_HOST):
        raise ConfigurationError(
            f"METRICS_KEY: anybody who reaches {settings.METRICS_HOST} could read the metrics; set a key, or "
            "METRICS_HOST to 127.0.0.1"
        )


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)  # it takes a zone (RFC 4007 §11), too
    except ValueError:
        try:
            net.hostname(text)
        except NotPermitted:
            return False
    return True
