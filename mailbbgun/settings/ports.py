"""What the settings say about the ports of the SMTP door: which there are, and whether it may serve them."""

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.net import is_loopback
from mailbbgun.settings.settings import Settings

#: The settings that are ports, of which 0 means none.
PORTS = ("SMTPD_PORT", "SMTPD_TLS_PORT", "MX_LISTEN_PORT")


def ports(settings: Settings) -> dict[str, int]:
    """Return the ports that the door shall listen on, by setting."""
    return {name: port for name in PORTS if (port := getattr(settings, name))}


def check_ports(settings: Settings) -> None:
    """Refuse ports that the door cannot serve, and clients that would log in without TLS.

    Raises :class:`ConfigurationError`.
    """
    given = ports(settings)
    for name, port in given.items():
        same = next(one for one in given if given[one] == port)
        if same != name:
            raise ConfigurationError(f"{name}: is the same port as {same}")
    if settings.SMTPD_BUFFER_SIZE < settings.MAX_MESSAGE_SIZE:
        told = f"{settings.SMTPD_BUFFER_SIZE} is less than MAX_MESSAGE_SIZE, {settings.MAX_MESSAGE_SIZE}"
        raise ConfigurationError(f"SMTPD_BUFFER_SIZE: {told}, so the largest messages could never come")
    if settings.SMTPD_TLS_PORT and not settings.SMTPD_TLS_CERT:
        raise ConfigurationError("SMTPD_TLS_PORT: needs a certificate: set SMTPD_TLS_CERT")
    if settings.SMTPD_PORT and not settings.SMTPD_TLS_CERT and not is_loopback(settings.SMTPD_HOST):
        raise ConfigurationError(
            f"SMTPD_TLS_CERT: clients of {settings.SMTPD_HOST} log in with API keys, which must not travel in clear "
            "text; name a certificate, or set SMTPD_HOST to 127.0.0.1, or SMTPD_PORT to 0"
        )
