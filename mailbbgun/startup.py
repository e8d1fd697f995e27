"""The checks of every program before it works: of its settings, and of the servers that it needs.

In: settings that ``settings.load`` has read. What it promises: a wrong setting is a
:class:`ConfigurationError` with one sentence, the same in every program. A server that is not up
yet is waited for.
"""

import logging
import ssl
import time
from collections.abc import Callable

from mailbbgun.accept.address_lists import check_default_sender
from mailbbgun.blobs import url
from mailbbgun.bounces import rules
from mailbbgun.core.errors import ConfigurationError, ScannerUnavailable, Unavailable, explained
from mailbbgun.core.outages import Outages
from mailbbgun.database.crypto import Vault
from mailbbgun.limits.stores import permit_store
from mailbbgun.routing import ways_out
from mailbbgun.safety.scanner import Scanner
from mailbbgun.services import Services
from mailbbgun.settings.load import load, unusable_machine_name
from mailbbgun.settings.settings import Settings
from mailbbgun.verification.rspamd import Rspamd

log = logging.getLogger("mailbbgun.startup")


def load_checked(*, sends: bool = True) -> Settings:
    """Return the settings after :func:`check`. Raises :class:`ConfigurationError`."""
    settings = load()
    check(settings, sends=sends)
    return settings


def check(settings: Settings, *, sends: bool = True) -> None:
    """Check the settings further than reading them does, but without any server.

    ``sends``: the program connects to mail servers, so it needs ``SMTP_CA_FILE``. The worker does,
    to deliver; the API does, to test accounts. Raises :class:`ConfigurationError`.
    """
    check_default_sender(settings)
    ways_out.check(settings)
    url.read(settings.BLOBS_URL)
    rules.classifier(settings.BOUNCE_RULES)
    if settings.CLAMAV_URL:
        Scanner(settings.CLAMAV_URL)
    if settings.RSPAMD_URL:
        Rspamd(settings.RSPAMD_URL, settings.RSPAMD_SECONDS, settings.HTTP_CA_FILE)
    if sends:
        _check_authorities(settings.SMTP_CA_FILE)
    if settings.ENCRYPTION_KEYS:
        _ = Vault(settings).size


def check_redis(services: Services) -> None:
    """Check that Redis, if it is used, lets us in. If it is away, only log that.

    Raises :class:`ConfigurationError`.
    """
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


def look_at_scanner(services: Services) -> None:
    """Log if the virus scanner, if there is one, does not answer."""
    if services.scanner is None:
        return
    try:
        services.scanner.check()
    except ScannerUnavailable as error:
        told = {"error": explained(error), "meanwhile": services.settings.SCANNER_DOWN}
        log.warning("scanner_unavailable", extra=told)


def tell_host_name(settings: Settings) -> None:
    """Log if the machine's name cannot be used in mail, and which name is used instead."""
    if odd := unusable_machine_name(settings):
        why = f"the machine's name {odd} cannot be used in mail; HOSTNAME sets another"
        log.warning("host_name_replaced", extra={"hostname": settings.HOSTNAME, "why": why})


def patiently(task: Callable[[], object], outages: Outages, *, wait_if_refused: bool = False) -> None:
    """Run a check again until the server that it needs answers. Tells ``outages`` meanwhile.

    Raises :class:`ConfigurationError` at once if the check does. Raises it, too, if the server
    refuses us, unless ``wait_if_refused``.
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
    except ssl.SSLError as error:  # first, because it is an OSError, too
        raise ConfigurationError(f"SMTP_CA_FILE: {file!r} holds no certificate in PEM form") from error
    except OSError as error:
        raise ConfigurationError(f"SMTP_CA_FILE: {file!r} cannot be read: {error.strerror}") from error
    if not context.get_ca_certs():
        raise ConfigurationError(f"SMTP_CA_FILE: {file!r} holds no certificate of an authority")
