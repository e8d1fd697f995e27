"""What every program looks at before it works: settings that could not be used, and servers that are not up yet or refuse us.

In: settings that ``settings.load`` has read. Promises: what is set wrong is a :class:`ConfigurationError` with one
sentence, the same for every program, and what only takes time is waited for.
"""

import logging
import ssl
import time
from collections.abc import Callable

from mailbbgun.accept.checks import check_default_sender
from mailbbgun.core.errors import ConfigurationError, Unavailable, explained
from mailbbgun.core.outages import Outages
from mailbbgun.database.crypto import Vault
from mailbbgun.limits.stores import permit_store
from mailbbgun.routing import routes as route
from mailbbgun.services import Services
from mailbbgun.settings.load import load, unusable_machine_name
from mailbbgun.settings.settings import Settings

log = logging.getLogger("mailbbgun.startup")


def load_checked(*, sends: bool = True) -> Settings:
    """Return the settings, looked at as :func:`check` does. Raises :class:`ConfigurationError`."""
    settings = load()
    check(settings, sends=sends)
    return settings


def check(settings: Settings, *, sends: bool = True) -> None:
    """Look at the settings that reading them did not show to be right. Asks no server. Raises :class:`ConfigurationError`.

    ``sends``: the program connects to mail servers, so it reads ``SMTP_CA_FILE``. The worker does to deliver, the API to test accounts.
    """
    check_default_sender(settings)
    route.check(settings)
    if sends:
        _check_authorities(settings.SMTP_CA_FILE)
    if settings.ENCRYPTION_KEYS:
        _ = Vault(settings).size


def check_redis(services: Services) -> None:
    """Ask Redis, if there is one, whether it lets us in. One that is away is no reason not to start. Raises :class:`ConfigurationError`."""
    if not services.settings.REDIS_URL:
        return
    counting = permit_store(services.settings, services.db)
    try:
        counting.check()
    except Unavailable as error:
        if error.refused:
            raise ConfigurationError(str(error)) from error
        log.warning("redis_unavailable", extra={"error": explained(error)})
    finally:
        counting.close()


def tell_host_name(settings: Settings) -> None:
    """Say in the log if the machine's name could not be ours, and which is taken for it."""
    if odd := unusable_machine_name(settings):
        why = f"the machine's name {odd} cannot be used in mail; HOSTNAME sets another"
        log.warning("host_name_replaced", extra={"hostname": settings.HOSTNAME, "why": why})


def patiently(task: Callable[[], None], outages: Outages, *, wait_if_refused: bool = False) -> None:
    """Run a check, waiting for a server that does not answer yet, and telling ``outages`` so.

    Raises :class:`ConfigurationError` at once, and for a server that refuses what is set, unless ``wait_if_refused``.
    """
    away: set[str] = set()
    while True:
        try:
            task()
            for kind in away:
                outages.worked(kind, "start")
            return
        except Unavailable as error:
            if error.refused and not wait_if_refused:
                raise ConfigurationError(str(error)) from error
            away.add(error.kind)
            outages.failed("start", error)
            time.sleep(1.0)


def _check_authorities(file: str) -> None:
    if not file:
        return
    try:
        context = ssl.create_default_context(cafile=file)
    except ssl.SSLError as error:  # which is an OSError, too
        raise ConfigurationError(f"SMTP_CA_FILE: {file!r} holds no certificate in PEM form") from error
    except OSError as error:
        raise ConfigurationError(f"SMTP_CA_FILE: {file!r} cannot be read: {error.strerror}") from error
    if not context.get_ca_certs():
        raise ConfigurationError(f"SMTP_CA_FILE: {file!r} holds no certificate of an authority")
