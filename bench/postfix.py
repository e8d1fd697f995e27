"""Finds Postfix's programs; as root on Debian installs it, without configuring or starting it."""

import os
import shutil
import subprocess

from tests.servers import install

PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin"
ANSWERS = "postfix postfix/main_mailer_type select No configuration\n"


def smtp_sink() -> str:
    """Return the path of ``smtp-sink``. Raises :class:`tests.servers.install.Missing`, saying what to type."""
    found = _find()
    if found is None:
        _install()
        found = _find()
    if found is None:
        raise install.Missing("Postfix is installed, but its smtp-sink is in none of the usual folders")
    return found


def version() -> str:
    """Return Postfix's version, or an empty string."""
    postconf = shutil.which("postconf", path=PLACES)
    if postconf is None:
        return ""
    return subprocess.run([postconf, "-d", "-h", "mail_version"], capture_output=True, text=True, check=False).stdout.strip()


def _find() -> str | None:
    return shutil.which("smtp-sink", path=PLACES)


def _install() -> None:
    if not shutil.which("apt-get"):
        raise install.Missing("smtp-sink is a part of Postfix, and there is no apt-get here to install it")
    if os.geteuid():
        raise install.Missing("smtp-sink is a part of Postfix: sudo apt-get install -y --no-install-recommends postfix")
    with install.one_at_a_time():
        if _find():
            return  # somebody else's run installed it while we waited
        with install.no_daemons():
            _run(["debconf-set-selections"], ANSWERS)
            _run(["apt-get", "update", "-q"])
            # No removals: another mail server of this machine would have to go.
            _run(["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-q", "-y", "--no-remove", "--no-install-recommends", "postfix"])


def _run(argv: list[str], given: str = "") -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(argv, env=environment, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise install.Missing(f"{' '.join(argv)} failed: {' '.join(done.stdout[-500:].split())}")
