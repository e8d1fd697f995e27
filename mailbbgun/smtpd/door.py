"""The door: it listens, and holds what all connections share."""

from collections.abc import Callable, Mapping

from mailbbgun.accept.accept import Acceptor
from mailbbgun.limits.request_rates import Rates
from mailbbgun.services import Services
from mailbbgun.smtpd.options import DoorOptions
from mailbbgun.tenants.authenticate import Authenticator


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
    ) -> None:
        """Create a door that listens to nobody yet.

        ``failed_login`` is called for each wrong key (``FailedLogins.count``). ``database_found`` says
        whether there is a usable database; while there is none, clients are told to come again.
        """

    async def start(self) -> None:
        """Listen. Raises ``OSError`` that names the address, and :class:`ConfigurationError` about the certificate."""

    @property
    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Where it listens: ``submission``, ``tls``, ``mx`` → host and port."""
        return {}

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return 0

    async def close(self, grace: float) -> None:
        """Stop listening. Idle sessions get 421 at once; those in DATA have ``grace`` seconds to end."""
