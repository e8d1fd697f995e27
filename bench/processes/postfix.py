"""Finds Postfix's programs.

As root on Debian it installs Postfix, without configuring or starting it.
"""

import os
import shutil
import subprocess

from tests.servers import install

PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin"
ANSWERS = "postfix postfix/main_mailer_type select No configuration\n"


def program(name: str) -> str:
    """Return the path of ``smtp-sink``, ``smtp-source`` or ``postconf``.

    Raises :class:`tests.servers.install.Missing`, whose text says what to type.
    """
    found = _find(name)
    if found is None:
        _install(name)
        found = _find(name)
    if found is None:
        raise install.Missing(f"Postfix is installed, but its {name} is in none of the usual folders")
    return found


def default(parameter: str) -> str:
    """Return the default of a parameter of ``main.cf``.

    Raises :class:`tests.servers.install.Missing`.
    """
    return subprocess.run(
        [program("postconf"), "-d", "-h", parameter], capture_output=True, text=True, check=False
    ).stdout.strip()


def _find(name: str) -> str | None:
    return shutil.which(name, path=PLACES)


def _install(name: str) -> None:
    if not shutil.which("apt-get"):
        raise install.Missing(f"{name} is a part of Postfix, and there is no apt-get here to install it")
    if os.geteuid():
        raise install.Missing(f"{name} is a part of Postfix: sudo apt-get install -y --no-install-recommends postfix")
    with install.one_at_a_time():
        if _find(name):
            return  # another run installed it while this one waited
        with install.no_daemons():
            _run(["debconf-set-selections"], ANSWERS)
            _run(["apt-get", "update", "-q"])
            # Never remove packages: apt would replace another mail server of this machine.
            _run(
                [
                    "apt-get",
                    "-o",
                    "DPkg::Lock::Timeout=300",
                    "install",
                    "-q",
                    "-y",
                    "--no-remove",
                    "--no-install-recommends",
                    "postfix",
                ]
            )


def _run(argv: list[str], given: str = "") -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        argv, env=environment, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise install.Missing(f"{' '.join(argv)} failed: {' '.join(done.stdout[-500:].split())}")
