"""Reads from the settings where mail leaves: the server of SMTP_URL, the mail catcher, the DNS."""

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.relays.mx import Resolver
from mailbbgun.relays.url import read as read_url
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp.endpoint import Endpoint


def check(settings: Settings) -> None:
    """Raise :class:`ConfigurationError` for settings of a way out that cannot be used."""
    if settings.direct_mx or settings.DNS_SERVERS:
        resolver(settings)
    if not settings.direct_mx:
        endpoint(settings)


def resolver(settings: Settings, lifetime: float = 10.0) -> Resolver:
    """Return a new DNS resolver of these settings; a query takes at most ``lifetime`` seconds.

    Raises :class:`ConfigurationError` if a server is no address, or the servers differ in port.
    """
    servers = [server.partition("]:" if server.startswith("[") else ":") for server in settings.DNS_SERVERS]
    ports = {port or "53" for _, _, port in servers} or {"53"}
    if len(ports) > 1 or not min(ports).isdecimal() or not 0 < int(min(ports)) < 65_536:
        raise ConfigurationError("DNS_SERVERS: must be addresses, or address:port with one port for all")
    try:
        return Resolver([address.strip("[]") for address, _, _ in servers], int(min(ports)), lifetime)
    except ValueError as error:
        raise ConfigurationError(f"DNS_SERVERS: {error}") from error


def catcher(settings: Settings) -> Endpoint:
    """Return the address of the mail catcher."""
    return Endpoint(settings.CATCHER_HOST, settings.CATCHER_PORT, "none")


def endpoint(settings: Settings) -> Endpoint:
    """Return the one server that all mail leaves through.

    Raises :class:`ConfigurationError`; its text holds no password.
    """
    if settings.all_caught:
        return catcher(settings)
    try:
        return read_url(settings.SMTP_URL, settings.SMTP_CA_FILE or None)
    except ValueError as error:
        raise ConfigurationError(f"SMTP_URL: {error}") from error
