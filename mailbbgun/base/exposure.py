"""Whether we can listen on an address, and who can reach us there."""

import ipaddress
import socket
import sys
from collections.abc import Iterable

from mailbbgun.base.errors import ConfigurationError
from mailbbgun.base.settings import Settings

_checked = False


def check_exposure(hosts: Iterable[str], settings: Settings) -> None:
    """Refuse to listen where strangers are while nobody has to show a key. Raises :class:`ConfigurationError`."""
    global _checked
    _checked = True
    exposed = [host for host in hosts if not _is_loopback(host)]
    if exposed and not (settings.AUTH_REQUIRED or settings.ALLOW_UNAUTHENTICATED):
        raise ConfigurationError(f"HOST: anybody who reaches {exposed[0]} could send mail; listen on 127.0.0.1, or set AUTH_REQUIRED")


def check_was_made() -> None:
    """Refuse to serve under a gunicorn that was started without our ``gunicorn.conf.py``. Raises :class:`ConfigurationError`.

    It reads that file only in the folder it is started in, and knows nothing of our settings without it.
    """
    if "gunicorn.arbiter" in sys.modules and not _checked:
        raise ConfigurationError("gunicorn did not read gunicorn.conf.py: start it in the project's folder, or with -c /path/to/gunicorn.conf.py")


def taken(host: str, port: int, setting: str) -> str:
    """Return why we cannot listen there, in one line, or nothing."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()  # of two sockets that reuse an address only one may listen
    except OSError as error:
        return f"cannot listen on {host}:{port}: {error.strerror}; MAILBBGUN_{setting} sets another port"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
