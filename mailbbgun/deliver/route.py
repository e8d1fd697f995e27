"""Which way a recipient's mail leaves: one server for all (``smtp:``, ``catcher:``) or each domain's MX (``mx:``). Mail of test keys: the catcher."""

from dataclasses import asdict
from typing import Literal, cast
from urllib.parse import parse_qs, unquote, urlsplit

from mailbbgun.base.errors import ConfigurationError
from mailbbgun.base.settings import Settings
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.mx import Resolver
from mailbbgun.smtp.pool import Pool
from mailbbgun.smtp.relay import DirectMX, SmartHost

Relay = SmartHost | DirectMX

SMARTHOST = "smarthost"
CATCHER = "catcher:"  # of mail of test keys, and with the colon no domain's; the breaker has a circuit for it as for each route
DEFAULT_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Routes:
    """The ways out of this process and their connections. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Raises :class:`ConfigurationError` for a ``SMTP_URL`` that cannot be used."""
        self.per_domain = settings.SMTP_URL.startswith("mx:")
        self.timeouts = Timeouts(**asdict(settings.SMTP_TIMEOUTS))
        self._pool = Pool(
            self.timeouts,
            settings.HOSTNAME,
            max_messages=settings.MESSAGES_PER_CONNECTION,
            idle=float(settings.IDLE_CONNECTION_SECONDS),
        )
        self._relay = self._way_out(settings)
        self._catcher = SmartHost(catcher(settings), self._pool)

    def key(self, address: str) -> str:
        """Return what recipients must share to go in one transaction."""
        return address.rpartition("@")[2].lower() if self.per_domain else SMARTHOST

    def relay(self, key: str) -> Relay:
        """Return what carries the mail of a route."""
        return self._catcher if key == CATCHER else self._relay

    def reap(self) -> None:
        """Close connections that have idled too long."""
        self._pool.reap()

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.close_all()

    def _way_out(self, settings: Settings) -> Relay:
        if self.per_domain:
            return DirectMX(resolver(settings), self._pool, port=settings.MX_PORT)
        return SmartHost(endpoint(settings), self._pool)


def check(settings: Settings) -> None:
    """Raise :class:`ConfigurationError` for a way out that cannot be used, without taking it."""
    if settings.SMTP_URL.startswith("mx:"):
        resolver(settings)
    else:
        endpoint(settings)


def resolver(settings: Settings) -> Resolver:
    """Return what asks the DNS. Raises :class:`ConfigurationError` for servers that are none, or do not share a port."""
    servers = [server.partition("]:" if server.startswith("[") else ":") for server in settings.DNS_SERVERS]
    ports = {port or "53" for _, _, port in servers} or {"53"}
    if len(ports) > 1 or not min(ports).isdecimal() or not 0 < int(min(ports)) < 65_536:
        raise ConfigurationError("DNS_SERVERS: must be addresses, or address:port with one port for all")
    try:
        return Resolver([address.strip("[]") for address, _, _ in servers], int(min(ports)))
    except ValueError as error:
        raise ConfigurationError(f"DNS_SERVERS: {error}") from error


def catcher(settings: Settings) -> Endpoint:
    """Return where the mail catcher listens."""
    return Endpoint(settings.CATCHER_HOST, settings.CATCHER_PORT, "none")


def endpoint(settings: Settings) -> Endpoint:
    """Return the one server all mail leaves through. Raises :class:`ConfigurationError`, naming no password."""
    if settings.SMTP_URL.startswith("catcher:"):
        return catcher(settings)
    try:
        url = urlsplit(settings.SMTP_URL)
        port = url.port
    except ValueError as error:
        raise ConfigurationError("SMTP_URL: is not a URL; what is special in user and password must be written as %XX") from error
    query = parse_qs(url.query, keep_blank_values=True)
    security = query.pop("security", ["starttls"])[-1]
    if not url.hostname or security not in DEFAULT_PORTS or query or url.path not in ("", "/"):
        raise ConfigurationError("SMTP_URL: must be smtp://user:password@host:587?security=starttls|tls|none")
    return Endpoint(
        url.hostname,
        port or DEFAULT_PORTS[security],
        cast(Literal["starttls", "tls", "none"], security),
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password or ""),
        ca_file=settings.SMTP_CA_FILE or None,
    )
