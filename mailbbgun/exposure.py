"""Checks whether we can listen on an address, and whether strangers can reach us there."""

import errno
import os
import socket
import sys
from collections.abc import Iterable
from typing import Any

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.net import is_loopback
from mailbbgun.settings.settings import Settings

#: Settings of ports, and that of their host if it has another name.
_OTHER_HOSTS = {"SMTPD_TLS_PORT": "SMTPD_HOST", "MX_LISTEN_PORT": "SMTPD_HOST"}

_checked = False


def check_exposure(hosts: Iterable[str], settings: Settings) -> None:
    """Refuse to listen where strangers can reach us while no key is required.

    Raises :class:`ConfigurationError`.
    """
    global _checked
    _checked = True
    exposed = [host for host in hosts if not is_loopback(host)]
    if exposed and not (settings.AUTH_REQUIRED or settings.ALLOW_UNAUTHENTICATED):
        raise ConfigurationError(
            f"HOST: anybody who reaches {exposed[0]} could send mail; listen on 127.0.0.1, or set AUTH_REQUIRED"
        )
    if exposed and not (settings.AUTH_REQUIRED or settings.ALLOWED_HOSTS or settings.PUBLIC_URL):
        raise ConfigurationError(
            f"ALLOWED_HOSTS: say by which names clients reach {exposed[0]}, or set PUBLIC_URL; "
            "without AUTH_REQUIRED no other Host is answered"
        )


def check_was_made() -> None:
    """Refuse to serve under a gunicorn that has not read our ``gunicorn.conf.py``.

    gunicorn reads that file only in the folder where it is started. Without the file it does not
    know our settings. Raises :class:`ConfigurationError`.
    """
    if "gunicorn.arbiter" in sys.modules and not _checked:
        raise ConfigurationError(
            "gunicorn did not read gunicorn.conf.py: start it in the project's folder, "
            "or with -c /path/to/gunicorn.conf.py"
        )


def taken(host: str, port: int, setting: str) -> str:
    """Return one line that says why we cannot listen on a port; "" if we can.

    ``setting`` is the port's setting, such as PORT or CATCHER_PORT. Raises :class:`ConfigurationError` if
    the host is not this machine.
    """
    problems: list[OSError | None] = []
    for family, _, _, _, address in _addresses(host, port, setting):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()  # two sockets may reuse an address, but only one may listen
        except OSError as error:
            problems.append(error)
        else:
            problems.append(None)
    away = [error for error in problems if error and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)]
    if len(away) == len(problems):  # localhost may lack one of its two addresses, that of IPv6
        raise ConfigurationError(f"{_host(setting)}: {host} is no address of this machine; 0.0.0.0 is all that it has")
    problem = next((error for error in problems if error and error not in away), None)
    if problem is None:
        return ""
    return cannot_listen(host, port, setting, problem)


def cannot_listen(host: str, port: int, setting: str, error: OSError) -> str:
    """Return one line that says why we cannot listen on a port. ``error`` is the system's."""
    hint = "; below 1024 only root may listen" if error.errno == errno.EACCES else ""
    return (
        f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}{hint}; MAILBBGUN_{setting} sets another port"
    )


def _addresses(host: str, port: int, setting: str) -> list[tuple[Any, ...]]:
    try:
        return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)]
    except OSError as error:
        raise ConfigurationError(
            f"{_host(setting)}: {host} is no address, and a name that cannot be looked up: {error.strerror}"
        ) from error


def _host(setting: str) -> str:
    """Return the setting of the host that a port's setting belongs to."""
    return _OTHER_HOSTS.get(setting, setting.replace("PORT", "HOST"))
