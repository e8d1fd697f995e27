"""Settings: one frozen value, filled from ``config.py`` and then from ``MAILBBGUN_<NAME>`` environment variables, which win.

A wrong or unknown value stops start-up with one line that names it. ``python -m mailbbgun.settings.settings`` prints ``config.py.sample``.
"""

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints
from urllib.parse import quote

from mailbbgun.core import faults, net
from mailbbgun.core.errors import ConfigurationError, NotPermitted
from mailbbgun.core.hosts import Pattern, public_url
from mailbbgun.core.net import Allowed
from mailbbgun.settings import hostname, paths, urls
from mailbbgun.settings.given import PREFIX as PREFIX
from mailbbgun.settings.given import from_environment, from_file
from mailbbgun.settings.timeouts import SMTPTimeouts
from mailbbgun.settings.values import checked as made
from mailbbgun.settings.values import shown

PROJECT = Path(__file__).resolve().parents[2]  # the folder of api.py
CONFIG_VARIABLE = "MAILBBGUN_CONFIG"
SCHEMES = {
    "DATABASE_URL": ("sqlite", "postgresql"),
    "QUEUE_URL": ("embedded", "amqp", "amqps"),
    "SMTP_URL": ("catcher", "smtp", "smtps", "mx"),
}
OPTIONAL_SCHEMES = {"REDIS_URL": ("redis", "rediss")}  # of settings that may be empty
FILLED_IN = ("VAR", "HOSTNAME")  # what other settings may name in braces
_BRACES = re.compile(r"\{(VAR|HOSTNAME)\}")


