"""Finds the programs of servers and some tools. As root on Debian, installs missing ones.

All servers are installed by one apt-get call, a tool when it is asked for.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
PACKAGES = {
    "rabbitmq": "rabbitmq-server",
    "postgresql": "postgresql",
    "redis": "redis-server",
}  # of servers; a tool's has its name
CEPH = ("ceph-mon", "ceph-osd", "radosgw")  # the S3 store of tests; they come together
SMTP_CLIENTS = ("swaks", "Net/SSLeay.pm", "msmtp", "nodemailer")  # they come together
TOOLS = {  # tools whose package has another name
    "clamd": "clamav-daemon",
    "systemd-analyze": "systemd",
    "node": "nodejs",
    "promtool": "prometheus",
    "Mail/DKIM.pm": "libmail-dkim-perl",
    "dovecot": "dovecot-imapd",
    "MIME/Parser.pm": "libmime-tools-perl",
    "Net/SSLeay.pm": "libnet-ssleay-perl",
    "nodemailer": "node-nodemailer",
    "Email/MIME.pm": "libemail-mime-perl",
}
LOCK = Path(
    "/usr"
)  # where packages go: one for the machine, whatever TMPDIR says; a folder can be locked and nothing is left behind


class Missing(RuntimeError):
    """A program is missing and cannot be installed from here."""


def rabbitmq() -> Path:
    """Return the folder of rabbitmq-server and rabbitmqctl. Raises :class:`Missing`."""
    return _folder("rabbitmq")


def postgresql() -> Path:
    """Return the folder of postgres and initdb. Raises :class:`Missing`."""
    return _folder("postgresql")


def redis() -> Path:
    """Return the folder of redis-server. Raises :class:`Missing`."""
    return _folder("redis")


def ceph() -> Path:
    """Return the folder of ceph-mon, ceph-osd and radosgw. Raises :class:`Missing`."""
    found = [_found(program, *CEPH) for program in CEPH]
    return found[0].parent


def strace() -> Path:
    """Return the path of strace. Raises :class:`Missing`."""
    return _found("strace")


def pgbouncer() -> Path:
    """Return the path of pgbouncer. Raises :class:`Missing`."""
    return _found("pgbouncer")


def node() -> Path:
    """Return the path of node. Raises :class:`Missing`."""
    return _found("node")


def swaks() -> Path:
    """Return the path of swaks, an SMTP client, after its TLS library. Raises :class:`Missing`."""
    _found("Net/SSLeay.pm", *SMTP_CLIENTS)
    return _found("swaks", *SMTP_CLIENTS)


def msmtp() -> Path:
    """Return the path of msmtp, an SMTP client in place of sendmail. Raises :class:`Missing`."""
    return _found("msmtp", *SMTP_CLIENTS)


def nodemailer() -> Path:
    """Return the folder of nodemailer, an SMTP client for Node. Raises :class:`Missing`."""
    return _found("nodemailer", *SMTP_CLIENTS)


def clamd() -> Path:
    """Return the path of clamd. Raises :class:`Missing`."""
    return _found("clamd")


def rspamd() -> Path:
    """Return the path of rspamd. Raises :class:`Missing`."""
    return _found("rspamd")


def nginx() -> Path:
    """Return the path of nginx. Raises :class:`Missing`."""
    return _found("nginx")


def promtool() -> Path:
    """Return the path of promtool. Raises :class:`Missing`."""
    return _found("promtool")


def systemd_analyze() -> Path:
    """Return the path of systemd-analyze. Raises :class:`Missing`."""
    return _found("systemd-analyze")


def mail_dkim() -> Path:
    """Return the file of Perl's module Mail::DKIM. Raises :class:`Missing`."""
    return _found("Mail/DKIM.pm")


def faketime() -> Path:
    """Return libfaketime, which gives a process another clock by LD_PRELOAD.

    Raises :class:`Missing`.
    """
    return _found("faketime")


def dovecot() -> Path:
    """Return the path of dovecot. Raises :class:`Missing`."""
    return _found("dovecot")


def perl_module(name: str) -> Path:
    """Return the path of a Perl module, such as ``MIME/Parser.pm``. Raises :class:`Missing`."""
    return _found(name, "MIME/Parser.pm", "Email/MIME.pm")


def _folder(server: str) -> Path:
    return _found(server, *PACKAGES)


def _found(wanted: str, *together: str) -> Path:
    found = _find(wanted)
    if found is None:
        _install(together or (wanted,))
        found = _find(wanted)
    if found is None:
        raise Missing(f"{wanted}: installed, but its programs are in none of the usual folders")
    return found


def _find(wanted: str) -> Path | None:
    """Return a server's folder, or a tool's path."""
    if wanted == "faketime":
        return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    if wanted.endswith(".pm"):
        folders = [Path("/usr/share/perl5"), *Path("/usr/lib").glob("*/perl5/*")]
        return next((folder / wanted for folder in folders if (folder / wanted).exists()), None)
    if wanted == "nodemailer":
        return next((path for path in (Path("/usr/share/nodejs/nodemailer"),) if path.exists()), None)
    if wanted not in PACKAGES:
        tool = shutil.which(wanted, path=f"{os.environ['PATH']}:/usr/sbin")
        return Path(tool) if tool else None
    return _folder_of(wanted)


def _folder_of(server: str) -> Path | None:
    # Not /usr/sbin/rabbitmq-server: Debian's wrapper changes user and drops our environment.
    program, places = {
        "rabbitmq": ("rabbitmq-server", ["/usr/lib/rabbitmq/bin"]),
        "postgresql": (
            "postgres",
            sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), key=_version, reverse=True),
        ),
        "redis": ("redis-server", ["/usr/bin"]),
    }[server]
    for place in places:
        if os.access(f"{place}/{program}", os.X_OK):
            return Path(place)
    on_path = shutil.which(program)
    return Path(os.path.realpath(on_path)).parent if on_path and not on_path.startswith("/usr/sbin/") else None


def _version(folder: str) -> float:
    return float(Path(folder).parent.name)


def _install(names: Sequence[str]) -> None:
    with one_at_a_time():
        packages = [(PACKAGES | TOOLS).get(name, name) for name in names if not _find(name)]
        if not packages:
            return  # another run installed them while this one waited
        wanted = " and ".join(packages)
        if not shutil.which("apt-get"):
            given = "MAILBBGUN_TEST_AMQP_URL, MAILBBGUN_TEST_DATABASE_URL, MAILBBGUN_TEST_REDIS_URL"
            instead = f", or name servers in {given}" if set(names) <= set(PACKAGES) else ""
            instead = ", or name a store in MAILBBGUN_TEST_S3_URL" if set(names) <= set(CEPH) else instead
            raise Missing(f"{wanted} is needed and there is no apt-get here: install it{instead}")
        if os.geteuid():
            raise Missing(f"{wanted} is needed: sudo apt-get install -y --no-install-recommends {' '.join(packages)}")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        with no_daemons():
            for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
                argv = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *command]
                done = subprocess.run(
                    argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
                )
                if done.returncode:
                    raise Missing(f"{' '.join(argv)} failed:\n{done.stdout[-2000:]}")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    lock = os.open(LOCK, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def no_daemons() -> Iterator[None]:
    """Keep Debian's packages from starting their daemons when installed, by policy-rc.d."""
    before = (POLICY.read_bytes(), POLICY.stat().st_mode) if POLICY.exists() else None
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            POLICY.unlink()
        else:
            POLICY.write_bytes(before[0])
            POLICY.chmod(before[1])
