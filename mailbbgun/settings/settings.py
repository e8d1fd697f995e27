"""All settings of the service, with their types, defaults, bounds and descriptions.

:func:`mailbbgun.settings.load.load` reads them. ``config.py.sample`` and the manual are made from
the descriptions.
"""

from dataclasses import dataclass
from typing import Literal

from mailbbgun.settings.derived import Derived
from mailbbgun.settings.parts.mailboxes import MailboxSettings
from mailbbgun.settings.timeouts import SMTPTimeouts
from mailbbgun.settings.values import setting as _setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Derived, MailboxSettings):
    """Every setting of the service. Times are seconds, sizes are bytes."""

    VAR: str = _setting(
        "var",
        "Folder of all that the service keeps on this machine: database, journals, caught mail. A "
        "relative path starts at the project's folder; ~ is not expanded.",
    )
    DATABASE_URL: str = _setting(
        "sqlite:///{VAR}/mailbbgun.db",
        "The database: sqlite:///path (relative to the project's folder; absolute with four slashes) or "
        "postgresql+psycopg2://user:password@host/database. As in all URLs, special characters in a path, "
        "user or password are written as codes: % is %25, # is %23.",
    )
    QUEUE_URL: str = _setting(
        "embedded:",
        "The queue: embedded: (rows in the database) or amqp://user:password@host1,host2/vhost for RabbitMQ.",
    )
    BLOBS_URL: str = _setting(
        "file://{VAR}/blobs",
        "Where files are stored: file:///path is a folder; s3://key:secret@host/bucket is a bucket of S3, MinIO "
        "or Ceph by TLS, s3+http://key:secret@host:9000/bucket one without TLS. Options after a ?: region, style "
        "(path or host), ca (a PEM file of authorities), links (no: clients cannot reach the bucket, and the API "
        "passes files on). All machines need the same store.",
    )
    CDN_URL: str = _setting(
        "",
        "Public host in front of the bucket of BLOBS_URL, like https://files.example.com. Links to files begin with "
        "it; it must ask the bucket with the bucket's own Host header. Empty: links begin with the bucket's host.",
    )
    SMTP_URL: str = _setting(
        "catcher:",
        "Where mail leaves. catcher: is the built-in mail catcher. mx: sends straight to each recipient's "
        "MX. smtp://user:password@host:587?security=starttls|tls|none is a mail server; smtps:// means "
        "tls. If security is not given, it is tls on port 465, else starttls. If the port is not given, "
        "it is 587 for starttls, 465 for tls and 25 for none. In user name and password # / ? @ and % "
        "are written %23 %2F %3F %40 and %25.",
    )
    REDIS_URL: str = _setting(
        "",
        "A Redis server that counts requests, and mail of SMTP accounts with limits: "
        "redis://user:password@host:6379/0, or rediss:// with TLS. Empty: the database counts mail, and "
        "each API process counts its own requests.",
    )

    HOST: str = _setting("127.0.0.1", "Address the API listens on.")
    PORT: int = _setting(5000, "Port the API listens on.", least=1, most=65535)
    API_THREADS: int = _setting(
        16,
        "Requests that one API process serves at once, besides those whose message is being stored. From "
        "2 on the API can test SMTP accounts.",
        least=1,
        most=256,
    )
    API_PROCESSES: int = _setting(
        0,
        "Number of API processes. 0: one for each core, at most 4; with SQLite, which has one writer at a time, one.",
        least=0,
        most=64,
    )
    API_CONNECTIONS: int = _setting(
        8192,
        "Most connections of one API process. Beyond it the process closes the connection that has made "
        "no progress for longest. Each connection takes some kilobytes of memory and a file (ulimit -n, "
        "LimitNOFILE).",
        least=16,
        most=100_000,
    )
    API_CONNECTIONS_PER_ADDRESS: int = _setting(
        6144,
        "Most connections from one client address (of IPv6, one /64) to one API process. Not used with PROXIES.",
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
    API_SPOOL_SIZE: int = _setting(
        4_294_967_296,
        "Disk space of one API process for uploads that are being transferred, in {VAR}/spool. Beyond it "
        "uploads get 503.",
        least=1_000_000,
        most=1_000_000_000_000_000,
    )
    API_HEAD_SECONDS: int = _setting(
        20, "How long a client may take to send the head of a request. Then it gets 408.", least=1, most=600
    )
    API_STALL_SECONDS: int = _setting(
        20,
        "How long a client may take to send the next piece of a body, or to read the next piece of an "
        "answer. A piece has 4096 bytes for each of these seconds. Then the connection is closed; a "
        "client that was sending a body gets 408 before.",
        least=1,
        most=600,
    )
    API_TRANSFER_SECONDS: int = _setting(
        3600, "How long a client may take to send a whole body, or to read a whole answer.", least=1, most=86_400
    )
    AUTH_REQUIRED: bool = _setting(
        False,
        "Every request must show an API key. If False, requests without a key belong to the tenant "
        "default, and the API listens only on loopback addresses.",
    )
    ALLOW_UNAUTHENTICATED: bool = _setting(
        False,
        "Listen on any address although AUTH_REQUIRED is off. Only for an API behind something that asks "
        "for keys itself. ALLOWED_HOSTS or PUBLIC_URL must then have the API's host name.",
    )
    ALLOWED_HOSTS: tuple[str, ...] = _setting(
        (),
        "Host names of this service, as clients write them: mail.example.com, mail.example.com:8443 for "
        "that port alone, *.example.com for all names below. Without AUTH_REQUIRED the API answers only "
        "for these, for loopback names and for the host of PUBLIC_URL. URLs in answers have no other "
        "host.",
    )
    PUBLIC_URL: str = _setting(
        "",
        "Where clients reach this service, like https://mail.example.com. URLs in answers begin with it. "
        "Empty: they begin with the host of the request.",
    )
    PROXIES: int = _setting(
        0,
        "Number of your proxies in front of the API, one behind the other. Each one adds its client's "
        "address to X-Forwarded-For and passes on Host; the last one sets X-Forwarded-Proto. The API "
        "takes the client's address and https from these headers. 0: it ignores them.",
        least=0,
        most=10,
    )
    RATE_LIMIT_PER_MINUTE: int = _setting(
        0,
        "Requests a minute of an API key without a limit of its own, and of all requests without a key "
        "together. 0: no limit. Without REDIS_URL each API process allows its share of this and every "
        "other request limit: the limit divided by the number of processes, at least one.",
        least=0,
        most=1_000_000,
    )
    UNAUTHORIZED_PER_MINUTE: int = _setting(
        60,
        "Requests a minute with a wrong API key, or without one, from one address (of IPv6, one /64); "
        "further ones get 429. The limit is for all API processes of a machine together. 0: no limit.",
        least=0,
        most=1_000_000,
    )
    ENCRYPTION_KEYS: tuple[str, ...] = _setting(
        (),
        "Keys for passwords in the database, as bin/generate-keys makes them. The first key encrypts, all "
        "keys decrypt. Empty: the key in {VAR}/encryption.key, which initdb.py makes. All machines need "
        "the same keys.",
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
        "The machine's public name, for EHLO and Message-ID. Empty: the machine's own name, changed if it "
        "is not a valid host name.",
    )
    DEFAULT_FROM: str = _setting("Mail BB Gun <noreply@{HOSTNAME}>", "From of messages that name none.")

    MAX_SUBJECT_SIZE: int = _setting(256, "Longest subject, in characters.", least=1, most=10_000)
    MAX_TEXT_SIZE: int = _setting(
        1_048_576, "Longest text, and longest html, in bytes of UTF-8.", least=1, most=50_000_000
    )
    MAX_EMAIL_ADDRESS_SIZE: int = _setting(256, "Longest e-mail address, in characters.", least=6, most=1000)
    MAX_RECIPIENTS: int = _setting(100, "Most recipients of one message: to, cc and bcc together.", least=1, most=1000)
    CASE_SENSITIVE_LOCAL_PARTS: bool = _setting(
        False,
        "Whether Ann@example.com and ann@example.com in one message are two recipients. By default they "
        "are one mailbox: it gets one copy, at the first of the two addresses. The case of the domain "
        "never matters.",
    )
    MAX_BODY_SIZE: int = _setting(
        33_554_432,
        "Largest HTTP request body. In an upload of files, the most that all its fields may have.",
        least=1024,
        most=1_000_000_000,
    )
    MAX_SCHEDULE_DAYS: int = _setting(30, "How many days ahead a message may be scheduled.", least=1, most=366)
    MAX_BULK_EMAILS: int = _setting(1000, "Most messages of one batch.", least=1, most=10_000)
    MAX_BATCH_SIZE: int = _setting(
        8_388_608,
        "Largest body of a request to send a batch. While one is read, other requests of its API process may "
        "wait for up to a second for each 8 MiB.",
        least=1024,
        most=1_000_000_000,
    )
    RETENTION_DAYS: int = _setting(
        0,
        "How many days after it was accepted a message's body is kept: its MIME, texts and files. A message that is "
        "still pending keeps it longer. 0: for ever.",
        least=0,
        most=36_500,
    )
    METADATA_DAYS: int = _setting(
        0,
        "How many days after it was accepted all else is kept of a message that is not pending: who got it, what "
        "became of it. 0: for ever. EVENT_DAYS says how long its events are kept.",
        least=0,
        most=36_500,
    )
    IDEMPOTENCY_SECONDS: int = _setting(86_400, "How long an Idempotency-Key is remembered.", least=60, most=2_592_000)

    RETRY_DELAYS: tuple[int, ...] = _setting(
        (600, 600, 600, 1800, 3600, 7200, 14_400, 28_800),
        "Waits between attempts, each ±10 % at random. If the attempt after the last wait fails, the "
        "delivery ends as expired.",
        least=1,
        most=604_800,
    )
    ON_UNKNOWN: Literal["retry", "hold"] = _setting(
        "retry",
        "What to do when a server's reply to the end of DATA was lost: retry (at most twice; the "
        "recipient may get up to three copies) or hold (never send again; the delivery ends as ERROR, "
        "outcome_unknown).",
    )
    REFUSED_PAUSE_SECONDS: int = _setting(
        60,
        "How long workers pause a server that refuses our password or certificate, or whose own "
        "certificate is wrong. Then they try it with one message.",
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
        "How long workers pause a server after CIRCUIT_FAILURES, but at most half of the shortest of "
        "RETRY_DELAYS. Then one message tries it.",
        least=1,
        most=3600,
    )
    WORKER_PROCESSES: int = _setting(0, "Processes of one worker.py. 0: as for API_PROCESSES.", least=0, most=64)
    WORKER_CONNECTIONS: int = _setting(
        20, "Most SMTP connections of one worker.py at once, all its processes together.", least=1, most=2000
    )
    CONNECTIONS_PER_DOMAIN: int = _setting(
        5, "With mx:, most SMTP connections of one worker.py at once for one recipient domain.", least=1, most=999
    )
    MESSAGES_PER_CONNECTION: int = _setting(
        100, "Most messages sent over one SMTP connection. Then a new one is made.", least=1, most=100_000
    )
    IDLE_CONNECTION_SECONDS: int = _setting(30, "How long an unused SMTP connection is kept open.", least=1, most=300)
    LEASE_SECONDS: int = _setting(
        60, "How long a worker's claim on a delivery is valid unless the worker renews it.", least=4, most=3600
    )
    SWEEP_SECONDS: int = _setting(15, "How often each worker looks for stranded messages.", least=1, most=600)
    SHUTDOWN_GRACE: int = _setting(
        30, "How long a worker that was told to stop may finish the mail that it is sending.", least=0, most=3600
    )

    SMTP_TIMEOUTS: SMTPTimeouts = _setting(  # noqa: RUF009 - a dataclasses.field, as all of them
        SMTPTimeouts(),
        "Limit of each phase of an SMTP dialogue (RFC 5321 §4.5.3.2). A phase that is not named keeps its "
        "default. In the environment: connect=30,dot=300.",
        least=0.1,
        most=1800,
    )
    SMTP_CA_FILE: str = _setting(
        "", "PEM file of certificate authorities to trust for SMTP over TLS. Empty: the system's."
    )
    MX_PORT: int = _setting(25, "Port of recipients' mail servers when SMTP_URL is mx:.", least=1, most=65535)
    DNS_SERVERS: tuple[str, ...] = _setting(
        (), "DNS servers for MX look-ups and checks of sending domains: address or address:port. Empty: the system's."
    )
    DKIM_KEEP_DAYS: int = _setting(
        7,
        "Days for which a DKIM key that was replaced still signs messages from before; then it is removed. Keep "
        "its DNS record as long. At least as long as RETRY_DELAYS together.",
        least=1,
        most=365,
    )

    ALLOW_PRIVATE_HOSTS: tuple[str, ...] = _setting(
        (),
        "Private networks (10.0.0.0/8) and host names that may be used as mail servers, on any port: by "
        "SMTP accounts, and with mx: by recipients' domains; and as receivers of webhooks. *: all of them; then "
        "whoever may set up an account, a domain or a webhook can reach any server that this machine reaches.",
    )

    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting(
        "INFO", "Level of the least important log line to print."
    )
    LOG_FORMAT: Literal["text", "json"] = _setting("text", "Form of log lines: key=value pairs, or JSON.")
    SQLITE_SYNCHRONOUS: Literal["EXTRA", "FULL", "NORMAL", "OFF"] = _setting(
        "FULL", "SQLite's PRAGMA synchronous. Below FULL a power cut loses mail."
    )
    ALLOW_WEAK_DURABILITY: bool = _setting(
        False, "Start although a power cut may make the database lose accepted mail."
    )
