"""The virtual environment of the Python peers, ``var/bench/peers``.

It is made when first needed, and again when the pinned versions change.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from bench import ROOT
from tests.servers.install import Missing, one_at_a_time

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER = ROOT / "var" / "bench" / "peers"


def python() -> Path:
    """Return its interpreter, with everything installed.

    Raises :class:`tests.servers.install.Missing`.
    """
    stamp, wanted = FOLDER / "installed", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    interpreter = FOLDER / "bin" / "python"
    with one_at_a_time():
        if not stamp.exists() or stamp.read_text() != wanted:
            FOLDER.parent.mkdir(parents=True, exist_ok=True)
            _run([sys.executable, "-m", "venv", "--clear", str(FOLDER)])
            _run(
                [str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
            )
            stamp.write_text(wanted)
    return interpreter


def versions() -> dict[str, str]:
    """Return the pinned packages: name → version."""
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Missing(
            f"the Python peers' environment could not be made: {argv[2]}: {done.stdout.strip().rpartition(chr(10))[2]}"
        )
