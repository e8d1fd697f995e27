"""The door: it listens, and holds what all connections share."""

import asyncio
import itertools
import logging
import math
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from mailbbgun.accept.accept import Acceptor
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.domains.local import LocalDomains
from mailbbgun.http.refusals import Refusals
from mailbbgun.inbound_routes.recipients import InboundRecipients
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
#: No other door listens.
NONE_LISTENS: Mapping[tuple[str, int], Sequence[socket.socket]] = MappingProxyType({})

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
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._until = math.inf  # when the last clients are closed, while the door closes; the loop's time

    def _incoming(self, services: Services, domains: LocalDomains, refusals: Refusals) -> MailReceiver | None:
        """Return what takes mail at the MX port, if there is one."""
        if self._options.mx_port is None:
            return None
        settings, database = services.settings, services.db
        self._verifier = MailVerifier(settings, services.scanner)
        reports = Reports(database, ReturnPaths(database, services.vault, settings), services.counters)
        inbound = InboundRecipients(database, domains)
        return MailReceiver(settings, domains, inbound, reports, self._storing, self._verifier, refusals)

    async def start(self, listening: Mapping[tuple[str, int], Sequence[socket.socket]] = NONE_LISTENS) -> None:
        """Listen, where possible by sockets that are ``listening`` (:meth:`sockets` of another door).

        Raises ``OSError`` that names the address; then it listens nowhere.
        """
        try:
            await self._listen(listening)
        except OSError:
            self._shut()
            raise
        finally:
            for one in itertools.chain(*listening.values()):
                one.close()  # the door has copies of those that it uses
        self._looking = asyncio.get_running_loop().create_task(self._look())
        log.info("listening", extra={name: f"{host}:{port}" for name, (host, port) in self.addresses.items()})

    async def _listen(self, listening: Mapping[tuple[str, int], Sequence[socket.socket]]) -> None:
        ports = {
            "submission": (self._options.port, DoorPort.SUBMISSION),
            "tls": (self._options.tls_port, DoorPort.TLS),
            "mx": (self._options.mx_port, DoorPort.MX),
        }
        loop = asyncio.get_running_loop()
        for name, (port, kind) in ports.items():
            if port is None:
                continue
            servers = self._servers[name] = []
            made = partial(DoorConnection, self._parts, kind)
            for one in listening.get((self._options.host, port), ()):
                servers.append(await loop.create_server(made, sock=one.dup(), backlog=BACKLOG))
            if not servers:
                reuse = self._options.reuse_port or None
                servers.append(
                    await loop.create_server(made, self._options.host, port, backlog=BACKLOG, reuse_port=reuse)
                )

    def sockets(self) -> Mapping[tuple[str, int], Sequence[socket.socket]]:
        """Return copies of the sockets by which it listens, by the host and port that the options name."""
        its = self._options
        ports = {"submission": its.port, "tls": its.tls_port, "mx": its.mx_port}
        return {
            (its.host, port): [one.dup() for server in self._servers.get(name, ()) for one in server.sockets]
            for name, port in ports.items()
            if port
        }

    @property
    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Where it listens: ``submission``, ``tls``, ``mx`` → host and port."""
        return {name: its[0].sockets[0].getsockname()[:2] for name, its in self._servers.items() if its[0].sockets}

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._parts.registry.clients)

    async def close(self, grace: float) -> None:
        """Stop listening. Idle sessions get 421 at once; those in DATA have ``grace`` seconds to end.

        Messages that are being stored then are stored still, and not answered.
        """
        self._shut()
        loop = asyncio.get_running_loop()
        self._until = min(self._until, loop.time() + grace)
        clients = [one for one in self._parts.registry.clients if isinstance(one, DoorConnection)]
        for one in clients:
            one.stop()
        while loop.time() < self._until and any(one.taking and one in self._parts.registry.clients for one in clients):
            await asyncio.sleep(CLOSING_SECONDS)
        for left in [*self._parts.registry.clients]:
            left.hang_up("421 4.3.2 This server is stopping")
        if self._looking is not None:
            self._looking.cancel()
        self._parts.logins.close()
        self._storing.close()
        if self._verifier is not None:
            self._verifier.close()
        self._parts.refusals.close()

    def hurry(self, grace: float) -> None:
        """Give those that are in DATA so many seconds, at most, while the door closes."""
        self._until = min(self._until, asyncio.get_running_loop().time() + grace)

    def _shut(self) -> None:
        """Stop listening."""
        for server in itertools.chain(*self._servers.values()):
            server.close()

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
