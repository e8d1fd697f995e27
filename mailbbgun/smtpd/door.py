"""The door: it listens, and holds what all connections share."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from mailbbgun.accept.accept import Acceptor
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.domains.local import LocalDomains
from mailbbgun.http.refusals import Refusals
from mailbbgun.limits.request_rates import Rates
from mailbbgun.return_paths.paths import ReturnPaths
from mailbbgun.return_paths.receive import Reports
from mailbbgun.services import Services
from mailbbgun.smtpd.certificate import DoorCertificate
from mailbbgun.smtpd.conversation.connection import DoorConnection
from mailbbgun.smtpd.conversation.session import DoorPort
from mailbbgun.smtpd.logins import Logins
from mailbbgun.smtpd.options import DoorOptions
from mailbbgun.smtpd.parts import DoorParts
from mailbbgun.smtpd.registry import LOOK_SECONDS, DoorRegistry
from mailbbgun.smtpd.taking.incoming import MailReceiver
from mailbbgun.smtpd.taking.storing import Storing
from mailbbgun.smtpd.taking.submissions import Submissions
from mailbbgun.smtpd.taking.verifying import MailVerifier
from mailbbgun.tenants.authenticate import Authenticator

#: Connections that the kernel keeps for us, at most.
BACKLOG = 1024
#: Seconds between two looks whether messages are still on their way, while the door closes.
CLOSING_SECONDS = 0.02

log = logging.getLogger("mailbbgun.smtpd")


class Door:
    """The SMTP door of one process. For one event loop."""

    def __init__(
        self,
        services: Services,
        acceptor: Acceptor,
        authenticator: Authenticator,
        rates: Rates,
        options: DoorOptions,
        *,
        failed_login: Callable[[], None] = lambda: None,
        database_found: Callable[[], bool] = lambda: True,
        domains: LocalDomains | None = None,
    ) -> None:
        """Create a door that listens to nobody yet.

        ``failed_login`` is called for each wrong key (``FailedLogins.count``). ``database_found`` says
        whether there is a usable database; while there is none, clients are told to come again. ``domains``
        are those that the MX port takes mail for. Raises
        :class:`ConfigurationError` about the certificate, or what the MX port asks.
        """
        settings, refusals = services.settings, Refusals()
        self._storing = Storing(acceptor, scans=services.scanner is not None)
        self._options = options
        self._verifier: MailVerifier | None = None
        self._parts = DoorParts(
            settings=settings,
            options=options,
            certificate=_certificate(options),
            registry=DoorRegistry(options),
            logins=Logins(authenticator, rates, failed_login, refusals),
            submissions=Submissions(settings, self._storing),
            incoming=self._incoming(services, domains or LocalDomains(services.db), refusals),
            database_found=database_found,
            refusals=refusals,
        )
        self._servers: dict[str, asyncio.Server] = {}
        self._looking: asyncio.Task[None] | None = None

    def _incoming(self, services: Services, domains: LocalDomains, refusals: Refusals) -> MailReceiver | None:
        """Return what takes mail at the MX port, if there is one."""
        if self._options.mx_port is None:
            return None
        settings, database = services.settings, services.db
        self._verifier = MailVerifier(settings, services.scanner)
        reports = Reports(database, ReturnPaths(database, services.vault, settings), services.counters)
        return MailReceiver(settings, database, domains, reports, self._storing, self._verifier, refusals)

    async def start(self) -> None:
        """Listen. Raises ``OSError`` that names the address."""
        ports = {
            "submission": (self._options.port, DoorPort.SUBMISSION),
            "tls": (self._options.tls_port, DoorPort.TLS),
            "mx": (self._options.mx_port, DoorPort.MX),
        }
        loop = asyncio.get_running_loop()
        for name, (port, kind) in ports.items():
            if port is not None:
                self._servers[name] = await loop.create_server(
                    lambda kind=kind: DoorConnection(self._parts, kind),
                    self._options.host,
                    port,
                    backlog=BACKLOG,
                    reuse_port=self._options.reuse_port or None,
                )
        self._looking = loop.create_task(self._look())
        log.info("listening", extra={name: f"{host}:{port}" for name, (host, port) in self.addresses.items()})

    @property
    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Where it listens: ``submission``, ``tls``, ``mx`` → host and port."""
        return {name: server.sockets[0].getsockname()[:2] for name, server in self._servers.items() if server.sockets}

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._parts.registry.clients)

    async def close(self, grace: float) -> None:
        """Stop listening. Idle sessions get 421 at once; those in DATA have ``grace`` seconds to end.

        Messages that are being stored then are stored still, and not answered.
        """
        for server in self._servers.values():
            server.close()
        if self._looking is not None:
            self._looking.cancel()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        clients = [one for one in self._parts.registry.clients if isinstance(one, DoorConnection)]
        for one in clients:
            one.stop()
        while loop.time() < until and any(one.taking and one in self._parts.registry.clients for one in clients):
            await asyncio.sleep(CLOSING_SECONDS)
        for left in [*self._parts.registry.clients]:
            left.hang_up("421 4.3.2 This server is stopping")
        self._parts.logins.close()
        self._storing.close()
        if self._verifier is not None:
            self._verifier.close()
        self._parts.refusals.close()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self._parts.registry.close_late()
                if self._parts.certificate is not None:
                    self._parts.certificate.refresh()
            except Exception:  # a bug of ours: without this task, no time limit would hold
                log.exception("unexpected")


def _certificate(options: DoorOptions) -> DoorCertificate | None:
    """Return the certificate, if there is one. Raises :class:`ConfigurationError`."""
    if (options.certificate is None) != (options.key is None):
        raise ConfigurationError("the door's certificate and its key: both are needed, or none")
    if options.certificate is not None and options.key is not None:
        return DoorCertificate(options.certificate, options.key)
    if options.tls_port is not None:
        raise ConfigurationError("the door's TLS port needs a certificate")
    return None
