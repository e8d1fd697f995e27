"""What the settings say about the door's ports: which there are, and whether it may listen on them."""

from pathlib import Path

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.core.net import is_loopback
from mailbbgun.exposure import taken
from mailbbgun.settings.settings import Settings
from mailbbgun.smtpd.certificate import DoorCertificate
from mailbbgun.smtpd.options import DoorOptions

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
    if not given:
        raise ConfigurationError(f"SMTPD_PORT: the SMTP door has no port; set one of {', '.join(PORTS)}")
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


def check_certificate(settings: Settings) -> None:
    """Read the certificate, if there is one. Raises :class:`ConfigurationError`."""
    if settings.SMTPD_TLS_CERT:
        try:
            DoorCertificate(*_files(settings))
        except ConfigurationError as error:
            raise ConfigurationError(f"SMTPD_TLS_CERT: {error}") from error


def port_taken(settings: Settings) -> str:
    """Return one line that says why the door cannot listen on its ports; "" if it can."""
    found = (taken(settings.SMTPD_HOST, port, name) for name, port in ports(settings).items())
    return next(filter(None, found), "")


def options_of(settings: Settings, *, processes: int, connections: int) -> DoorOptions:
    """Return the door's options, for one of so many processes, with at most so many connections."""
    certificate, key = _files(settings) if settings.SMTPD_TLS_CERT else (None, None)
    return DoorOptions(
        host=settings.SMTPD_HOST,
        port=settings.SMTPD_PORT or None,
        tls_port=settings.SMTPD_TLS_PORT or None,
        mx_port=settings.MX_LISTEN_PORT or None,
        certificate=certificate,
        key=key,
        reuse_port=processes > 1,
        connections=connections,
        connections_per_network=settings.SMTPD_CONNECTIONS_PER_ADDRESS,
        in_flight=settings.SMTPD_BUFFER_SIZE,
        normalise_newlines=settings.SMTPD_BARE_NEWLINES == "normalise",
    )


def _files(settings: Settings) -> tuple[Path, Path]:
    """Return the files of the certificate and of its key, which may be one."""
    return Path(settings.SMTPD_TLS_CERT), Path(settings.SMTPD_TLS_KEY or settings.SMTPD_TLS_CERT)
