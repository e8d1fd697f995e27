"""What the settings say about the door's ports: which there are, and whether it may listen on them."""

from pathlib import Path

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.exposure import taken
from mailbbgun.settings.ports import PORTS, ports
from mailbbgun.settings.settings import Settings
from mailbbgun.smtpd.certificate import DoorCertificate
from mailbbgun.smtpd.options import DoorOptions


def check_some_port(settings: Settings) -> None:
    """Refuse to start without any port. Raises :class:`ConfigurationError`."""
    if not ports(settings):
        raise ConfigurationError(f"SMTPD_PORT: the SMTP door has no port; set one of {', '.join(PORTS)}")


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