def _setting(default: Any, sentence: str, *, least: float | None = None, most: float | None = None) -> Any:
    return field(default=default, metadata={"doc": sentence, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the service. Times are seconds, sizes are bytes."""

    VAR: str = _setting(
        "var",
        "Folder of everything the service keeps on this machine: database, journals, caught mail. A relative path starts at the project's folder; "
        "~ is not expanded.",
    )
    DATABASE_URL: str = _setting(
        "sqlite:///{VAR}/mailbbgun.db",
        "The database: sqlite:///path (relative to the project's folder; absolute with four slashes) or "
        "postgresql+psycopg2://user:password@host/database; as in all URLs, % and what is special "
        "in a path, user or password is written %25, %23 for # and so on.",
    )
    QUEUE_URL: str = _setting(
        "embedded:",
        "The queue: embedded: (rows in the database) or amqp://user:password@host1,host2/vhost for RabbitMQ.",
    )
    SMTP_URL: str = _setting(
        "catcher:",
        "Where mail leaves: catcher: (the built-in mail catcher), smtp://user:password@host:587?security=starttls|tls|none (by default security "
        "is tls on port 465, otherwise starttls, and the port that of the security: 587, 465 or 25; smtps:// means tls), or mx: (straight to each "
        "recipient's MX). In user name and password # / ? @ and % are written %23 %2F %3F %40 and %25.",
    )
    REDIS_URL: str = _setting(
        "",
        "A Redis that counts requests, and mail of SMTP accounts with limits: redis://user:password@host:6379/0, rediss:// with "
        "TLS. Empty: the database counts mail, and each API process its own requests.",
    )

    HOST: str = _setting("127.0.0.1", "Address the API listens on.")
    PORT: int = _setting(5000, "Port the API listens on.", least=1, most=65535)
    API_THREADS: int = _setting(
        16,
        "Requests that one API process serves at once, besides those that are being stored. SMTP accounts can be tested from 2 on.",
        least=1,
        most=256,
    )
    API_PROCESSES: int = _setting(
        0,
        "API processes; 0: one for each core, at most 4; with SQLite, which takes one writer at a time, one.",
        least=0,
        most=64,
    )
    API_CONNECTIONS: int = _setting(
        8192,
        "Most connections of one API process. Beyond it the process closes the connection that has made no progress for longest. "
        "Each takes some kilobytes of memory and a file (ulimit -n, LimitNOFILE).",
        least=16,
        most=100_000,
    )
    API_CONNECTIONS_PER_ADDRESS: int = _setting(
        6144,
        "Most connections of one client address (of IPv6 a /64) to one API process. Not used with PROXIES.",
        least=1,
        most=100_000,
    )
    API_BUFFER_SIZE: int = _setting(
        134_217_728,
        "Memory of one API process for requests and answers that are being transferred; at least twice MAX_BODY_SIZE. "
        "Beyond it the process closes the connection that has transferred least.",
        least=0,
        most=1_000_000_000_000,
    )
    API_HEAD_SECONDS: int = _setting(
        20, "How long a client may take to send a request's head. Then it gets 408.", least=1, most=600
    )
    API_STALL_SECONDS: int = _setting(
        20,
        "How long a client may take for the next piece of a body that it sends or an answer that it reads. A piece has 4096 bytes for each of these "
        "seconds. Then it gets 408 for the body, and the connection is closed.",
        least=1,
        most=600,
    )
    API_TRANSFER_SECONDS: int = _setting(
        3600, "How long a client may take at most to send a body, or to read an answer.", least=1, most=86_400
    )
    AUTH_REQUIRED: bool = _setting(
        False,
        "Every request must show an API key. If False, requests without one are the tenant default's, and only loopback is listened on.",
    )
    ALLOW_UNAUTHENTICATED: bool = _setting(
        False,
        "Listen on any address although AUTH_REQUIRED is off. Only behind something that asks for keys itself. "
        "ALLOWED_HOSTS or PUBLIC_URL must then have the API's host name.",
    )
    ALLOWED_HOSTS: tuple[str, ...] = _setting(
        (),
        "Host names of this service, as clients write them: mail.example.com, with :port for that port alone, *.example.com for all names below. "
        "Without AUTH_REQUIRED the API answers only for these, loopback names and PUBLIC_URL's host. URLs in answers have no other host.",
    )
    PUBLIC_URL: str = _setting(
        "",
        "Where clients reach this service, like https://mail.example.com: URLs in answers begin with it. Empty: with the request's host.",
    )
    PROXIES: int = _setting(
        0,
        "Number of your proxies in front of the API, one behind the other. Each adds its client's address to X-Forwarded-For and passes on Host; the "
        "last sets X-Forwarded-Proto. The API takes the client's address and https from these headers. 0: it ignores them.",
        least=0,
        most=10,
    )
    RATE_LIMIT_PER_MINUTE: int = _setting(
        0,
        "Requests a minute of an API key without a limit of its own, and of all requests without a key together; 0: no limit. Without "
        "REDIS_URL each API process allows its share of this and every limit of requests: the limit divided by the processes, at least one.",
        least=0,
        most=1_000_000,
    )
    UNAUTHORIZED_PER_MINUTE: int = _setting(
        60,
        "Requests a minute with a wrong API key, or without one, from one address (of IPv6 a /64); further ones get 429. All API processes of a "
        "machine count together. 0: no limit.",
        least=0,
        most=1_000_000,
    )
    ENCRYPTION_KEYS: tuple[str, ...] = _setting(
        (),
        "Keys for passwords in the database, as bin/generate-keys makes them: the first encrypts, all decrypt. "
        "Empty: the key in {VAR}/encryption.key, which initdb.py makes. All machines need the same keys.",
    )

    CATCHER_HOST: str = _setting(
        "127.0.0.1", "Address the mail catcher listens on. Workers send mail of test keys there."
    )
    CATCHER_PORT: int = _setting(1025, "Port the mail catcher listens on.", least=1, most=65535)
    CATCHER_MOST: int = _setting(10_000, "How many of the newest mails the catcher keeps.", least=1, most=1_000_000)
    CATCHER_SIZE: int = _setting(
        1_073_741_824, "How much of the newest mail the catcher keeps.", least=1_000_000, most=1_000_000_000_000
    )

    HOSTNAME: str = _setting(
        "",
        "The machine's public name, for EHLO and Message-ID. Empty: the machine's own name, changed if it is not a valid host name.",
    )
    DEFAULT_FROM: str = _setting("Mail BB Gun <noreply@{HOSTNAME}>", "From of messages that name none.")

    MAX_SUBJECT_SIZE: int = _setting(256, "Longest subject, in characters.", least=1, most=10_000)
    MAX_TEXT_SIZE: int = _setting(
        1_048_576, "Longest text, and longest html, in bytes of UTF-8.", least=1, most=50_000_000
    )
    MAX_EMAIL_ADDRESS_SIZE: int = _setting(256, "Longest e-mail address, in characters.", least=6, most=1000)
    MAX_RECIPIENTS: int = _setting(100, "Most recipients of one message, to, cc and bcc together.", least=1, most=1000)
    CASE_SENSITIVE_LOCAL_PARTS: bool = _setting(
        False,
        "Whether Ann@example.com and ann@example.com in one message are two recipients. By default they are one mailbox, and the first "
        "address gets the one copy. The case of the domain never matters.",
    )
    MAX_BODY_SIZE: int = _setting(33_554_432, "Largest HTTP request body.", least=1024, most=1_000_000_000)
    IDEMPOTENCY_SECONDS: int = _setting(86_400, "How long an Idempotency-Key is remembered.", least=60, most=2_592_000)

    RETRY_DELAYS: tuple[int, ...] = _setting(
        (600, 600, 600, 1800, 3600, 7200, 14_400, 28_800),
        "Waits between attempts, each ±10 % at random. After the last the delivery ends as expired.",
        least=1,
        most=604_800,
    )
    ON_UNKNOWN: Literal["retry", "hold"] = _setting(
        "retry",
        "What to do when a server's answer to the end of DATA was lost: retry (at most twice; the recipient may get up to three copies) "
        "or hold (never send again; the delivery ends as ERROR, outcome_unknown).",
    )
    REFUSED_PAUSE_SECONDS: int = _setting(
        60,
        "How long workers pause a server that refuses our password or certificate, or whose own certificate is wrong. Then one message tries it.",
        least=1,
        most=86_400,
    )
    CIRCUIT_FAILURES: int = _setting(
        5,
        "Number of failures in a row to connect to a server, or of replies 421, after which workers pause it.",
        least=1,
        most=1000,
    )
    CIRCUIT_PAUSE_SECONDS: int = _setting(
        30,
        "How long workers pause a server after CIRCUIT_FAILURES, but at most half of the shortest of RETRY_DELAYS. Then one message tries it.",
        least=1,
        most=3600,
    )
    WORKER_PROCESSES: int = _setting(0, "Processes of one worker.py; 0: as for API_PROCESSES.", least=0, most=64)
    WORKER_CONNECTIONS: int = _setting(
        20, "SMTP connections that one worker.py uses at once, all its processes together.", least=1, most=1000
    )
    CONNECTIONS_PER_DOMAIN: int = _setting(
        5, "With mx:, SMTP connections of one worker.py at once for one recipient domain.", least=1, most=999
    )
    MESSAGES_PER_CONNECTION: int = _setting(
        100, "Messages sent over one SMTP connection before a new one is made.", least=1, most=100_000
    )
    IDLE_CONNECTION_SECONDS: int = _setting(30, "How long an unused SMTP connection is kept.", least=1, most=300)
    LEASE_SECONDS: int = _setting(
        60, "How long a worker's claim on a delivery is valid unless the worker renews it.", least=4, most=3600
    )
    SWEEP_SECONDS: int = _setting(15, "How often each worker looks for stranded messages.", least=1, most=600)
    SHUTDOWN_GRACE: int = _setting(
        30, "How long a worker that was told to stop may finish the mail that it is sending.", least=0, most=3600
    )

    SMTP_TIMEOUTS: SMTPTimeouts = _setting(  # noqa: RUF009 - a dataclasses.field, as all of them
        SMTPTimeouts(),
        "Limit of each phase of an SMTP dialogue (RFC 5321 §4.5.3.2); a phase not named keeps its default. In the environment: connect=30,dot=300.",
        least=0.1,
        most=1800,
    )
    SMTP_CA_FILE: str = _setting("", "PEM file of authorities to trust for SMTP over TLS; empty: the system's.")
    MX_PORT: int = _setting(25, "Port of recipients' mail servers when SMTP_URL is mx:.", least=1, most=65535)
    DNS_SERVERS: tuple[str, ...] = _setting(
        (), "DNS servers for MX look-ups, address or address:port; empty: the system's."
    )

    ALLOW_PRIVATE_HOSTS: tuple[str, ...] = _setting(
        (),
        "Private networks (10.0.0.0/8) and host names, on any port, that SMTP accounts, and with mx: recipients' domains, may use as mail servers. "
        "*: all of them; then whoever may set up an account or a domain can reach any server that this machine reaches.",
    )

    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting("INFO", "Least important log line to print.")
    LOG_FORMAT: Literal["text", "json"] = _setting("text", "Form of log lines.")
    SQLITE_SYNCHRONOUS: Literal["EXTRA", "FULL", "NORMAL", "OFF"] = _setting(
        "FULL", "SQLite's PRAGMA synchronous; below FULL a power cut loses mail."
    )
    ALLOW_WEAK_DURABILITY: bool = _setting(
        False, "Start although a power cut may make the database lose accepted mail."
    )

    @property
    def all_caught(self) -> bool:
        """Whether all mail goes to the catcher, and not that of test keys alone."""
        return urls.scheme_of(self.SMTP_URL) == "catcher"

    @property
    def direct_mx(self) -> bool:
        """Whether mail goes straight to the mail exchangers of each recipient's domain."""
        return urls.scheme_of(self.SMTP_URL) == "mx"

    @property
    def var(self) -> Path:
        """The folder of local state."""
        return Path(self.VAR)

    @property
    def api_processes(self) -> int:
        """How many API processes to run."""
        return self.API_PROCESSES or self._cores()

    @property
    def worker_processes(self) -> int:
        """How many worker processes to run."""
        return self.WORKER_PROCESSES or self._cores()

    def _cores(self) -> int:
        return 1 if self.DATABASE_URL.startswith("sqlite") else min(4, len(os.sched_getaffinity(0)))

    @property
    def journal_folder(self) -> Path:
        """Where workers keep their journals."""
        return self.var / "journal"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read ``config.py`` (path in ``MAILBBGUN_CONFIG``; by default the working folder's, else the project's, if there) and the environment.

    Raises :class:`ConfigurationError` naming the first wrong or unknown setting.
    """
    environ = os.environ if environ is None else environ
    faults.wanted_by(environ)
    known = [one.name for one in fields(Settings)]
    given = _from_file(environ.get(CONFIG_VARIABLE), known) | from_environment(
        environ, known, (CONFIG_VARIABLE, *faults.VARIABLES)
    )
    hints = get_type_hints(Settings)
    checked: dict[str, Any] = {}
    given["HOSTNAME"] = (
        made("HOSTNAME", given.get("HOSTNAME", ""), str, {}) or hostname.of_this_machine()[0]
    )  # before what names it in braces
    for one in fields(Settings):
        value = made(one.name, given[one.name], hints[one.name], one.metadata) if one.name in given else one.default
        checked[one.name] = _filled_in(one.name, value, checked, given) if isinstance(value, str) else value
        if one.name == "VAR":
            checked["VAR"] = paths.of_folder(checked["VAR"], PROJECT)
    checked["SMTP_CA_FILE"] = paths.of_file("SMTP_CA_FILE", checked["SMTP_CA_FILE"], PROJECT)
    checked["DATABASE_URL"] = paths.of_database(_with_driver(checked["DATABASE_URL"]), PROJECT)
    settings = Settings(**checked)
    _check_together(settings)
    return settings


def _with_driver(url: str) -> str:
    """Name the driver there is. Providers give out postgres:// and postgresql://, for which SQLAlchemy would look for another one."""
    return re.sub(r"^postgres(ql)?(\+psycopg2)?:", "postgresql+psycopg2:", url)


def unusable_machine_name(settings: Settings) -> str:
    """Return the machine's name for itself, quoted, if it could not be ours and HOSTNAME, which was not given, is another; else ""."""
    made, odd = hostname.of_this_machine()
    return odd if made == settings.HOSTNAME else ""


def _from_file(path: str | None, known: Collection[str]) -> dict[str, Any]:
    try:
        if path:
            return from_file(Path(path), known)
        here = Path("config.py")
        return from_file(here if here.exists() else PROJECT / here, known)
    except FileNotFoundError as error:
        if path:
            raise ConfigurationError(f"{CONFIG_VARIABLE}: there is no file {path}{paths.hint(path)}") from error
        return {}


def _filled_in(name: str, value: str, settings: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Put VAR and HOSTNAME where a value names them in braces; other braces (in a password, say) stay, and so do all in VAR and HOSTNAME."""
    if name in FILLED_IN:
        return value
    values = {"VAR": settings["VAR"], "HOSTNAME": given["HOSTNAME"]}
    if name.endswith("_URL"):
        values = {one: quote(text) for one, text in values.items()}  # whoever reads a URL unquotes it
    return _BRACES.sub(lambda found: values[found[1]], value)


def _check_together(settings: Settings) -> None:
    for name, schemes in (
        SCHEMES | {name: schemes for name, schemes in OPTIONAL_SCHEMES.items() if getattr(settings, name)}
    ).items():
        if fault := urls.fault_of(getattr(settings, name), schemes):
            raise ConfigurationError(f"{name}: {fault}")
    if fault := hostname.fault_of(settings.HOSTNAME):
        raise ConfigurationError(f"HOSTNAME: {settings.HOSTNAME!r} {fault}")
    for name in ("HOST", "CATCHER_HOST"):
        if not _is_host(getattr(settings, name)):
            told = "is no IP address and no host name; the port is a setting of its own"
            raise ConfigurationError(f"{name}: {shown(getattr(settings, name))} {told}")
    for entry in settings.ALLOWED_HOSTS:
        try:
            Pattern.read(entry)
        except ValueError as error:
            raise ConfigurationError(f"ALLOWED_HOSTS: {error}") from error
    try:
        public_url(settings.PUBLIC_URL or "http://localhost")
    except ValueError as error:
        raise ConfigurationError(f"PUBLIC_URL: {error}") from error
    try:
        Allowed.read(settings.ALLOW_PRIVATE_HOSTS)
    except ValueError as error:
        raise ConfigurationError(f"ALLOW_PRIVATE_HOSTS: {error}") from error
    if not settings.RETRY_DELAYS:
        raise ConfigurationError("RETRY_DELAYS: at least one delay is needed")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)  # which has a zone (RFC 4007 §11), too
    except ValueError:
        try:
            net.hostname(text)
        except NotPermitted:
            return False
    return True


def sample() -> str:
    """Return the text of ``config.py.sample``."""
    lines = [
        "# Settings of Mail BB Gun. Copy to config.py and change what you need; what is commented out shows the default.",
        "# {VAR} and {HOSTNAME} stand for the values of those two.",
        "# Each can also be given as an environment variable MAILBBGUN_<NAME>, which wins.",
        "# Made by: python -m mailbbgun.settings.settings > config.py.sample",
    ]
    for one in fields(Settings):
        default = asdict(one.default) if isinstance(one.default, SMTPTimeouts) else one.default
        lines += ["", f"# {one.metadata['doc']}", f"# {one.name} = {default!r}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(sample(), end="")
