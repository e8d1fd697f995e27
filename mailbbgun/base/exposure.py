"""Who can reach an address we listen on."""

import ipaddress
from collections.abc import Iterable

from mailbbgun.base.errors import ConfigurationError
from mailbbgun.base.settings import Settings


def check_exposure(hosts: Iterable[str], settings: Settings) -> None:
    """Refuse to listen where strangers are while nothing asks for a key. Raises :class:`ConfigurationError`."""
    exposed = [host for host in hosts if not _is_loopback(host)]
    if exposed and not settings.ALLOW_UNAUTHENTICATED:
        raise ConfigurationError(f"HOST: anybody who reaches {exposed[0]} could send mail; listen on 127.0.0.1, or set ALLOW_UNAUTHENTICATED")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
